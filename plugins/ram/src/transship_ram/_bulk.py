"""Many records at once: the plain ones at the start of a window, as a few array operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from transship.memory import kernels
from transship.memory.arrays import last_of_each
from transship.wire.limits import MIB
from transship_ram._records import FULL_TAG, ZERO_RECORD_BYTES, ZERO_TAG, full_record_bytes

if TYPE_CHECKING:
    from transship.memory.arrays import Marks, Numbers
    from transship_ram._target import LoadedBlock

_MOST_BYTES: Final = 16 * MIB
"""Guest memory done at once: some 5 ms, should all of it be zero pages (200 ms for a whole window,
which holds 0.9 GiB of them)."""

_FEWEST_RECORDS: Final = 3
"""Fewer are taken faster one by one."""


class BulkLoader:
    """Takes full and zero pages that continue the block of the record before.

    Args:
        page_size: Bytes of a target page.
    """

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._record_bytes = full_record_bytes(page_size)
        self._kernels = kernels.current()
        most_records = _MOST_BYTES // page_size
        self._pages: Numbers = np.zeros(most_records, np.int64)
        self._zeros: Marks = np.zeros(most_records, np.bool_)

    def load(self, window: memoryview, block: LoadedBlock) -> int:
        """Apply the records at the start of ``window`` to ``block``.

        Stops before anything else than such a record, and before a faulty one: those are for
        the parser of single records, which says what is wrong with them.

        Returns:
            How many bytes were taken, 0 if no or few records are there.

        Raises:
            LocalError: There is no room for the pages.
        """
        if block.is_plain:
            return self._load_plain(window, block)
        count = self._kernels.find_records(
            window,
            self._page_size,
            block.page_count,
            FULL_TAG,
            ZERO_TAG,
            self._pages.data,
            self._zeros.data.cast("B"),
        )
        if count < _FEWEST_RECORDS:
            return 0
        pages, zeros = self._pages[:count], self._zeros[:count]
        ends = np.cumsum(np.where(zeros, ZERO_RECORD_BYTES, self._record_bytes))
        cleared = int(np.count_nonzero(zeros))
        block.counts.duplicate += cleared
        block.counts.normal += count - cleared

        stays = last_of_each(pages)
        if cleared:
            block.clear(pages[zeros & stays])
        if cleared < count:
            filled = ~zeros & stays
            block.scatter(window, ends[filled] - self._page_size, pages[filled])
        return int(ends[-1])

    def _load_plain(self, window: memoryview, block: LoadedBlock) -> int:
        """The same for a block whose pages may be written at once."""
        if len(window) < _FEWEST_RECORDS * self._record_bytes:
            return 0
        taken, normal, cleared = block.load_records(window, FULL_TAG, ZERO_TAG)
        block.counts.normal += normal
        block.counts.duplicate += cleared
        return taken
