"""The destination's side of dirty bitmaps.

A bitmap is a convenience: the next backup is a full one without it. So what cannot be taken here is
dropped with a warning, as QEMU does, and the guest arrives all the same; only a stream that nobody
sends is refused.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from transship.abc import DiskBitmap
from transship.errors import LocalError
from transship.wire.storage import (
    SECTOR_BYTES,
    BitmapBits,
    BitmapComplete,
    BitmapParser,
    BitmapStart,
    BodyEnd,
    padded_bits_size,
)
from transship_block._aliases import Target, target_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Disk, Guest, NodeAlias
    from transship.wire.reader import Parsing, StreamReader

LOG: Final = logging.getLogger(__name__)


class BitmapLoader:
    """Loads dirty bitmaps.

    Args:
        guest: Whose disks they belong to.
        mapping: What they are called in the stream; None for their own names.

    Attributes:
        bitmaps: How many have been taken.
        dropped: How many have not.
    """

    def __init__(self, guest: Guest, mapping: Sequence[NodeAlias] | None) -> None:
        self.bitmaps = self.dropped = 0
        self._guest = guest
        self._mapping = mapping
        self._parser = BitmapParser()
        self._coming: dict[tuple[str, str], tuple[Disk, DiskBitmap]] = {}

    def load(self, reader: StreamReader) -> Parsing[None]:
        """Parse the body of a record.

        Raises:
            StreamError: It is none.
        """
        while not isinstance(event := (yield from self._parser.next_event(reader)), BodyEnd):
            match event:
                case BitmapStart():
                    self._start(event)
                case BitmapBits():
                    yield from self._bits(reader, event)
                case BitmapComplete():
                    self._complete(event)

    def _start(self, start: BitmapStart) -> None:
        target = target_of(self._guest.disks(), self._mapping, start.node, start.bitmap)
        if not isinstance(target, Target):
            self._drop(start, target)
            return
        if target.name in target.disk.bitmaps:
            self._drop(start, f"disk {target.disk.name!r} has a bitmap {target.name!r} already")
            return
        is_persistent = target.is_persistent
        bitmap = DiskBitmap(
            target.name,
            target.disk.size_bytes,
            start.granularity,
            is_enabled=start.is_enabled,
            is_persistent=start.is_persistent if is_persistent is None else is_persistent,
        )
        self._coming[start.node, start.bitmap] = target.disk, bitmap

    def _bits(self, reader: StreamReader, bits: BitmapBits) -> Parsing[None]:
        coming = self._coming.get((bits.node, bits.bitmap))
        span = None if coming is None else _span(coming[1], bits)
        if coming is None or span is None or bits.size not in (0, padded_bits_size(len(span))):
            yield from reader.drop(bits.size)
            if coming is not None:
                self._drop(bits, f"its bits are not those of disk {coming[0].name!r} here")
            return
        if bits.size:
            data = yield from reader.take_large(bits.size)
            coming[1].bits.set_bits(span.start, len(span), data)
        else:
            coming[1].bits.clear(span.start, len(span))

    def _complete(self, complete: BitmapComplete) -> None:
        coming = self._coming.pop((complete.node, complete.bitmap), None)
        if coming is None:
            return
        disk, bitmap = coming
        try:
            disk.add_bitmap(bitmap)
        except LocalError as error:
            self._drop(complete, error.cause)
        else:
            self.bitmaps += 1

    def _drop(self, chunk: BitmapStart | BitmapBits | BitmapComplete, reason: str) -> None:
        self._coming.pop((chunk.node, chunk.bitmap), None)
        self.dropped += 1
        LOG.warning("dirty bitmap %r of %r is dropped: %s", chunk.bitmap, chunk.node, reason)


def _span(bitmap: DiskBitmap, bits: BitmapBits) -> range | None:
    """The granules that a chunk is about; None if those are none of this bitmap's."""
    sectors_each = bitmap.granularity_bytes // SECTOR_BYTES
    first = bits.first_sector // sectors_each
    count = -(-bits.sectors // sectors_each)
    if bits.first_sector % sectors_each or first + count > len(bitmap.bits):
        return None
    return range(first, first + count)
