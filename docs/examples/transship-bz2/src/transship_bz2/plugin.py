"""``bz2``: each packet is a stream of its own, since bzip2 cannot be flushed and go on."""

from __future__ import annotations

import bz2
from typing import TYPE_CHECKING, Final

from transship import hookimpl
from transship.abc import Compression, Compressor, Decompressor
from transship.toolkit import fill_targets
from transship.wire.multifd import PACKET_DATA_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Parameters
    from transship.buffers import Buffer

_WIRE_FLAG: Final = 0x30
"""Two bits: those of one alone are QEMU's."""

_LEVEL: Final = 6
"""A block of 600 kB holds a whole packet; a higher level would change nothing."""


@hookimpl
def create_compression() -> Compression:
    """Make the method ``bz2``."""
    return Bz2()


class Bz2(Compression):
    """The method."""

    name = "bz2"
    wire_flag = _WIRE_FLAG
    most_growth_bytes = PACKET_DATA_BYTES // 100 + 600  # as the manual of bzip2 has it

    def compressor(self, parameters: Parameters) -> Compressor:
        """What compresses a channel's packets."""
        return _Compressor()

    def decompressor(self) -> Decompressor:
        """What decompresses them."""
        return _Decompressor()


class _Compressor(Compressor):
    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        """Compress a copy of the pages: the guest may write to them meanwhile."""
        return bz2.compress(b"".join(pages), _LEVEL)


class _Decompressor(Decompressor):
    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        """Ask for one byte too many, which is how too much shows; never for all there is."""
        stream = bz2.BZ2Decompressor()
        try:
            pages = stream.decompress(data, sum(map(len, targets)) + 1)
        except OSError as error:
            raise ValueError(str(error)) from error
        if not stream.eof or stream.unused_data:
            raise ValueError("not exactly one stream of bzip2")
        fill_targets(targets, pages)
