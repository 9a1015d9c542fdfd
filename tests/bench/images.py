"""Guest memory as a file: filled before a move, compared after it."""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.workloads import CHUNK_PAGES, PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.workloads import Workload

_CHUNK: Final = CHUNK_PAGES * PAGE
_BLOCK_CHUNKS: Final = 64
WORDS: Final = PAGE // 8
"""Numbers in a page."""

Words = np.uint64


def fill(path: Path, work: Workload, seed: int = 1) -> None:
    """Make a file hold a workload's memory: random, no two pages alike.

    A file that is there is written anew, and its memory is kept.
    """
    random = np.random.default_rng(seed)
    data = CHUNK_PAGES - work.zero_pages
    block = random.integers(1, 1 << 63, (_BLOCK_CHUNKS, data, WORDS), Words)
    with mapped(path, work.ram_bytes) as memory:
        chunks = memory.reshape(-1, CHUNK_PAGES, WORDS)
        for first in range(0, len(chunks), _BLOCK_CHUNKS):
            part = chunks[first : first + _BLOCK_CHUNKS]
            part[:, : work.zero_pages] = 0
            part[:, work.zero_pages :] = block[: len(part)]
        # What tells the repetitions of the block apart.
        numbers = np.arange(len(memory) // WORDS, dtype=Words).reshape(-1, CHUNK_PAGES)
        chunks[:, work.zero_pages :, 0] = numbers[:, work.zero_pages :] + np.uint64(1)


def clear(path: Path, ram_bytes: int) -> None:
    """Make a file hold zeros, all of them in memory."""
    with mapped(path, ram_bytes) as memory:
        memory[:] = 0


def differing_pages(one: Path, other: Path, ram_bytes: int) -> NDArray[np.intp]:
    """The numbers of the pages that two files do not have in common."""
    with mapped(other, ram_bytes) as theirs:
        return pages_unlike(one, theirs.data)


def pages_unlike(path: Path, memory: memoryview) -> NDArray[np.intp]:
    """The numbers of the pages of memory that are not as in a file."""
    step = _BLOCK_CHUNKS * CHUNK_PAGES * WORDS
    found = []
    theirs = np.frombuffer(memory, Words)
    with mapped(path, theirs.nbytes) as ours:
        for start in range(0, len(ours), step):
            different = ours[start : start + step] != theirs[start : start + step]
            if different.any():
                pages = different.reshape(-1, WORDS).any(axis=1)
                found.append(np.flatnonzero(pages) + start // WORDS)
    return np.concatenate(found) if found else np.empty(0, np.intp)


@contextmanager
def mapped(path: Path, length: int) -> Iterator[NDArray[np.uint64]]:
    """A file's memory as numbers; the file is made, or given this length, where need be."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(length)
        mapping = mmap.mmap(file.fileno(), length)
    words = np.frombuffer(mapping, Words)
    try:
        yield words
    finally:
        del words
        # What a caller still holds keeps the mapping, which then goes with it.
