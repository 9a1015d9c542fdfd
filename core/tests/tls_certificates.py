"""Certificates for tests, in a folder and under the names that QEMU and Transship look for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trustme

if TYPE_CHECKING:
    from pathlib import Path

SERVER: Final = "localhost"
UNIT: Final = "Tests"
CLIENT: Final = "client.example.org"


def make_folder(
    folder: Path,
    *,
    ca: trustme.CA | None = None,
    server: str = SERVER,
    client: str | None = CLIENT,
    organization: str | None = None,
) -> str:
    """Fill a folder with an authority's certificate, a server's and a client's.

    Args:
        folder: Made if it is not there.
        ca: The authority; a new one, if None.
        server: Name of the server; its certificate is good for 127.0.0.1, too.
        client: Name of the client; None for no certificate of a client.
        organization: Of both.

    Returns:
        The folder, as ``tls-creds`` names it.
    """
    ca = ca or trustme.CA()
    folder.mkdir(parents=True, exist_ok=True)
    ca.cert_pem.write_to_path(folder / "ca-cert.pem")
    for side, names in (("server", [server, "127.0.0.1"]), ("client", [client])):
        if names[0] is None:
            continue
        made = ca.issue_cert(
            *names,
            common_name=names[0],
            organization_name=organization,
            organization_unit_name=UNIT,
        )
        made.cert_chain_pems[0].write_to_path(folder / f"{side}-cert.pem")
        made.private_key_pem.write_to_path(folder / f"{side}-key.pem")
    return f"{folder}/"
