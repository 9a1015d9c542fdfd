"""What the receiver holds of some pages: a direct-mapped cache of pages as they were sent.

Pages are known by their *address*: their number, counted over all blocks in table order. The
rules are those of section 3.4 of the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from transship.memory import kernels

if TYPE_CHECKING:
    from transship.memory.arrays import Marks, Numbers

_KEPT_SYNCS: Final = 2
"""How many syncs of the dirty log old a page must be before another one may have its place."""


class Found(NamedTuple):
    """What the cache knows of some pages.

    Args:
        addresses: Of the pages, ascending.
        slots: Where each of them would be.
        holds: Which are there.
        takes: Which are not, but may come there.
    """

    addresses: Numbers
    slots: Numbers
    holds: Marks
    takes: Marks

    def first(self, count: int) -> Found:
        """The same of the first pages alone."""
        part = slice(count)
        return Found(self.addresses[part], self.slots[part], self.holds[part], self.takes[part])


class PageCache:
    """Keeps pages by address. Takes memory as pages come in, up to its size.

    Args:
        size_bytes: Of the pages; a power of two, not less than a page.
        page_size: Bytes of a page.

    Raises:
        MemoryError: There can never be so much.
    """

    def __init__(self, size_bytes: int, page_size: int) -> None:
        self.size_bytes = size_bytes
        self._page_size = page_size
        entries = size_bytes // page_size
        # An owner is an address plus one: nobody's are zero, and zeros cost no memory.
        self._owners: Numbers = np.zeros(entries, np.int64)
        self._ages: Numbers = np.zeros(entries, np.int64)
        self._pages = np.empty((entries, page_size), np.uint8)
        self._kernels = kernels.current()

    @property
    def memory(self) -> memoryview:
        """The pages, slot by slot; to be read alone."""
        return self._pages.reshape(-1).data

    def look_up(self, addresses: Numbers, now: int, *, may_change: bool) -> Found:
        """Find some pages. What is said of one supposes that those before it are :meth:`put`.

        Args:
            addresses: Of the pages, ascending.
            now: Number of the last sync of the dirty log.
            may_change: Whether they will be put at all.
        """
        slots = addresses & (len(self._owners) - 1)
        owners = self._owners[slots]
        holds = owners == addresses + 1
        if not may_change:
            return Found(addresses, slots, holds, np.zeros_like(holds))
        is_free = (owners == 0) | (self._ages[slots] + _KEPT_SYNCS <= now)
        if addresses[-1] - addresses[0] >= len(self._owners):
            # Pages share slots: a free one is decided by the first, and not free for the others.
            is_first = np.zeros_like(holds)
            is_first[np.unique(slots, return_index=True)[1]] = True
            holds &= is_first | ~is_free
            is_free &= is_first
        return Found(addresses, slots, holds, is_free & ~holds)

    def put(self, found: Found, now: int, zeros: Marks, same: Marks, contents: memoryview) -> None:
        """Keep the pages that are held or taken, as they have been sent.

        Args:
            found: What :meth:`look_up` said of them.
            now: As it was told.
            zeros: Which were sent as zero.
            same: Which are held as they are.
            contents: All of them, one after another; of the zero ones anything.
        """
        kept = found.holds | found.takes
        self._owners[found.slots[kept]] = found.addresses[kept] + 1
        self._ages[found.slots[kept]] = now
        self._pages[found.slots[kept & zeros]] = 0
        rows = np.flatnonzero(kept & ~zeros & ~same)
        if len(rows):
            self._kernels.scatter_pages(
                contents,
                (rows * self._page_size).data,
                self._page_size,
                self.memory,
                found.slots[rows].data,
            )
