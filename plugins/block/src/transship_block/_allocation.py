"""What is known of chunks without reading them: that they are zero, or only in the base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.errors import LocalError
from transship.wire.storage import CHUNK_BYTES

if TYPE_CHECKING:
    from transship.abc import Disk
    from transship_block._chunks import Place

_WINDOW: Final = 256
"""Chunks asked about at once: each question may be a round trip to a server."""

_HAS_DATA: Final = 1
_IS_ALLOCATED: Final = 2


class Allocation:
    """Asks disks what they consist of, some way ahead, and forgets it when told to.

    What is known was true after the last :meth:`forget`: what the guest has written since is in
    the log of its writes.
    """

    def __init__(self) -> None:
        self._disk: Disk | None = None
        self._first = 0
        self._kinds = bytearray()

    def forget(self) -> None:
        """The guest may have written."""
        self._disk = None

    def is_zero(self, place: Place) -> bool:
        """Whether all of a chunk is known to be zero."""
        return not self._kind(place) & _HAS_DATA

    def is_allocated(self, place: Place) -> bool:
        """Whether the disk has any of the chunk itself, not from a base."""
        return bool(self._kind(place) & _IS_ALLOCATED)

    def _kind(self, place: Place) -> int:
        number = place.number - self._first
        if place.disk is not self._disk or not 0 <= number < len(self._kinds):
            self._ask(place)
            number = 0
        return self._kinds[number]

    def _ask(self, place: Place) -> None:
        """Learn of the chunks from ``place`` on."""
        disk, start = place.disk, place.offset
        length = min(_WINDOW * CHUNK_BYTES, disk.size_bytes - start)
        kinds = bytearray(-(-length // CHUNK_BYTES))
        try:
            for extent in disk.device.extents(start, length):
                kind = _IS_ALLOCATED * extent.is_allocated + _HAS_DATA * (not extent.reads_as_zero)
                if not kind:
                    continue
                first = max(extent.offset - start, 0) // CHUNK_BYTES
                end = min(-(-(extent.end - start) // CHUNK_BYTES), len(kinds))
                for number in range(first, end):
                    kinds[number] |= kind
        except OSError as error:
            raise LocalError(
                f"disk {disk.name!r} does not say what it consists of",
                section="block",
                found=error.strerror or str(error),
            ) from error
        self._disk, self._first, self._kinds = disk, place.number, kinds
