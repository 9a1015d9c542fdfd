"""XBZRLE, the source's side: pages that the receiver has are recorded as what has changed of them.

The policy is that of sections 3.3 and 3.4 of the format. It holds because of one rule: whatever
the cache keeps of a page is what was last sent of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from transship.errors import LocalError
from transship.memory import kernels
from transship_ram._cache import PageCache
from transship_ram._records import (
    CHANGE_HEAD_BYTES,
    CHANGE_TAG,
    FULL_TAG,
    WORD_BYTES,
    ZERO_RECORD_BYTES,
    ZERO_TAG,
    count_within,
    full_record_bytes,
)
from transship_ram._zeros import find_holes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Settings
    from transship.memory.arrays import Marks, Numbers
    from transship.memory.ramblock import RAMBlock
    from transship_ram._buffers import RecordBuffers
    from transship_ram._cache import Found
    from transship_ram._counts import SentCounts


class ChangePacker:
    """Records pages as changes where that is possible, or else in full or as zero.

    Args:
        page_size: Bytes of a target page.
        blocks: In table order.
        buffers: Where the records go; made for records of changes.
        counts: Kept up to date.
        settings: Say how large the cache is to be, now and later.

    Raises:
        LocalError: There can never be so much memory.
    """

    def __init__(
        self,
        page_size: int,
        blocks: Sequence[RAMBlock],
        buffers: RecordBuffers,
        counts: SentCounts,
        settings: Settings,
    ) -> None:
        self._page_size = page_size
        self._buffers = buffers
        self._counts = counts
        self._settings = settings
        self._kernels = kernels.current()
        ends = np.cumsum([block.pages for block in blocks])
        self._addresses = {
            block: int(end) - block.pages for block, end in zip(blocks, ends, strict=True)
        }
        self._copies = np.empty((buffers.batch_pages, page_size), np.uint8)
        self._lengths: Numbers = np.zeros(buffers.batch_pages, np.int64)
        self._asked_bytes = settings.parameters.xbzrle_cache_bytes
        try:
            self._cache = PageCache(_cache_bytes(self._asked_bytes, page_size), page_size)
        except MemoryError as error:
            raise LocalError(
                "there is no room for the cache of XBZRLE",
                section="ram",
                expected=f"room for {self._asked_bytes} bytes",
            ) from error
        counts.cache_bytes = self._cache.size_bytes

    def pack(
        self, block: RAMBlock, pages: Numbers, budget_bytes: float, *, now: int, is_last: bool
    ) -> int:
        """Record pages of a block as they are now, until the budget is spent; one at least.

        A page that has not changed needs no record.

        Args:
            block: Where they are.
            pages: Their numbers, ascending, at least one and no more than the buffer has room for.
            budget_bytes: The record that reaches it is the last.
            now: Number of the last sync of the dirty log.
            is_last: Whether the guest stands still: the cache is of no use any more.

        Returns:
            How many pages have been dealt with.
        """
        self._follow_settings()
        zeros = self._copy(block, pages)
        found = self._cache.look_up(pages + self._addresses[block], now, may_change=not is_last)
        copies, lengths = self._copies[: len(pages)].reshape(-1).data, self._lengths[: len(pages)]
        self._kernels.pack_changes(
            copies,
            self._page_size,
            pages.data,
            zeros.data,
            self._cache.memory,
            np.where(found.holds, found.slots, -1).data,
            FULL_TAG,
            ZERO_TAG,
            CHANGE_TAG,
            self._buffers.room(block),
            lengths.data,
        )
        ends = np.cumsum(self._sizes(zeros, lengths))
        count = count_within(ends, budget_bytes)
        zeros, lengths, found = zeros[:count], lengths[:count], found.first(count)
        named_bytes = self._buffers.accept(block, int(ends[count - 1]))
        self._count(zeros, lengths, found, named_bytes)
        if not is_last:
            self._cache.put(found, now, zeros, lengths == 0, copies)
        return count

    def _follow_settings(self) -> None:
        """Begin an empty cache where another size is asked for; without room for it all stays."""
        asked_bytes = self._settings.parameters.xbzrle_cache_bytes
        if asked_bytes == self._asked_bytes:
            return
        self._asked_bytes = asked_bytes
        size_bytes = _cache_bytes(asked_bytes, self._page_size)
        if size_bytes != self._cache.size_bytes:
            with suppress(MemoryError):
                self._cache = PageCache(size_bytes, self._page_size)
            self._counts.cache_bytes = self._cache.size_bytes

    def _copy(self, block: RAMBlock, pages: Numbers) -> Marks:
        """Copy pages out of the guest's reach; returns which are zero, and may not be copied."""
        zeros = find_holes(block, pages)
        rows = np.flatnonzero(~zeros)
        if len(rows):
            copies = self._copies.reshape(-1).data
            self._kernels.scatter_pages(
                block.view,
                (pages[rows] * self._page_size).data,
                self._page_size,
                copies,
                rows.data,
            )
            # Most pages that are not zero do not begin with zeros either.
            rows = rows[self._copies.view(np.uint64)[rows, 0] == 0]
            found = self._kernels.find_zero_pages(copies, self._page_size, rows.data)
            zeros[rows] = np.frombuffer(found, np.bool_)
        return zeros

    def _sizes(self, zeros: Marks, lengths: Numbers) -> Numbers:
        """How long the record of each page is; of an unchanged one it is nothing."""
        sizes = np.full(len(lengths), full_record_bytes(self._page_size), np.int64)
        sizes[zeros] = ZERO_RECORD_BYTES
        is_compared = lengths >= 0
        changes = lengths[is_compared]
        sizes[is_compared] = np.where(changes, WORD_BYTES + CHANGE_HEAD_BYTES + changes, 0)
        return sizes

    def _count(self, zeros: Marks, lengths: Numbers, found: Found, named_bytes: int) -> None:
        counts = self._counts
        is_hit = found.holds & ~zeros
        is_change = lengths > 0
        duplicates, hits = int(np.count_nonzero(zeros)), int(np.count_nonzero(is_hit))
        overflows = int(np.count_nonzero(is_hit & (lengths < 0)))
        changes, encoded_bytes = int(np.count_nonzero(is_change)), int(lengths[is_change].sum())
        misses = len(zeros) - duplicates - hits
        counts.duplicate += duplicates
        counts.normal += misses + overflows
        counts.hits += hits
        counts.misses += misses
        counts.overflows += overflows
        counts.changes += changes
        counts.encoded_bytes += encoded_bytes
        counts.change_bytes += changes * CHANGE_HEAD_BYTES + encoded_bytes
        counts.change_bytes += overflows * self._page_size
        if named_bytes and is_change[np.argmax(lengths != 0)]:  # the first that has a record
            counts.change_bytes += named_bytes


def _cache_bytes(asked_bytes: int, page_size: int) -> int:
    """The largest power of two that is not more than was asked for; a page at least."""
    return max(1 << max(asked_bytes, 1).bit_length() - 1, page_size)
