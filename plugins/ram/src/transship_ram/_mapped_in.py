"""The destination's side of ``mapped-ram``: pages are read from their places in the file."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from transship.errors import ChannelError
from transship.wire.limits import MIB
from transship.wire.reader import InFile
from transship_ram._arrays import runs_of
from transship_ram._layout import HEADER_BYTES, Placing, bitmap_bytes
from transship_ram._positional import PIECE_BYTES, FileThreads, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.memory.arrays import Marks
    from transship.memory.runs import PageRun
    from transship.wire.reader import Parsing, StreamReader
    from transship_ram._target import LoadedBlock

_WORK_BYTES: Final = 64 * MIB
"""Most that is read before a cancellation has its effect."""


class MappedReader:
    """Reads blocks.

    Args:
        page_size: Bytes of a target page.
        threads: How many read at once.
    """

    def __init__(self, page_size: int, threads: int) -> None:
        self._page_size = page_size
        self._threads = FileThreads(threads)

    def load(self, reader: StreamReader, block: LoadedBlock) -> Parsing[None]:
        """Read a block, whose entry in the table the reader has just passed, header and all.

        Raises:
            StreamError: The header is wrong.
            ChannelError: The file ends before.
            LocalError: There is no room for the pages.
        """
        header = yield from reader.take(HEADER_BYTES)
        placing = Placing.read(header, reader, self._page_size, block.page_count)
        found: list[Marks] = []

        def read_bitmap(descriptor: int, position: int) -> int:
            placing.check_behind(position, reader)
            found.append(_bitmap(descriptor, placing, block.page_count))
            return position

        yield InFile(read_bitmap)
        is_there = found[0]
        step = _WORK_BYTES // self._page_size
        for first in range(0, block.page_count, step):
            marks = is_there[first : first + step]
            size_bytes = int(np.count_nonzero(marks)) * self._page_size
            yield InFile(partial(self._read, block, placing, first, marks), size_bytes)
        yield InFile(lambda descriptor, position: placing.pages_offset + block.used_length)

    def _read(
        self,
        block: LoadedBlock,
        placing: Placing,
        first: int,
        marks: Marks,
        descriptor: int,
        position: int,
    ) -> int:
        """Read those of some consecutive pages that are there; the others are zero."""
        full, zero = (np.flatnonzero(which) + first for which in (marks, ~marks))
        if len(zero):
            block.clear(zero)
        if len(full):
            with block.reserved_pages(full) as views:
                runs = runs_of(full)
                self._threads.read(
                    descriptor, _pieces(views, runs, placing.pages_offset, self._page_size)
                )
        block.counts.normal += len(full)
        block.counts.duplicate += len(zero)
        return position

    def close(self) -> None:
        """Let the threads end; idempotent."""
        self._threads.close()


def _bitmap(descriptor: int, placing: Placing, pages: int) -> Marks:
    """Which pages are in the file."""
    data = os.pread(descriptor, bitmap_bytes(pages), placing.bitmap_offset)
    if len(data) < bitmap_bytes(pages):
        raise ChannelError(
            "the file ends within a bitmap of pages",
            section="ram",
            expected=f"{bitmap_bytes(pages)} bytes at {placing.bitmap_offset:#x}",
            found=f"{len(data)} bytes",
        )
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=pages, bitorder="little")
    return bits.view(np.bool_)


def _pieces(
    views: list[memoryview], runs: list[PageRun], pages_offset: int, page_size: int
) -> Iterator[Piece]:
    """Memory of runs and where it is in the file, no piece too long for one call."""
    for view, run in zip(views, runs, strict=True):
        offset = pages_offset + run.first * page_size
        for start in range(0, len(view), PIECE_BYTES):
            yield Piece(offset + start, view[start : start + PIECE_BYTES])
