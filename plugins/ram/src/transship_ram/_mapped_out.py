"""The source's side of ``mapped-ram``: every page is written to its place in the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np

from transship.abc import FileWork
from transship.memory import kernels
from transship.wire.limits import MIB
from transship_ram._arrays import runs_of
from transship_ram._layout import HEADER_BYTES, Placing, bitmap_bytes
from transship_ram._positional import PIECE_BYTES, FileThreads, Piece
from transship_ram._zeros import find_zeros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.memory.arrays import Marks, Numbers
    from transship.memory.ramblock import RAMBlock
    from transship_ram._counts import SentCounts
    from transship_ram._scan import Batch, Scan

_WORK_BYTES: Final = 16 * MIB
"""Most that is written before a cancellation has its effect."""


class MappedWriter:
    """Writes the pages of some blocks.

    Args:
        blocks: In the order of the table, where they are to be read; borrowed.
        scan: Says which pages are dirty.
        counts: Kept up to date.
        threads: How many write at once.
    """

    def __init__(
        self, blocks: Sequence[RAMBlock], scan: Scan, counts: SentCounts, threads: int
    ) -> None:
        self._blocks = [_MappedBlock(block) for block in blocks]
        self._scan = scan
        self._counts = counts
        self._threads = FileThreads(threads)
        self._kernels = kernels.current()

    def header(self, block: int) -> FileWork:
        """Write the header of a block, behind its entry in the table, and pass its pages."""
        return FileWork(self._blocks[block].place, HEADER_BYTES)

    def pages(self, most_bytes: float) -> FileWork | None:
        """Write dirty pages, about so many bytes; None if nothing is dirty."""
        page_size = self._blocks[0].page_size if self._blocks else 1
        most_pages = max(int(min(most_bytes, _WORK_BYTES)) // page_size, 1)
        batch = self._scan.next_batch(most_pages)
        if batch is None:
            return None
        block = self._blocks[batch.block]
        zeros = find_zeros(self._kernels, block.memory, batch.pages)
        full = batch.pages[~zeros]
        block.note(batch, zeros)
        self._counts.duplicate += len(batch.pages) - len(full)
        self._counts.normal += len(full)

        def write(descriptor: int, position: int) -> int:
            self._threads.write(descriptor, block.pieces(full))
            return position

        return FileWork(write, len(full) * page_size)

    def bitmaps(self) -> FileWork:
        """Write which pages are there, when no more will be."""

        def write(descriptor: int, position: int) -> int:
            for block in self._blocks:
                block.write_bitmap(descriptor)
            return position

        return FileWork(write, sum(bitmap_bytes(block.page_count) for block in self._blocks))

    def close(self) -> None:
        """Let the threads end; idempotent."""
        self._threads.close()


class _MappedBlock:
    """One block, and which of its pages are in the file."""

    def __init__(self, memory: RAMBlock) -> None:
        self.memory = memory
        self.page_size = memory.page_size
        self.page_count = memory.used_length // memory.page_size
        self._is_there = np.zeros(self.page_count, np.bool_)
        self._placing: Placing | None = None

    def place(self, descriptor: int, position: int) -> int:
        """Write the header; says where the stream goes on."""
        self._placing = Placing.behind(position, self.page_count)
        os.pwrite(descriptor, self._placing.header(self.page_size), position)
        return self._placing.pages_offset + self.memory.used_length

    def note(self, batch: Batch, zeros: Marks) -> None:
        """Remember which pages of a batch the file has; others are zero, whatever it has."""
        self._is_there[batch.pages] = ~zeros

    def pieces(self, pages: Numbers) -> list[Piece]:
        """The memory of pages, and their places."""
        assert self._placing is not None
        size = self.page_size
        with self.memory.view as view:
            return [
                Piece(
                    self._placing.pages_offset + run.first * size,
                    view[run.first * size : run.end * size],
                )
                for run in runs_of(pages, PIECE_BYTES // size)
            ]

    def write_bitmap(self, descriptor: int) -> None:
        """Write the bitmap."""
        assert self._placing is not None
        bits = np.packbits(self._is_there, bitorder="little").tobytes()
        words = bits.ljust(bitmap_bytes(self.page_count), b"\0")
        os.pwrite(descriptor, words, self._placing.bitmap_offset)
