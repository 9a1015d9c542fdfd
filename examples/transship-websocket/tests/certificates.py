"""An authority of the tests' own, and the certificate of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trustme

if TYPE_CHECKING:
    from pathlib import Path


class Certificates(NamedTuple):
    """Files.

    Args:
        authority: Who is to be trusted.
        host: Certificate and key of 127.0.0.1.
    """

    authority: str
    host: str


def make_certificates(folder: Path) -> Certificates:
    """Write them to a folder."""
    authority = trustme.CA()
    host = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    host.private_key_and_cert_chain_pem.write_to_path(folder / "host.pem")
    return Certificates(str(folder / "authority.pem"), str(folder / "host.pem"))
