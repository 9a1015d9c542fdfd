"""A block on the destination: where pages land, and how many of which kind did."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transship.errors import LocalError
from transship.memory import kernels
from transship.memory.runs import PageRun
from transship_ram._arrays import runs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.buffers import Buffer
    from transship.memory.arrays import Numbers
    from transship.memory.packets import PacketKernel
    from transship.memory.ramblock import RAMBlock


@dataclass(slots=True)
class PageCounts:
    """How many pages came in which kind of record; a page that came twice counts twice.

    Args:
        normal: In full.
        duplicate: As zero.
        xbzrle: As a difference to what was there.
        compressed: Deflated.
    """

    normal: int = 0
    duplicate: int = 0
    xbzrle: int = 0
    compressed: int = 0

    def __add__(self, other: PageCounts) -> PageCounts:
        return PageCounts(
            self.normal + other.normal,
            self.duplicate + other.duplicate,
            self.xbzrle + other.xbzrle,
            self.compressed + other.compressed,
        )


class LoadedBlock:
    """One block of the table, and the guest's memory for it.

    Whoever calls has checked page numbers and offsets against :attr:`used_length`.

    Args:
        block: The memory; borrowed for the migration.

    Attributes:
        idstr: Its name in the stream.
        used_length: Its bytes.
        counts: What has come for it.
    """

    def __init__(self, block: RAMBlock) -> None:
        self.idstr = block.idstr
        self.used_length = block.used_length
        self.counts = PageCounts()
        self._block = block
        self._page_size = block.page_size
        self._kernels = kernels.current()
        pages = 0 if block.is_borrowed else self.page_count  # of what is borrowed none may come
        self._touched = bytearray([not block.is_untouched]) * pages
        self._marks = np.frombuffer(self._touched, np.uint8)

    @property
    def is_borrowed(self) -> bool:
        """Whether its memory is the source's own, so that no page of it may come."""
        return self._block.is_borrowed

    @property
    def is_plain(self) -> bool:
        """Whether :meth:`load_records` may be used."""
        return self._block.is_plain

    def load_records(self, window: Buffer, full_tag: int, zero_tag: int) -> tuple[int, int, int]:
        """Take records as the kernel of that name does, straight to where they belong."""
        with self._block.view as view:
            return self._kernels.load_records(
                window, self._page_size, full_tag, zero_tag, view, self._touched
            )

    def receive_packets(
        self, kernel: PacketKernel, descriptor: int, packet: memoryview, like: bytes, most_ns: int
    ) -> tuple[int, int, int, int]:
        """Receive packets as that kernel does, straight to where their pages belong."""
        with self._block.view as view:
            return kernel.receive_packets(
                descriptor, packet, like, self._page_size, view, self._touched, most_ns
            )

    def exposed(self) -> memoryview:
        """All of its memory, which others may write to from now on: no page is known to be zero."""
        self._marks[:] = 1
        return self._block.view

    @property
    def page_count(self) -> int:
        """How many pages it has."""
        return self.used_length // self._page_size

    def page(self, offset: int) -> memoryview:
        """The page at ``offset``, to be written; let go of it at once.

        Raises:
            LocalError: There is no room for it.
        """
        number = offset // self._page_size
        self._touched[number] = 1
        self._reserve(PageRun(number, 1))
        return self._block.view[offset : offset + self._page_size]

    @contextmanager
    def reserved_pages(self, pages: Numbers) -> Iterator[list[memoryview]]:
        """Views of pages, in that order, to be written within the block of a ``with``.

        Raises:
            LocalError: There is no room for them.
        """
        runs = runs_of(pages)
        self._marks[pages] = 1
        if not self._block.is_plain:
            for run in runs:
                self._reserve(run)
        size = self._page_size
        with self._block.view as view:
            views = [view[run.first * size : run.end * size] for run in runs]
        try:
            yield views
        finally:
            for view in views:
                view.release()

    def scatter(self, source: Buffer, positions: Numbers, pages: Numbers) -> None:
        """Copy pages from those positions of ``source``.

        Raises:
            LocalError: There is no room for them.
        """
        self._marks[pages] = 1
        for run in runs_of(pages):
            self._reserve(run)
        self._kernels.scatter_pages(
            source, positions.data, self._page_size, self._block.view, pages.data
        )

    def clear(self, pages: Numbers) -> None:
        """Make pages zero. Those that are zero already are not written and cost no memory.

        What was never touched is not even looked at.

        Raises:
            LocalError: There is no room for them.
        """
        present = pages[self._marks[pages] != 0]
        if not self._block.is_plain:
            holes = b"".join(self._block.find_holes(*run) for run in runs_of(present))
            present = present[np.frombuffer(holes, np.uint8) == 0]
        if not len(present):
            return
        zeros = self._kernels.find_zero_pages(self._block.view, self._page_size, present.data)
        for run in runs_of(present[np.frombuffer(zeros, np.uint8) == 0]):
            self._reserve(run)
            self._fill_with_zeros(run)

    def clear_page(self, offset: int) -> None:
        """Make the page at ``offset`` zero, as :meth:`clear` does."""
        self.clear(np.array([offset // self._page_size], np.int64))

    def _fill_with_zeros(self, run: PageRun) -> None:
        memory = np.frombuffer(self._block.view, np.uint8)
        memory[run.first * self._page_size : run.end * self._page_size] = 0

    def _reserve(self, run: PageRun) -> None:
        try:
            self._block.reserve(run.first, run.count)
        except OSError as error:
            raise LocalError(
                f"RAM block {self.idstr!r} has no room for what arrives",
                section="ram",
                expected=f"room for {run.count * self._page_size} bytes",
                found=error.strerror or str(error),
            ) from error
