"""Certificates of one authority, in a folder and under the names that QEMU looks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from transship.tls import AccessList, Endpoint, X509Credentials, X509Security

if TYPE_CHECKING:
    from pathlib import Path

trustme = pytest.importorskip("trustme")

SERVER: Final = "localhost"
CLIENT: Final = "client.example.org"


def make_folder(folder: Path, *, client: str | None = CLIENT) -> Path:
    """Fill a folder with what a server and a client need.

    Args:
        folder: Made if it is not there.
        client: Name of the client; None for no certificate of a client.
    """
    authority = trustme.CA()
    folder.mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(folder / "ca-cert.pem")
    for side, name in (("server", SERVER), ("client", client)):
        if name is not None:
            made = authority.issue_cert(name, common_name=name)
            made.cert_chain_pems[0].write_to_path(folder / f"{side}-cert.pem")
            made.private_key_pem.write_to_path(folder / f"{side}-key.pem")
    return folder


def of_server(folder: Path, access: AccessList | None = None, **others: Any) -> X509Security:
    """What secures the connections of a server's clients."""
    return X509Security(X509Credentials(folder, Endpoint.SERVER, **others), access=access)


def of_client(folder: Path, hostname: str | None = SERVER, **others: Any) -> X509Security:
    """What secures the connection of a client."""
    return X509Security(X509Credentials(folder, Endpoint.CLIENT, **others), hostname=hostname)
