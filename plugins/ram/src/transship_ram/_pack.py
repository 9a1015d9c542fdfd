"""Pages to records: full ones and zero ones, packed by the kernels a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transship.memory import kernels
from transship_ram._records import (
    FULL_TAG,
    ZERO_RECORD_BYTES,
    ZERO_TAG,
    count_within,
    full_record_bytes,
)
from transship_ram._zeros import find_zeros

if TYPE_CHECKING:
    from transship.memory.ramblock import RAMBlock
    from transship_ram._arrays import Numbers
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
            pages: Their numbers, ascending, at least one and no more than the buffer has room for.
            budget_bytes: The record that reaches it is the last.

        Returns:
            How many pages were recorded.
        """
        zeros = find_zeros(self._kernels, block, pages)
        ends = np.cumsum(np.where(zeros, ZERO_RECORD_BYTES, self._record_bytes))
        count = count_within(ends, budget_bytes)
        pages, zeros = pages[:count], zeros[:count]
        duplicates = int(np.count_nonzero(zeros))
        self._counts.duplicate += duplicates
        self._counts.normal += count - duplicates
        size = self._kernels.pack_records(
            block.view,
            self._page_size,
            pages.data,
            zeros.data,
            FULL_TAG,
            ZERO_TAG,
            self._buffers.room(block),
        )
        self._buffers.accept(block, size)
        return count

    def pack_zeros(self, block: RAMBlock, pages: Numbers) -> None:
        """Record pages of a block as zero, ascending, no more than the buffer has room for."""
        self._counts.duplicate += len(pages)
        size = self._kernels.pack_records(
            block.view,
            self._page_size,
            pages.data,
            np.ones(len(pages), np.bool_).data,
            FULL_TAG,
            ZERO_TAG,
            self._buffers.room(block),
        )
        self._buffers.accept(block, size)
