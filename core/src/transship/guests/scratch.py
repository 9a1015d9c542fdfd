"""ScratchGuest: takes the state of any machine into memory, to be looked at, and forgets it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from transship.abc.disk import BlockDevice, Disk
from transship.errors import LocalError, RemoteError
from transship.guests.recorded import RecordedGuest
from transship.memory.mappings import map_anonymous
from transship.memory.ramblock import RAMBlock
from transship.wire.limits import DISK_BYTES, DISKS

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from transship.buffers import Buffer


def physical_memory_bytes() -> int:
    """RAM of this computer."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class ScratchBlock(RAMBlock):
    """Memory that costs something only where something came, and that knows where that was.

    Whoever loads into a block reserves the pages that it writes, and asks for the holes among
    those that are to be zero; so every page that comes is noticed here.
    """

    def __init__(self, idstr: str, mapping: mmap.mmap, *, page_size: int) -> None:
        super().__init__(idstr, mapping, page_size=page_size)
        self._is_hole = bytearray(b"\x01" * self.pages)
        self._has_come = bytearray(self.pages)

    @classmethod
    def make(cls, idstr: str, length: int, page_size: int) -> ScratchBlock:
        """A block of ``length`` bytes, all zero.

        Raises:
            OSError: There are no such stretches of addresses left.
        """
        return cls(idstr, map_anonymous(length), page_size=page_size)

    @property
    def is_whole(self) -> bool:
        """Whether every page has come at least once."""
        return 0 not in self._has_come

    @property
    def can_adopt(self) -> bool:
        """Never: what is written is noticed."""
        return False

    def reserve(self, first: int, count: int) -> None:
        """Pages are about to be written."""
        self._is_hole[first : first + count] = bytes(count)
        self._has_come[first : first + count] = b"\x01" * count

    def find_holes(self, first: int, count: int) -> bytes:
        """Find the pages that nothing was ever written to, among some that are to be zero."""
        self._has_come[first : first + count] = b"\x01" * count
        return bytes(self._is_hole[first : first + count])


class ForgetfulDevice(BlockDevice):
    """Takes whatever is written, and knows afterwards how far it reached; reads as zeroes."""

    def __init__(self) -> None:
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Up to where it was written."""
        return self._size_bytes

    @property
    def max_size_bytes(self) -> int:
        """As large as any disk."""
        return DISK_BYTES

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill with zeroes."""
        target[:] = bytes(len(target))

    def write(self, offset: int, data: Buffer) -> None:
        """Forget the data."""
        self.write_zeroes(offset, len(data))

    def write_zeroes(self, offset: int, length: int) -> None:
        """Note how far it reaches."""
        self._size_bytes = max(self._size_bytes, offset + length)

    def flush(self) -> None:
        """Do nothing."""


class ScratchGuest(RecordedGuest[ScratchBlock]):
    """Holds whatever arrives, in memory, but for disks. Only pages that are not zero use some.

    Args:
        max_ram_bytes: How much RAM is accepted; as much as this computer has, if None.
    """

    def __init__(self, max_ram_bytes: int | None = None) -> None:
        super().__init__(physical_memory_bytes() if max_ram_bytes is None else max_ram_bytes)
        self._disks: list[Disk] = []

    def disks(self) -> Sequence[Disk]:
        """Those that have come."""
        return self._disks

    def attach_disk(self, name: str) -> Disk:
        """Give a disk that forgets what is written.

        Raises:
            RemoteError: There are too many.
        """
        for disk in self._disks:
            if disk.name == name:
                return disk
        if len(self._disks) == DISKS:
            raise RemoteError(
                "the source has too many disks", expected=f"at most {DISKS}", found="one more"
            )
        self._disks.append(Disk(name, ForgetfulDevice()))
        return self._disks[-1]

    def _make_block(self, idstr: str, length: int) -> ScratchBlock:
        try:
            return ScratchBlock.make(idstr, length, self.page_size)
        except (OSError, OverflowError, ValueError) as error:
            raise LocalError(
                f"there is no memory for RAM block {idstr!r}",
                expected=f"{length} bytes",
                found=str(error),
            ) from error

    async def discard(self) -> None:
        """Forget everything."""
        self.close()
        self.records = []
