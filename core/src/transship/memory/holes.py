"""Which pages of a file were never written: asked of its file system, and remembered."""

from __future__ import annotations

import errno
import os


class HoleMap:
    """The holes of a file in which guest memory lies.

    What is known to be data is never asked about again; a hole always is, since the guest may
    write to it at any time.

    Args:
        descriptor: The file; borrowed.
        page_size: Bytes of a page.
        pages: How many there are.
    """

    def __init__(self, descriptor: int, page_size: int, pages: int) -> None:
        self._descriptor = descriptor
        self._page_size = page_size
        self._is_data = bytearray(pages)

    def find(self, first: int, count: int) -> bytes:
        """Find the holes among some pages: one byte a page, 1 for a hole."""
        holes = bytearray(count)
        end = first + count
        page = self._is_data.find(0, first, end)
        while page >= 0:
            hole_end = min(self._next_data(page, end), end)
            holes[page - first : hole_end - first] = b"\x01" * (hole_end - page)
            page = self._is_data.find(0, hole_end, end)
        return bytes(holes)

    def add_data(self, first: int, count: int) -> None:
        """Pages have data from now on."""
        self._is_data[first : first + count] = b"\x01" * count

    def forget(self, first: int, count: int) -> None:
        """Pages may be holes again."""
        self._is_data[first : first + count] = bytes(count)

    def _next_data(self, page: int, end: int) -> int:
        """The first page with data at or after ``page``; noted, if it lies before ``end``.

        Where the file system knows of no holes everything is data.
        """
        size, last = self._page_size, len(self._is_data)
        try:
            at = os.lseek(self._descriptor, page * size, os.SEEK_DATA)
            first = at // size
            if first < end and not self._is_data[first]:
                data_end = os.lseek(self._descriptor, at, os.SEEK_HOLE)
                self.add_data(first, min(-(-data_end // size), last) - first)
            return first
        except OSError as error:
            if error.errno == errno.ENXIO:
                return last
            self.add_data(page, last - page)
            return page
