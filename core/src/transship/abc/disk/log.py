"""What is to be known of writes to a disk: for a copy that is being made, and for backups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.memory.bitmap import DirtyBitmap

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc.disk.disk import Disk


class DiskBitmap:
    """A named dirty bitmap: what has been written to a disk since somebody cares, say for a backup.

    Args:
        name: Its name, unique on the disk.
        size_bytes: Of the disk.
        granularity_bytes: How much of the disk one bit stands for, a power of two.
        is_enabled: Whether writes are recorded.
        is_persistent: Whether it is to be stored with the disk.

    Attributes:
        bits: What was written, a granule a page. Changed by the disk in any thread.
    """

    def __init__(
        self,
        name: str,
        size_bytes: int,
        granularity_bytes: int,
        *,
        is_enabled: bool = True,
        is_persistent: bool = False,
    ) -> None:
        self.name = name
        self.granularity_bytes = granularity_bytes
        self.is_enabled = is_enabled
        self.is_persistent = is_persistent
        self.bits = DirtyBitmap(granules(size_bytes, granularity_bytes))


class DiskLog:
    """What is written to a disk while it is copied; :meth:`Disk.start_log` makes it.

    Attributes:
        follow: Called after each write, with its place and length, instead of noting it: in the
            writer's thread, before the guest hears that it has written. It must not raise. None
            as long as writes are noted.
    """

    def __init__(self, disk: Disk, granularity_bytes: int) -> None:
        self.granularity_bytes: Final = granularity_bytes
        self.follow: Callable[[int, int], None] | None = None
        self._disk = disk
        self._bits = DirtyBitmap(granules(disk.size_bytes, granularity_bytes))

    def take(self) -> DirtyBitmap:
        """The granules written since the last call, which are forgotten here.

        They are to be read after this: what is written meanwhile is in the next answer.
        """
        with self._disk.marking:
            return self._bits.take()

    @property
    def is_clean(self) -> bool:
        """Whether :meth:`take` would give nothing; costs little."""
        return self._bits.is_clean

    def count_dirty(self) -> int:
        """How many granules :meth:`take` would give."""
        return self._bits.count()

    def follow_with(self, follow: Callable[[int, int], None] | None) -> None:
        """Set :attr:`follow`; a write that is being noted meanwhile is noted first."""
        with self._disk.marking:
            self.follow = follow

    def mark(self, offset: int, length: int) -> None:
        """Note a write; the disk does it."""
        mark(self._bits, offset, length, self.granularity_bytes)

    def stop(self) -> None:
        """Log no more; idempotent."""
        self._disk.forget_log(self)


def granules(size_bytes: int, granularity_bytes: int) -> int:
    """How many granules a size takes; the last one may be a part of one."""
    return -(-size_bytes // granularity_bytes)


def mark(bits: DirtyBitmap, offset: int, length: int, granularity_bytes: int) -> None:
    """Mark what is within the bitmap; a write that was refused for its place reaches beyond."""
    first = max(offset, 0) // granularity_bytes
    end = min(granules(offset + length, granularity_bytes), len(bits))
    if first < end:
        bits.mark(first, end - first)
