"""Reads chunks of disks in threads, ahead of whoever sends them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from transship.errors import LocalError
from transship.memory import kernels
from transship.wire.storage import CHUNK_BYTES, chunk_head
from transship_block._chunks import HEAD_ROOM, IN_FLIGHT, THREADS, new_buffer

if TYPE_CHECKING:
    from transship.buffers import Buffer
    from transship_block._chunks import Place

_ZEROES: Final = memoryview(bytes(CHUNK_BYTES))

_LENT: Final = 2
"""Segments that the engine may still hold when it asks for the next."""


class ReadChunk(NamedTuple):
    """A chunk as it goes into the stream.

    Args:
        place: Which.
        segment: What precedes the data, and the data; borrowed until two more were taken.
        is_zero: Whether it goes as a mark, without data.
    """

    place: Place
    segment: Buffer
    is_zero: bool


class ReadAhead:
    """A bounded queue of chunks that are being read; they come out as they went in.

    Args:
        marks_zeros: Whether a chunk that is all zero goes as a mark.
    """

    def __init__(self, *, marks_zeros: bool) -> None:
        self._marks_zeros = marks_zeros
        self._kernels = kernels.current()
        self._threads = ThreadPoolExecutor(THREADS, "transship-disk-reader")
        self._reading: deque[tuple[Place, Future[ReadChunk], memoryview]] = deque()
        self._free: list[memoryview] = []
        self._lent: deque[memoryview] = deque()

    def __len__(self) -> int:
        return len(self._reading)

    @property
    def is_full(self) -> bool:
        """Whether no more chunks may be put in."""
        return len(self._reading) >= IN_FLIGHT

    def put(self, place: Place, *, is_known_zero: bool) -> None:
        """Begin to read a chunk.

        Args:
            place: Which.
            is_known_zero: Whether it need not be read to know that all of it is zero.
        """
        buffer = self._free.pop() if self._free else new_buffer()
        future = self._threads.submit(self._read, place, buffer, is_known_zero)
        self._reading.append((place, future, buffer))

    def take(self) -> ReadChunk:
        """Wait for the chunk that was put in first; there is one.

        Raises:
            LocalError: It cannot be read.
        """
        place, future, buffer = self._reading[0]
        try:
            chunk = future.result()
        except OSError as error:
            raise LocalError(
                f"disk {place.disk.name!r} cannot be read",
                section="block",
                expected=f"{place.length} bytes at {place.offset}",
                found=error.strerror or str(error),
            ) from error
        self._reading.popleft()
        self._lent.append(buffer)
        if len(self._lent) > _LENT:
            self._free.append(self._lent.popleft())
        return chunk

    def close(self) -> None:
        """Read no more; idempotent. What is being read is waited for by nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._reading.clear()
        self._free.clear()
        self._lent.clear()

    def _read(self, place: Place, buffer: memoryview, is_known_zero: bool) -> ReadChunk:
        name = place.disk.name.encode()
        data = buffer[HEAD_ROOM:]
        if is_known_zero:
            if not self._marks_zeros:
                data[:] = _ZEROES
        else:
            length = place.length
            place.disk.device.read_into(place.offset, data[:length])
            if length < CHUNK_BYTES:
                data[length:] = _ZEROES[length:]
        if self._marks_zeros and (is_known_zero or self._is_zero(data)):
            return ReadChunk(place, chunk_head(name, place.offset, is_zero=True), True)
        head = chunk_head(name, place.offset, is_zero=False)
        start = HEAD_ROOM - len(head)
        buffer[start:HEAD_ROOM] = head
        return ReadChunk(place, buffer[start:], False)

    def _is_zero(self, data: memoryview) -> bool:
        return self._kernels.find_zero_pages(data, CHUNK_BYTES) == b"\1"
