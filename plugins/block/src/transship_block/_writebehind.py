"""Writes chunks to disks in threads, behind whoever receives them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from transship.errors import LocalError
from transship.memory import kernels
from transship.wire.limits import KIB
from transship_block._chunks import HEAD_ROOM, IN_FLIGHT, THREADS, new_buffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc import DiskLoad
    from transship_block._chunks import Place

_CLUSTER_BYTES: Final = 64 * KIB
"""The least of a chunk that is left out of an image for being zero."""


class _Job(NamedTuple):
    place: Place
    future: Future[None]
    buffer: memoryview | None


class WriteBehind:
    """A bounded number of chunks that are being written; those of one place in their order.

    None is being written any more once :meth:`wait` has returned.

    Args:
        buffers: Those that nobody uses: taken from here, and put back here for the next.
    """

    def __init__(self, buffers: list[memoryview]) -> None:
        self._kernels = kernels.current()
        self._threads: ThreadPoolExecutor | None = None
        self._jobs: deque[_Job] = deque()
        self._free = buffers

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be waited for."""
        return not self._jobs

    def is_ready_for(self, place: Place) -> bool:
        """Whether a chunk could be written there at once; otherwise :meth:`make_ready_for`."""
        if len(self._jobs) < IN_FLIGHT:
            return all(job.place != place for job in self._jobs)
        return False

    def make_ready_for(self, place: Place) -> None:
        """Wait until a chunk can be written there.

        Raises:
            LocalError: One of those before could not be written.
        """
        while not self.is_ready_for(place):
            self._finish_first()

    def buffer(self) -> memoryview:
        """Room for the data of the chunk that is written next; the caller gives it to that."""
        return self._free.pop() if self._free else new_buffer()[HEAD_ROOM:]

    def write(self, load: DiskLoad, place: Place, length: int, buffer: memoryview) -> None:
        """Begin to write a chunk; the place must be ready.

        Args:
            load: The right to write to the place's disk.
            place: Where to.
            length: How much of it is on the disk.
            buffer: All of its data.
        """
        self._begin(place, partial(self._write, load, place.offset, length, buffer), buffer)

    def write_zeroes(self, load: DiskLoad, place: Place, length: int) -> None:
        """Begin to make a chunk zero; the place must be ready."""
        self._begin(place, partial(load.write_zeroes, place.offset, length), None)

    def wait(self) -> None:
        """Wait until all is written.

        Raises:
            LocalError: Something could not be.
        """
        while self._jobs:
            self._finish_first()

    def close(self) -> None:
        """Write no more; idempotent, and does not block.

        What is being written ends before its disk is given up; its buffer is nobody else's.
        """
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        self._jobs.clear()

    def _begin(self, place: Place, write: Callable[[], None], buffer: memoryview | None) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "transship-disk-writer")
        self._jobs.append(_Job(place, self._threads.submit(write), buffer))

    def _finish_first(self) -> None:
        job = self._jobs[0]
        try:
            job.future.result()
        except OSError as error:
            raise LocalError(
                f"disk {job.place.disk.name!r} cannot be written",
                section="block",
                expected=f"room for a chunk at {job.place.offset}",
                found=error.strerror or str(error),
            ) from error
        self._jobs.popleft()
        if job.buffer is not None:
            self._free.append(job.buffer)

    def _write(self, load: DiskLoad, offset: int, length: int, buffer: memoryview) -> None:
        """Write a chunk, and leave out what is zero of it."""
        zeros = self._kernels.find_zero_pages(buffer, _CLUSTER_BYTES)
        clusters = -(-length // _CLUSTER_BYTES)
        first = 0
        while first < clusters:
            is_zero = zeros[first]
            end = zeros.find(1 - is_zero, first, clusters)
            end = clusters if end < 0 else end
            start_byte, end_byte = first * _CLUSTER_BYTES, min(end * _CLUSTER_BYTES, length)
            if is_zero:
                load.write_zeroes(offset + start_byte, end_byte - start_byte)
            else:
                load.write(offset + start_byte, buffer[start_byte:end_byte])
            first = end
