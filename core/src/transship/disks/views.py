"""A guest's disk as a device for others: with the guest's way to write, or a migration's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.abc.disk import BlockDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.abc.disk import Disk, DiskLoad, Extent
    from transship.buffers import Buffer


class GuestView(BlockDevice):
    """A disk as its guest uses it: writes are logged, or refused while it is inactive.

    It neither acquires nor closes the disk's device.

    Args:
        disk: The disk.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.kind = disk.device.kind
        self.is_read_only = disk.device.is_read_only

    @property
    def address(self) -> str:
        """That of the disk's device."""
        return self.disk.device.address

    @property
    def size_bytes(self) -> int:
        """The disk's."""
        return self.disk.size_bytes

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill the whole of ``target``."""
        self.disk.read_into(offset, target)

    def write(self, offset: int, data: Buffer) -> None:
        """Write as the guest does."""
        self.disk.write(offset, data)

    def write_zeroes(self, offset: int, length: int) -> None:
        """As :meth:`write`."""
        self.disk.write_zeroes(offset, length)

    def discard(self, offset: int, length: int) -> None:
        """As :meth:`write`."""
        self.disk.discard(offset, length)

    def flush(self) -> None:
        """Flush the disk."""
        self.disk.flush()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What the disk's device says."""
        return self.disk.device.extents(offset, length)


class LoadView(GuestView):
    """A disk to be filled before its guest comes; refuses writes once the right to that has ended.

    Args:
        load: That right; ended by whoever has got it.
    """

    def __init__(self, load: DiskLoad) -> None:
        super().__init__(load.disk)
        self._load = load

    def write(self, offset: int, data: Buffer) -> None:
        """Write as a migration does."""
        self._load.write(offset, data)

    def write_zeroes(self, offset: int, length: int) -> None:
        """As :meth:`write`."""
        self._load.write_zeroes(offset, length)

    def discard(self, offset: int, length: int) -> None:
        """A hint, which a disk that is being filled has no use for."""
