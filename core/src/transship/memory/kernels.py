"""The loops over guest memory that decide the speed: what each promises, and which one runs.

There is a readable reference of the standard library alone, one with numpy, and whatever
:func:`install` is given (compiled kernels come from another distribution). All give the same
results. A kernel takes buffers, returns an integer or bytes or fills a buffer, and keeps no view.
It knows nothing of streams: a *record* is 8 bytes, big-endian, that hold the offset of a page
plus a tag below the page size, and then the page's bytes, or, if the page is zero, one zero byte,
or, for what has changed of a page, a byte 1, the length of the encoding in 2 bytes, big-endian,
and the encoding.

*Numbers* are native signed integers of 64 bits, one after another in a buffer.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from transship.memory import _kernels_py

if TYPE_CHECKING:
    from transship.buffers import Buffer


class Kernels(Protocol):
    """What an implementation provides; a module may be one. ``memory`` is whole pages always."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    def find_zero_pages(self, memory: Buffer, page_size: int, pages: Buffer | None = None) -> bytes:
        """Find the pages of which every byte is zero.

        Args:
            memory: Where the pages are.
            page_size: Bytes of a page.
            pages: Numbers of the pages to look at; all of them, if not given.

        Returns:
            One byte for each page looked at: 1 if it is zero, else 0.
        """

    def pack_pages(
        self,
        memory: Buffer,
        page_size: int,
        pages: Buffer,
        zeros: Buffer,
        full_tag: int,
        zero_tag: int,
        budget_bytes: int,
        target: Buffer,
    ) -> int:
        """Write a record for each page to the start of ``target``, until a budget is spent.

        Args:
            memory: Where the pages are; may change meanwhile.
            page_size: Bytes of a page.
            pages: Numbers of the pages.
            zeros: One byte for each of them: 1 for a page that is known to be zero, and is not
                read. Becomes 1 for those that are found to be.
            full_tag: Tag of a record with the page's bytes.
            zero_tag: Tag of a record of a zero page.
            budget_bytes: The record that reaches it is the last.
            target: Has room for all the records.

        Returns:
            How many pages have been recorded.
        """

    def pack_changes(
        self,
        new: Buffer,
        page_size: int,
        pages: Buffer,
        zeros: Buffer,
        old: Buffer,
        places: Buffer,
        full_tag: int,
        zero_tag: int,
        change_tag: int,
        target: Buffer,
        lengths: Buffer,
    ) -> int:
        """Write a record for each page, of what has changed where that is known.

        A page that is compared with an old one gets no record if it is the same, one of the
        change if the encoding fits a page (and its length 16 bits), and else a full one.

        Args:
            new: The pages, one after another; must not change meanwhile.
            page_size: Bytes of a page.
            pages: For each of them its number in the record.
            zeros: One byte for each of them, 1 for a page to be recorded as zero, unread.
            old: Whole pages, such as the receiver has.
            places: Numbers: for each page, which one of ``old`` it is compared with; negative
                for a page that is to be recorded in full.
            full_tag: Tag of a record with the page's bytes.
            zero_tag: Tag of a record of a zero page.
            change_tag: Tag of a record of a change.
            target: Has room for all the records; for 11 bytes and a page each they always fit.
            lengths: Filled with numbers: what :meth:`xbzrle_encode` says of each page that is
                compared, and -1 for the others.

        Returns:
            How many bytes were written.
        """

    def find_records(
        self,
        window: Buffer,
        page_size: int,
        page_count: int,
        full_tag: int,
        zero_tag: int,
        pages: Buffer,
        zeros: Buffer,
    ) -> int:
        """Recognise the records at the start of ``window``.

        Ends before the first that is not there completely, has another tag, a page number of
        ``page_count`` or more, or a zero byte that is none; and where ``zeros`` is full.

        Args:
            window: Untrusted bytes.
            page_size: Bytes of a page.
            page_count: How many pages there are.
            full_tag: Tag of a record with the page's bytes.
            zero_tag: Tag of a record of a zero page.
            pages: Filled with numbers of pages; has room for as many as ``zeros``.
            zeros: Filled with one byte for each, 1 for a zero page.

        Returns:
            How many records there are.
        """

    def load_records(
        self,
        window: Buffer,
        page_size: int,
        full_tag: int,
        zero_tag: int,
        memory: Buffer,
        touched: Buffer,
    ) -> tuple[int, int, int]:
        """Recognise the records at the start of ``window``, and let ``memory`` be what they say.

        Ends where :meth:`find_records` does, for as many pages as there are in ``memory``; it may
        end before, when much memory was looked at that is to be zero. A page that is to be zero
        and is zero is not written; one that is known to be zero is not even looked at.

        Args:
            window: Untrusted bytes.
            page_size: Bytes of a page.
            full_tag: Tag of a record with the page's bytes.
            zero_tag: Tag of a record of a zero page.
            memory: Whole pages, which cost nothing to be written.
            touched: One byte a page, 0 where it is known to be zero; 1 where bytes came.

        Returns:
            How many bytes of the window were taken, how many records had a page's bytes, and how
            many were of zero pages.
        """

    def scatter_pages(
        self, source: Buffer, positions: Buffer, page_size: int, memory: Buffer, pages: Buffer
    ) -> None:
        """Copy pages to where they belong; of a page that comes twice, the later one stays.

        Args:
            source: The bytes received.
            positions: Numbers: for each page, at which byte of ``source`` it starts.
            page_size: Bytes of a page.
            memory: Where the pages go.
            pages: Numbers of the pages.
        """

    def xbzrle_encode(self, old: Buffer, new: Buffer, target: Buffer) -> int:
        """Encode what has changed from ``old`` to ``new``, two pages of one size.

        Args:
            old: What the receiver has.
            new: What it shall have; must not change meanwhile.
            target: Filled from its start. Its length is the limit of the encoding.

        Returns:
            How many bytes were written: 0 if nothing has changed, -1 if the encoding does not
            fit, and then the content of ``target`` is undefined.

        Source: ``old`` and ``new`` alternate between equal and different runs; the encoding is
        pairs of (length of the equal run, length of the different run, its new bytes), lengths
        in ULEB128 of at most 14 bits, without a trailing equal run. Room for two bytes is asked
        for before each length, also where only a trailing equal run is left.
        """

    def xbzrle_decode(self, delta: Buffer, page: Buffer) -> int:
        """Apply an encoding to the page it was made against, in place.

        Args:
            delta: Untrusted bytes. Never is anything read beyond them.
            page: Patched. Never is anything written beyond it; a part of it may have been
                patched when the encoding turns out to be malformed.

        Returns:
            The end of the last patched run in the page; -1 if the encoding is malformed.
        """

    def mark_ranges(self, ranges: Buffer, start: int, page_size: int, marks: Buffer) -> int:
        """Mark the pages of ranges of addresses.

        Args:
            ranges: Numbers, three for each range: its first address, the one behind its last, and
                one that tells nothing (the ``struct page_region`` of Linux' ``PAGEMAP_SCAN``).
            start: Address of the first page.
            page_size: Bytes of a page.
            marks: One byte for each page; becomes 1 for every page that a range touches.

        Returns:
            How many of them were 0 before.

        Raises:
            ValueError: A range is not in the memory that the marks stand for.
        """

    def checksum(self, memory: Buffer) -> int:
        """Sum memory up, to compare it with another; no protection against anybody's intent.

        Returns:
            64 bits. With the memory's words of 8 bytes, little-endian, ``w[0]`` to ``w[n - 1]``,
            modulo 2**64: the sum of all ``w[i]`` times ``0x9E3779B97F4A7C15``, exclusive-or the
            sum of all ``w[i] * (i + 1)``.

        Raises:
            ValueError: It is no number of whole words.
        """


def available() -> tuple[Kernels, ...]:
    """All implementations at hand, the fastest first; the reference is always the last."""
    numpy_kernels = _numpy_kernels()
    found = [*_installed, *([numpy_kernels] if numpy_kernels else []), _kernels_py]
    return tuple(found)


def current() -> Kernels:
    """The fastest implementation at hand; ``current().name`` says which."""
    return _installed[0] if _installed else available()[0]


def install(kernels: Kernels) -> None:
    """Put another implementation before those at hand. Whoever asked before keeps what he got."""
    _installed.insert(0, kernels)


_installed: list[Kernels] = []


@cache
def _numpy_kernels() -> Kernels | None:
    try:
        from transship.memory import _kernels_np
    except ImportError:
        return None
    return _kernels_np
