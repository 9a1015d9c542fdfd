"""ScratchGuest: takes the state of any machine into memory, to be looked at, and forgets it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from transship.errors import LocalError
from transship.guests.recorded import RecordedGuest
from transship.memory.mappings import map_anonymous
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    import mmap


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


class ScratchGuest(RecordedGuest[ScratchBlock]):
    """Holds whatever arrives, in memory. Only pages that are not zero use some.

    Args:
        max_ram_bytes: How much RAM is accepted; as much as this computer has, if None.
    """

    def __init__(self, max_ram_bytes: int | None = None) -> None:
        super().__init__(physical_memory_bytes() if max_ram_bytes is None else max_ram_bytes)

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
