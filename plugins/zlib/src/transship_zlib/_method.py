"""One deflate stream a channel, from its first packet to its last, flushed after each."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from transship.abc import Compression, Compressor, Decompressor
from transship.toolkit import fill_targets
from transship.wire.multifd import PACKET_DATA_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Parameters
    from transship.buffers import Buffer

_WIRE_FLAG: Final = 0x02

_MOST_GROWTH_BYTES: Final = PACKET_DATA_BYTES // 8 + 1024
"""Deflate's fixed code has at most nine bits for a byte, and there are libraries that use no other
on the lowest level; the rest is for headers and the flush."""


class Zlib(Compression):
    """The method; other libraries read what it writes."""

    name = "zlib"
    wire_flag = _WIRE_FLAG
    most_growth_bytes = _MOST_GROWTH_BYTES

    def compressor(self, parameters: Parameters) -> Compressor:
        """A deflate stream of its own."""
        return _Deflate(parameters.multifd_zlib_level)

    def decompressor(self) -> Decompressor:
        """An inflate stream of its own."""
        return _Inflate()


class _Deflate(Compressor):
    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level)

    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        """Compress a copy: deflate may read a byte twice, and the guest may write in between."""
        data = self._stream.compress(b"".join(pages))
        return data + self._stream.flush(zlib.Z_SYNC_FLUSH)


class _Inflate(Decompressor):
    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        """Inflate into a buffer with room for one byte too many, which is how too much shows."""
        wanted = sum(map(len, targets))
        try:
            pages = self._stream.decompress(data, wanted + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if self._stream.eof:
            raise ValueError("the stream of the channel ends")
        fill_targets(targets, pages)
