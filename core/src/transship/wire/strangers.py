"""What else comes where a migration stream was expected, told by its first bytes."""

from __future__ import annotations

from typing import Final, NamedTuple


class Stranger(NamedTuple):
    """Another protocol.

    Args:
        name: What people call it.
        remedy: What to do at which side.
    """

    name: str
    remedy: str


_TLS: Final = Stranger("TLS", "set tls-creds at both sides, or at none")
_RDMA: Final = Stranger(
    "the greeting of rdma:", "let the addresses at both sides begin with rdma:, or neither"
)
_BEGINNINGS: Final = ((b"\x16\x03", _TLS), (b"\x15\x03", _TLS), (b"TSRD", _RDMA))


def stranger(first: bytes) -> Stranger | None:
    """Whose first four bytes these are; None for nobody we know."""
    return next((one for beginning, one in _BEGINNINGS if first.startswith(beginning)), None)
