"""The buffers in which page records go out, and the names of blocks in them."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Final

from transship.wire.constants import PageFlag
from transship.wire.limits import IDSTR_BYTES, MIB
from transship_ram._records import WORD_BYTES
from transship_ram._table import encode_name

if TYPE_CHECKING:
    from transship.memory.ramblock import RAMBlock

_BATCH_BYTES: Final = 1 * MIB
"""Guest memory in one batch, and so in a buffer of full pages: larger ones leave the cache."""

_BUFFERS: Final = 3

_WORTHWHILE_PART: Final = 8
"""A buffer with less room than this part of a batch is handed out instead of filled up."""


class RecordBuffers:
    """Three buffers in turn, filled with page records that all continue the block before.

    The block of the last record is remembered from buffer to buffer and from record to record
    of the section, as the receiver does; only where it changes is a block named.

    Args:
        page_size: Bytes of a target page.
        record_bytes: Of the longest record of a page, its block's name not counted.

    Attributes:
        batch_pages: The most pages that go into a buffer at once.
    """

    def __init__(self, page_size: int, record_bytes: int) -> None:
        self.batch_pages = _BATCH_BYTES // page_size
        self._record_bytes = record_bytes
        self._last_block: RAMBlock | None = None
        capacity = self.batch_pages * record_bytes + 1 + IDSTR_BYTES
        self._buffers = cycle([memoryview(bytearray(capacity)) for _ in range(_BUFFERS)])
        self._buffer = next(self._buffers)
        self._used = 0

    @property
    def used_bytes(self) -> int:
        """Bytes in the buffer that is being filled."""
        return self._used

    @property
    def room_pages(self) -> int:
        """How many more pages fit the buffer, whatever they hold; 0 if it is not worth it."""
        room = len(self._buffer) - self._used - 1 - IDSTR_BYTES
        pages = max(room // self._record_bytes, 0)
        return pages if pages >= self.batch_pages // _WORTHWHILE_PART else 0

    def flush(self) -> memoryview:
        """Hand out what was packed; it stays as it is until two more were handed out."""
        packed = self._buffer[: self._used]
        self._buffer = next(self._buffers)
        self._used = 0
        return packed

    def room(self, block: RAMBlock) -> memoryview:
        """Where records of a block are to be written, for :meth:`accept` to take."""
        return self._buffer[self._used + len(self._new_name(block)) :]

    def accept(self, block: RAMBlock, size: int) -> int:
        """Take the first ``size`` bytes written to the block's :meth:`room`, whole records.

        Returns:
            How many bytes longer the first of them has become by the name of its block.
        """
        name = self._new_name(block) if size else b""
        if name:
            start, shifted = self._used, self._used + len(name)
            word = int.from_bytes(self._buffer[shifted : shifted + WORD_BYTES], "big")
            named = (word & ~int(PageFlag.CONTINUE)).to_bytes(WORD_BYTES, "big") + name
            self._buffer[start : start + len(named)] = named
            self._last_block = block
        self._used += len(name) + size
        return len(name)

    def _new_name(self, block: RAMBlock) -> bytes:
        return b"" if block is self._last_block else encode_name(block.idstr)
