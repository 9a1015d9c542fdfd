"""Certificates for a race over TLS: one authority, both sides on this host."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

HOST: Final = "localhost"
"""Whom all certificates are for."""


def make(folder: Path) -> None:
    """Fill a folder, under the names that QEMU and Transship look for."""
    import trustme  # 20 MiB, which the processes that are measured do without

    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca-cert.pem"))
    for side in ("server", "client"):
        made = authority.issue_cert(HOST, "127.0.0.1", common_name=HOST)
        made.cert_chain_pems[0].write_to_path(str(folder / f"{side}-cert.pem"))
        made.private_key_pem.write_to_path(str(folder / f"{side}-key.pem"))


def context(folder: Path, *, is_server: bool) -> ssl.SSLContext:
    """What a bare connection is secured with: both sides show a certificate."""
    side = "server" if is_server else "client"
    purpose = ssl.Purpose.CLIENT_AUTH if is_server else ssl.Purpose.SERVER_AUTH
    made = ssl.create_default_context(purpose, cafile=str(folder / "ca-cert.pem"))
    made.load_cert_chain(folder / f"{side}-cert.pem", folder / f"{side}-key.pem")
    made.verify_mode = ssl.CERT_REQUIRED
    return made
