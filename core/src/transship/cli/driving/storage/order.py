"""What is asked for when the disks of a machine are to move with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transship.control.address import QmpAddress


@dataclass(frozen=True, slots=True)
class StorageOrder:
    """A copy of disks that is asked for.

    Args:
        destination: QMP server of the machine that waits for the guest.
        address: Where that machine is to serve its disks, and the source to find them. The same
            two kinds of address as a QMP server's.
        disks: Names of those to copy; empty for all that the guest can write.
        is_incremental: Whether only what lies above the backing file is copied.
        is_write_blocking: Whether the guest's writes wait for the copy from the beginning.
        bandwidth_bytes_per_s: Cap of the copy's rate, all disks together; None or 0 for
            none.
    """

    destination: QmpAddress
    address: QmpAddress
    disks: tuple[str, ...] = ()
    is_incremental: bool = False
    is_write_blocking: bool = False
    bandwidth_bytes_per_s: int | None = None
