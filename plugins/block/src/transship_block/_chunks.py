"""Chunks: the 1 MiB parts in which disks are sent, and the buffers that hold one each."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final, NamedTuple

from transship.wire.storage import CHUNK_BYTES

if TYPE_CHECKING:
    from transship.abc import Disk

HEAD_ROOM: Final = mmap.PAGESIZE
"""Before the data of a chunk, for what precedes it in the stream; keeps the data aligned."""

IN_FLIGHT: Final = 16
"""Chunks that are being read ahead, or written behind, at most; as in QEMU."""

THREADS: Final = 4
"""That read or write: enough to keep a disk, or the way to it, busy."""


class Place(NamedTuple):
    """A chunk of a disk.

    Args:
        disk: Which.
        number: Counted from the start of the disk.
    """

    disk: Disk
    number: int

    @property
    def offset(self) -> int:
        """Where on the disk it begins."""
        return self.number * CHUNK_BYTES

    @property
    def length(self) -> int:
        """How much of it is on the disk, as the disk is now."""
        return min(CHUNK_BYTES, self.disk.size_bytes - self.offset)


def chunk_count(disk: Disk) -> int:
    """Of how many chunks a disk consists."""
    return -(-disk.size_bytes // CHUNK_BYTES)


def new_buffer() -> memoryview:
    """Memory for what precedes a chunk, and its data."""
    return memoryview(mmap.mmap(-1, HEAD_ROOM + CHUNK_BYTES))
