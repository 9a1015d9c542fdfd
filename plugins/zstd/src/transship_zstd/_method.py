"""One zstd frame a channel, from its first packet to its last, flushed after each, never ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard

from transship.abc import Compression, Compressor, Decompressor
from transship.toolkit import fill_targets
from transship.wire.multifd import PACKET_DATA_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Parameters
    from transship.buffers import Buffer

_WIRE_FLAG: Final = 0x04

_MOST_GROWTH_BYTES: Final = PACKET_DATA_BYTES >> 8
"""What zstd itself allows for: three bytes a block that does not compress, and the frame's header.
"""

_MOST_WINDOW_BYTES: Final = 1 << 25
"""What a decompressor may have to remember: the window of level 20, the highest that there is."""


class Zstd(Compression):
    """The method; other libraries read what it writes."""

    name = "zstd"
    wire_flag = _WIRE_FLAG
    most_growth_bytes = _MOST_GROWTH_BYTES

    def compressor(self, parameters: Parameters) -> Compressor:
        """A frame of its own."""
        return _Compressor(parameters.multifd_zstd_level)

    def decompressor(self) -> Decompressor:
        """A reader of its own."""
        return _Decompressor()


class _Compressor(Compressor):
    def __init__(self, level: int) -> None:
        self._frame = zstandard.ZstdCompressor(level).compressobj()

    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        """Compress the pages as they lie: zstd copies into its window first, whoever writes."""
        data = [self._frame.compress(page) for page in pages]
        data.append(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        return b"".join(data)


class _NoMoreError(Exception):
    """The packet has been read to its end."""


class _Packet:
    """What a reader of zstd reads from: the data of one packet at a time.

    At the end it raises: an empty read would be the end of the reader for good.
    """

    def __init__(self) -> None:
        self._data: bytes | None = None

    def put(self, data: Buffer) -> None:
        """Let the next read return this."""
        self._data = bytes(data)

    def read(self, size: int) -> bytes:
        """All of it, whatever is asked for: so that one call of zstd sees the whole packet."""
        data, self._data = self._data, None
        if data is None:
            raise _NoMoreError
        return data


class _Decompressor(Decompressor):
    def __init__(self) -> None:
        self._packet = _Packet()
        context = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES)
        self._reader = context.stream_reader(self._packet)  # type: ignore[arg-type]  # it can read
        self._room = memoryview(bytearray())

    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        """Decompress into a buffer with room for one byte too many.

        Too much shows by that, and as long as it is not full zstd keeps nothing back.
        """
        most = sum(map(len, targets)) + 1
        if len(self._room) < most:
            self._room = memoryview(bytearray(most))
        self._packet.put(data)
        count = 0
        try:
            while count < most and (more := self._reader.readinto1(self._room[count:most])):
                count += more
        except _NoMoreError:
            pass
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        fill_targets(targets, self._room[:count])
