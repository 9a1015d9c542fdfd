"""Which pages are dirty: mark, test, take runs.

In memory a page has a byte of its own, 1 for dirty: then marking, counting and finding runs are
single operations of ``bytearray`` that run at memory speed, and 16 GiB of guest cost 4 MiB. On
the wire and in files a bitmap has one bit a page, least significant first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.memory.runs import PageRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.buffers import Buffer


class DirtyBitmap:
    """Dirty pages of one block; all clean at first.

    Single operations are atomic towards other threads; a sequence of them is not.
    """

    __slots__ = ("_pages",)

    def __init__(self, pages: int) -> None:
        self._pages = bytearray(pages)

    def __len__(self) -> int:
        return len(self._pages)

    @property
    def marks(self) -> bytearray:
        """One byte a page, 0 or 1; for kernels that work on whole arrays. Never to be resized."""
        return self._pages

    def count(self) -> int:
        """How many pages are dirty."""
        return self._pages.count(1)

    @property
    def is_clean(self) -> bool:
        """Whether no page is dirty; costs next to nothing."""
        return self._pages.find(1) < 0

    def is_dirty(self, page: int) -> bool:
        """Whether a page is dirty."""
        return bool(self._pages[page])

    def mark(self, first: int, count: int = 1) -> None:
        """Make pages dirty."""
        self._check(first, count)
        self._pages[first : first + count] = b"\x01" * count

    def mark_all(self) -> None:
        """Make every page dirty."""
        self.mark(0, len(self._pages))

    def clear(self, first: int, count: int = 1) -> None:
        """Make pages clean."""
        self._check(first, count)
        self._pages[first : first + count] = bytes(count)

    def next_run(self, start: int, max_count: int) -> PageRun | None:
        """The first run of dirty pages at or after ``start``, cut to ``max_count`` pages."""
        first = self._pages.find(1, start)
        if first < 0:
            return None
        limit = min(len(self._pages), first + max_count)
        end = self._pages.find(0, first, limit)
        return PageRun(first, (limit if end < 0 else end) - first)

    def runs(self, max_count: int | None = None) -> Iterator[PageRun]:
        """All runs of dirty pages, in order, none longer than ``max_count``."""
        start = 0
        most = len(self._pages) if max_count is None else max_count
        while run := self.next_run(start, most):
            yield run
            start = run.end

    def merge(self, other: DirtyBitmap) -> int:
        """Make dirty what is dirty in ``other``, of the same length; the caller excludes writers.

        Returns:
            How many pages are new here.
        """
        if len(other) != len(self):
            raise ValueError(f"{len(other)} pages do not merge into {len(self)}")
        fresh = 0
        for start in range(0, len(self), _MERGED_PAGES):
            end = min(start + _MERGED_PAGES, len(self))
            if other._pages.find(1, start, end) < 0:
                continue
            before = self._pages.count(1, start, end)
            ours = int.from_bytes(self._pages[start:end], "little")
            theirs = int.from_bytes(other._pages[start:end], "little")
            self._pages[start:end] = (ours | theirs).to_bytes(end - start, "little")
            fresh += self._pages.count(1, start, end) - before
        return fresh

    def take(self) -> DirtyBitmap:
        """A copy of this bitmap, which is clean afterwards; the caller excludes writers."""
        taken = DirtyBitmap(0)
        taken._pages = bytearray(self._pages)
        self.clear(0, len(self._pages))
        return taken

    def to_bits(self, first: int = 0, count: int | None = None) -> bytes:
        """One bit a page, least significant first, ``ceil(pages / 8)`` bytes.

        Args:
            first: The page of the first bit.
            count: Of how many pages; of all from there on, if not given.
        """
        count = len(self._pages) - first if count is None else count
        self._check(first, count)
        digits = self._pages[first : first + count][::-1].translate(_TO_DIGIT)
        return int(digits or b"0", 2).to_bytes((count + 7) // 8, "little")

    def set_bits(self, first: int, count: int, bits: Buffer) -> None:
        """Make ``count`` pages what such bits say; there may be more bits than that."""
        self._check(first, count)
        marks = b"".join(map(_MARKS_OF_BYTE.__getitem__, memoryview(bits)[: (count + 7) // 8]))
        self._pages[first : first + count] = marks[:count]

    def _check(self, first: int, count: int) -> None:
        if first < 0 or count < 0 or first + count > len(self._pages):
            raise IndexError(
                f"pages {first} to {first + count} are not all in 0 to {len(self._pages)}"
            )


_MERGED_PAGES = 1 << 14
"""Pages merged in one operation: the cost does not depend on how scattered they are, and a part
in which nothing is dirty costs next to nothing."""

_MARKS_OF_BYTE = [bytes(value >> bit & 1 for bit in range(8)) for value in range(256)]

_TO_DIGIT = bytes([ord("0"), ord("1")]) + bytes(254)
