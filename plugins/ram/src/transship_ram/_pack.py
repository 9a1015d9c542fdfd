"""Pages to records: full ones and zero ones, packed by the kernels a batch at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from transship.memory import kernels
from transship_ram._records import FULL_TAG, ZERO_RECORD_BYTES, ZERO_TAG, full_record_bytes
from transship_ram._zeros import find_holes

if TYPE_CHECKING:
    from transship.memory.arrays import Marks, Numbers
    from transship.memory.ramblock import RAMBlock
    from transship_ram._buffers import RecordBuffers
    from transship_ram._counts import SentCounts


class Packer:
    """Records pages in full or as zero.

    Args:
        page_size: Bytes of a target page.
        buffers: Where the records go.
        counts: Kept up to date.
    """

    def __init__(self, page_size: int, buffers: RecordBuffers, counts: SentCounts) -> None:
        self._page_size = page_size
        self._record_bytes = full_record_bytes(page_size)
        self._buffers = buffers
        self._counts = counts
        self._kernels = kernels.current()

    def pack(self, block: RAMBlock, pages: Numbers, budget_bytes: float) -> int:
        """Record pages of a block as they are now, until the budget is spent; one at least.

        Args:
            block: Where they are.
            pages: Their numbers, ascending, at least one.
            budget_bytes: The record that reaches it is the last, if the buffer is not full before.

        Returns:
            How many pages were recorded.
        """
        return self._record(block, pages, find_holes(block, pages), budget_bytes)

    def pack_zeros(self, block: RAMBlock, pages: Numbers) -> None:
        """Record pages of a block as zero, ascending, no more than the buffer has room for."""
        self._record(block, pages, np.ones(len(pages), np.bool_), math.inf)

    def _record(self, block: RAMBlock, pages: Numbers, zeros: Marks, budget_bytes: float) -> int:
        room = self._buffers.room(block)
        fits_bytes = len(room) - self._record_bytes + 1
        with block.view as view:
            count = self._kernels.pack_pages(
                view,
                self._page_size,
                pages.data,
                zeros.data,
                FULL_TAG,
                ZERO_TAG,
                int(min(budget_bytes, fits_bytes)),
                room,
            )
        duplicates = int(np.count_nonzero(zeros[:count]))
        normal = count - duplicates
        self._counts.duplicate += duplicates
        self._counts.normal += normal
        self._buffers.accept(block, duplicates * ZERO_RECORD_BYTES + normal * self._record_bytes)
        return count
