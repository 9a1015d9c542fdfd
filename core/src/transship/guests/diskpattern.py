"""What a synthetic guest writes to a disk: a pure function of a few traits and its counter.

Each tick writes the next blocks, as many as the rate asks for, in an order that is scattered over
the working set and comes back to each block. What a block holds tells which write it was; which
write was the last one to a block can be computed. Blocks that were never written are what they
were before.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK: Final = 4096
WHOLE_DISK: Final = (1 << 64) - 1
_READ_BLOCKS: Final = 256

_STAMP: Final = struct.Struct("<QQQQ")
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True)
class DiskTraits:
    """What is fixed for the writing to one disk.

    Args:
        seed: Of what is written.
        size_bytes: Of the disk.
        rate_bytes_per_s: How fast it is written.
        tick_ns: Time between two ticks.
        working_bytes: How much of the disk is written, from its beginning; whole blocks of that.
            All of it, if this is more than there is.
    """

    seed: int
    size_bytes: int
    rate_bytes_per_s: int
    tick_ns: int
    working_bytes: int = WHOLE_DISK

    @property
    def blocks(self) -> int:
        """How many blocks the working set has."""
        return min(self.working_bytes, self.size_bytes) // BLOCK

    def writes(self, counter: int) -> int:
        """How many blocks have been written when the counter has this value."""
        if not self.blocks:
            return 0
        return counter * self.rate_bytes_per_s * self.tick_ns // (BLOCK * 10**9)

    def written_by(self, counter: int) -> Iterator[tuple[int, bytes]]:
        """The blocks that the tick writes which makes the counter ``counter``, and what to them."""
        end = self.writes(counter)
        for number in range(max(self.writes(counter - 1), end - self.blocks), end):
            block = number * self._stride % self.blocks
            yield block, self._content(block, number)

    def content(self, block: int, counter: int) -> bytes | None:
        """What a block holds at this counter; None if it was never written."""
        writes = self.writes(counter)
        first = block * self._inverse % self.blocks
        if writes <= first:
            return None
        return self._content(block, first + (writes - 1 - first) // self.blocks * self.blocks)

    def written_blocks(self, counter: int) -> int:
        """How many blocks have been written at least once."""
        return min(self.writes(counter), self.blocks)

    def first_wrong_block(
        self, read_into: Callable[[int, memoryview], object], counter: int, *, ahead: int = 0
    ) -> int | None:
        """The first block that is not as it must be at this counter, or None.

        Args:
            read_into: Fills a buffer with what is at an offset of the disk.
            counter: Of the guest.
            ahead: How many ticks more may have written, wholly or in part: 1 for a guest that was
                killed after it had told its counter.
        """
        if not self.writes(counter):
            return None
        with memoryview(bytearray(_READ_BLOCKS * BLOCK)) as buffer:
            for start in range(0, self.blocks, _READ_BLOCKS):
                count = min(_READ_BLOCKS, self.blocks - start)
                with buffer[: count * BLOCK] as part:
                    read_into(start * BLOCK, part)
                    for place in range(count):
                        found = part[place * BLOCK : (place + 1) * BLOCK]
                        if not self._is_right(start + place, found, counter, ahead):
                            return start + place
        return None

    def _is_right(self, block: int, found: memoryview, counter: int, ahead: int) -> bool:
        expected = self.content(block, counter)
        if expected is None or found == expected:
            return True
        later = (self.content(block, counter + more) for more in range(1, ahead + 1))
        return bytes(found) in later

    def _content(self, block: int, number: int) -> bytes:
        check = ((self.seed ^ number) * 0x9E3779B97F4A7C15 + block) & _MASK
        return _STAMP.pack(number, block, check, self.seed) * (BLOCK // _STAMP.size)

    @cached_property
    def _stride(self) -> int:
        """From one write to the next: far, and such that all blocks have their turn."""
        stride = round(self.blocks * 0.6180339887) or 1
        while math.gcd(stride, self.blocks) != 1:
            stride += 1
        return stride

    @cached_property
    def _inverse(self) -> int:
        return pow(self._stride, -1, self.blocks)
