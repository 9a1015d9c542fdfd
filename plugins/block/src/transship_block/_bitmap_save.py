"""The source's side of dirty bitmaps: all bits at once, when the guest stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError
from transship.wire.limits import IDSTR_BYTES
from transship.wire.storage import (
    BITMAP_CHUNK_BYTES,
    BITMAP_EOS,
    BITMAPS,
    SECTOR_BYTES,
    BitmapWriter,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Segments
    from transship_block._aliases import NamedBitmap

_MOST_SECTORS: Final = (1 << 32) - 1
"""What one chunk can be said to cover."""


class BitmapSaver:
    """Sends dirty bitmaps.

    Args:
        bitmaps: Which, and what they are called.

    Attributes:
        bitmaps: How many.
    """

    def __init__(self, bitmaps: Iterable[NamedBitmap]) -> None:
        self._named = list(bitmaps)
        self.bitmaps = len(self._named)
        self._writer = BitmapWriter()

    def begin(self) -> Segments:
        """Announce all of them.

        Raises:
            BlockedError: The stream cannot carry them.
        """
        _check(self._named)
        for named in self._named:
            yield self._writer.start(
                named.node_alias,
                named.bitmap_alias,
                named.bitmap.granularity_bytes,
                is_enabled=named.bitmap.is_enabled,
                is_persistent=named.is_persistent,
            )
        yield BITMAP_EOS
        return True

    def complete(self) -> Segments:
        """Yield the bits of all of them, then say that that is all."""
        for named in self._named:
            yield from self._bits(named)
        for named in self._named:
            yield self._writer.complete(named.node_alias, named.bitmap_alias)
        yield BITMAP_EOS
        return True

    def _bits(self, named: NamedBitmap) -> Segments:
        bits, granularity = named.bitmap.bits, named.bitmap.granularity_bytes
        disk_sectors = -(-named.disk.size_bytes // SECTOR_BYTES)
        sectors_each = granularity // SECTOR_BYTES
        step = min(8 * BITMAP_CHUNK_BYTES, _MOST_SECTORS // sectors_each)
        for first in range(0, len(bits), step):
            count = min(step, len(bits) - first)
            first_sector = first * sectors_each
            sectors = min(count * sectors_each, disk_sectors - first_sector)
            packed = bits.to_bits(first, count)
            yield self._writer.bits(
                named.node_alias, named.bitmap_alias, first_sector, sectors, packed
            )
        return True


def _check(bitmaps: list[NamedBitmap]) -> None:
    if len(bitmaps) > BITMAPS:
        raise BlockedError(
            "the guest has more dirty bitmaps than a stream carries",
            section="dirty-bitmap",
            expected=f"at most {BITMAPS}",
            found=str(len(bitmaps)),
        )
    for named in bitmaps:
        for name in (named.node_alias, named.bitmap_alias):
            if not 0 < len(name.encode()) <= IDSTR_BYTES:
                raise BlockedError(
                    f"{name[:40]!r} does not fit the stream",
                    section="dirty-bitmap",
                    expected=f"a name of 1 to {IDSTR_BYTES} bytes",
                    hint="block-bitmap-mapping gives it another",
                )
