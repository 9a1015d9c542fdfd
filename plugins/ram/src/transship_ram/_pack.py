"""Pages to records: buffers of page records, filled by the kernels a batch at a time."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Final

import numpy as np

from transship.memory import kernels
from transship.wire.constants import PageFlag
from transship.wire.limits import IDSTR_BYTES, MIB
from transship_ram._table import encode_name

if TYPE_CHECKING:
    from transship.memory.ramblock import RAMBlock
    from transship_ram._arrays import Marks, Numbers

_BATCH_BYTES: Final = 1 * MIB
"""Guest memory in one batch, and so in a buffer of full pages: larger ones leave the cache."""

FULL_TAG: Final = int(PageFlag.PAGE | PageFlag.CONTINUE)
ZERO_TAG: Final = int(PageFlag.ZERO | PageFlag.CONTINUE)

ZERO_RECORD_BYTES: Final = 9

_BUFFERS: Final = 3
_WORD_BYTES: Final = 8

_WORTHWHILE_PART: Final = 8
"""A buffer with less room than this part of a batch is handed out instead of filled up."""


class Packer:
    """Writes page records into three buffers in turn.

    The block of the last record is remembered from buffer to buffer and from record to record
    of the section, as the receiver does; only where it changes is a block named.

    Args:
        page_size: Bytes of a target page.

    Attributes:
        duplicate_pages: Zero pages recorded so far.
        normal_pages: Pages recorded in full so far.
    """

    def __init__(self, page_size: int) -> None:
        self.duplicate_pages = 0
        self.normal_pages = 0
        self._page_size = page_size
        self._record_bytes = _WORD_BYTES + page_size
        self._batch_pages = _BATCH_BYTES // page_size
        self._kernels = kernels.current()
        self._last_block: RAMBlock | None = None
        capacity = self._batch_pages * self._record_bytes + 1 + IDSTR_BYTES
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
        return pages if pages >= self._batch_pages // _WORTHWHILE_PART else 0

    def flush(self) -> memoryview:
        """Hand out what was packed; it stays as it is until two more were handed out."""
        packed = self._buffer[: self._used]
        self._buffer = next(self._buffers)
        self._used = 0
        return packed

    def pack(self, block: RAMBlock, pages: Numbers, budget_bytes: float) -> int:
        """Record pages of a block as they are now, until the budget is spent; one at least.

        Args:
            block: Where they are.
            pages: Their numbers, ascending, at least one and at most :attr:`room_pages`.
            budget_bytes: The record that reaches it is the last.

        Returns:
            How many pages were recorded.
        """
        zeros = self._find_zeros(block, pages)
        ends = np.cumsum(np.where(zeros, ZERO_RECORD_BYTES, self._record_bytes))
        if ends[-1] > budget_bytes:
            count = int(np.searchsorted(ends, budget_bytes)) + 1
            pages, zeros = pages[:count], zeros[:count]
        duplicates = int(np.count_nonzero(zeros))
        self.duplicate_pages += duplicates
        self.normal_pages += len(pages) - duplicates
        if block is self._last_block:
            self._used += self._pack_records(block, pages, zeros, self._used)
        else:
            self._pack_named(block, pages[:1], zeros[:1])
            self._used += self._pack_records(block, pages[1:], zeros[1:], self._used)
            self._last_block = block
        return len(pages)

    def _find_zeros(self, block: RAMBlock, pages: Numbers) -> Marks:
        """Which pages are zero; of a hole that is known without reading it."""
        first, end = int(pages[0]), int(pages[-1]) + 1
        zeros = np.frombuffer(block.find_holes(first, end - first), np.bool_)[pages - first]
        present = pages[~zeros] if zeros.any() else pages
        if len(present):
            found = self._kernels.find_zero_pages(block.view, self._page_size, present.data)
            zeros[~zeros] = np.frombuffer(found, np.bool_)
        return zeros

    def _pack_named(self, block: RAMBlock, page: Numbers, zero: Marks) -> None:
        """Record one page, with the name of its block between word and content."""
        name = encode_name(block.idstr)
        start, shifted = self._used, self._used + len(name)
        size = self._pack_records(block, page, zero, shifted, continues=0)
        self._buffer[start : start + _WORD_BYTES] = bytes(
            self._buffer[shifted : shifted + _WORD_BYTES]
        )
        self._buffer[start + _WORD_BYTES : shifted + _WORD_BYTES] = name
        self._used = shifted + size

    def _pack_records(
        self,
        block: RAMBlock,
        pages: Numbers,
        zeros: Marks,
        start: int,
        continues: int = PageFlag.CONTINUE,
    ) -> int:
        return self._kernels.pack_records(
            block.view,
            self._page_size,
            pages.data,
            zeros.data,
            PageFlag.PAGE | continues,
            PageFlag.ZERO | continues,
            self._buffer[start:],
        )
