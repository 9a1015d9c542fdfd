"""The sender's walk over its dirty pages: where it is, and which pages come next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.memory.arrays import Numbers
    from transship.memory.bitmap import DirtyBitmap

_LOOK_AHEAD_PAGES: Final = 4096
"""Among so many pages a batch is picked: scattered dirty pages still come many at a time."""


class Batch(NamedTuple):
    """Dirty pages of one block, in ascending order; clean in the bitmap by now.

    Args:
        block: Index of the block in the table.
        pages: Their numbers, at least one.
    """

    block: int
    pages: Numbers


class Scan:
    """Goes through the blocks in table order, through each by ascending pages, and around again.

    The position stays where it is when more pages become dirty.

    Args:
        bitmaps: Of the blocks, in table order.

    Attributes:
        dirty_pages: How many pages are dirty, as of the last :meth:`recount`.
        laps: How often it has come around to the first block again.
    """

    def __init__(self, bitmaps: Sequence[DirtyBitmap]) -> None:
        self._bitmaps = bitmaps
        self._block = 0
        self._page = 0
        self.dirty_pages = 0
        self.laps = 0
        self.recount()

    def recount(self) -> None:
        """Count the dirty pages anew, after others have marked some."""
        self.dirty_pages = sum(bitmap.count() for bitmap in self._bitmaps)

    def next_batch(self, max_pages: int) -> Batch | None:
        """Take the next dirty pages, at most ``max_pages``, and make them clean.

        They are clean before the caller reads them, so a write that comes meanwhile is not lost
        when it is marked later. None when no page is dirty, or none is asked for.
        """
        while self.dirty_pages and max_pages:
            pages = self._take_pages(self._bitmaps[self._block], max_pages)
            if pages is not None:
                self._page = int(pages[-1]) + 1
                self.dirty_pages -= len(pages)
                return Batch(self._block, pages)
            self._page = 0
            self._block += 1
            if self._block == len(self._bitmaps):
                self._block = 0
                self.laps += 1
        return None

    def give_back(self, batch: Batch, used: int) -> None:
        """Make the pages of the last batch dirty again, but the first ``used``: they come next."""
        unused = batch.pages[used:]
        np.frombuffer(self._bitmaps[batch.block].marks, np.uint8)[unused] = 1
        self._page = int(unused[0])
        self.dirty_pages += len(unused)

    def _take_pages(self, bitmap: DirtyBitmap, max_pages: int) -> Numbers | None:
        run = bitmap.next_run(self._page, max_pages)
        if run is None:
            return None
        if run.count == max_pages:
            bitmap.clear(run.first, run.count)
            return np.arange(run.first, run.end, dtype=np.int64)
        marks = np.frombuffer(bitmap.marks, np.uint8)[run.first : run.first + _LOOK_AHEAD_PAGES]
        found = np.flatnonzero(marks)[:max_pages]
        marks[found] = 0
        return found + run.first
