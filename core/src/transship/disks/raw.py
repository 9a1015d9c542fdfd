"""Raw images: files, or the host's block devices, whose bytes are those of the disk."""

from __future__ import annotations

import errno
import os
import stat
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from transship.abc.disk import BlockDevice, Extent
from transship.disks.holes import punch_hole, stretches
from transship.disks.lock import ImageLock
from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transship.buffers import Buffer

SECTOR_BYTES: Final = 512
"""What a guest can address; the size of an image is a multiple of it."""

_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK


class RawImage(BlockDevice):
    """A raw image. Made by :meth:`create`, :meth:`open` or :meth:`over`.

    Zeroes are holes where the file system can; what was never written takes no room. It is written
    only while it is acquired, and while it is, nobody else who locks images writes to it, a QEMU
    included.

    Attributes:
        path: Where it was opened.
    """

    kind = "raw"

    def __init__(
        self, path: Path, descriptor: int, *, read_only: bool, max_size_bytes: int | None
    ) -> None:
        """Not to be called: see :meth:`create`, :meth:`open` and :meth:`over`."""
        self.path = path
        self.is_read_only = read_only
        self._descriptor = descriptor
        self._max_size_bytes = max_size_bytes
        self._can_punch = True
        self._growing = Lock()
        self._size_bytes = self._look_up_size()
        self._lock = ImageLock(descriptor, str(path), is_shared=read_only)

    @classmethod
    def create(cls, path: Path, size_bytes: int, *, max_size_bytes: int | None = None) -> Self:
        """Make a new image, all zero and without storage.

        Args:
            path: Where; there must be nothing.
            size_bytes: How large, whole sectors.
            max_size_bytes: Up to where a write lets it grow; None: it never grows.

        Raises:
            BlockedError: There is something, or it cannot be that large.
        """
        try:
            check_size(path, size_bytes)
            flags = _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL
            descriptor = os.open(path, flags, 0o600)
            try:
                os.ftruncate(descriptor, size_bytes)
            except BaseException:
                os.close(descriptor)
                path.unlink()
                raise
        except (OSError, OverflowError, ValueError) as error:
            raise BlockedError(
                f"no image can be made at {path}",
                expected=f"room for {size_bytes} bytes, and nothing there",
                found="more than any file can have"
                if isinstance(error, OverflowError)
                else getattr(error, "strerror", None) or str(error),
            ) from error
        return cls(path, descriptor, read_only=False, max_size_bytes=max_size_bytes)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open an image.

        Raises:
            BlockedError: It cannot be opened, is neither a file nor a block device, or its size is
                no number of sectors.
        """
        try:
            descriptor = os.open(path, _FLAGS | (os.O_RDONLY if read_only else os.O_RDWR))
        except (OSError, ValueError) as error:
            raise BlockedError(
                f"the image {path} cannot be opened",
                expected="a file that can be read" + ("" if read_only else " and written"),
                found=getattr(error, "strerror", None) or str(error),
            ) from error
        return cls.over(path, descriptor, read_only=read_only)

    @classmethod
    def over(cls, path: Path, descriptor: int, *, read_only: bool) -> Self:
        """Use a file that is open already; the descriptor is the image's from now on.

        Raises:
            BlockedError: As for :meth:`open`.
        """
        try:
            image = cls(path, descriptor, read_only=read_only, max_size_bytes=None)
            check_size(path, image.size_bytes)
        except BaseException:
            os.close(descriptor)
            raise
        return image

    @property
    def address(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        return self._size_bytes

    @property
    def max_size_bytes(self) -> int:
        """Up to where it may be written."""
        return self._size_bytes if self._max_size_bytes is None else self._max_size_bytes

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill the whole of ``target``."""
        self.check_range(offset, len(target), self._size_bytes)
        done = 0
        while done < len(target):
            with target[done:] as rest:
                count = os.preadv(self._descriptor, [rest], offset + done)
            if not count:
                raise OSError(errno.EIO, f"{self.path} has become shorter")
            done += count

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``."""
        self._begin_write(offset, len(data))
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                with view[done:] as rest:
                    done += os.pwrite(self._descriptor, rest, offset + done)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes; a hole, if the file system can."""
        self._begin_write(offset, length)
        if length and not self._punch(offset, length):
            super().write_zeroes(offset, length)

    def discard(self, offset: int, length: int) -> None:
        """Give the room of a range back, if the file system can."""
        self._begin_write(offset, length)
        if length:
            self._punch(offset, length)

    def flush(self) -> None:
        """Have all data on the medium."""
        if not self.is_read_only:
            os.fdatasync(self._descriptor)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What a range consists of; holes read as zero."""
        self.check_range(offset, length, self._size_bytes)
        for start, end, is_data in stretches(self._descriptor, offset, length):
            yield Extent(start, end - start, reads_as_zero=not is_data)

    def acquire(self) -> None:
        """Lock it, and look its size up again.

        Raises:
            LocalError: Somebody else has a lock on it, or its size is no number of sectors now.
        """
        self._lock.take()
        try:
            self._size_bytes = self._look_up_size()
            check_size(self.path, self._size_bytes)
        except BaseException:
            self._lock.drop()
            raise

    def release(self) -> None:
        """Flush, and unlock it."""
        if self._lock.is_held:
            self.flush()
            self._lock.drop()

    def close(self) -> None:
        """Release it, and close the file; only when no call is under way."""
        if self._descriptor < 0:
            return
        try:
            self.release()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin_write(self, offset: int, length: int) -> None:
        """See whether a range may be written, and grow to have it."""
        self.check_range(offset, length, self.max_size_bytes)
        if self.is_read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.path))
        if not self._lock.is_held:
            raise OSError(errno.EPERM, "the image is not acquired", str(self.path))
        if offset + length > self._size_bytes:
            with self._growing:
                size_bytes = -(-(offset + length) // SECTOR_BYTES) * SECTOR_BYTES
                if size_bytes > self._size_bytes:
                    os.ftruncate(self._descriptor, size_bytes)
                    self._size_bytes = size_bytes

    def _punch(self, offset: int, length: int) -> bool:
        self._can_punch = self._can_punch and punch_hole(self._descriptor, offset, length)
        return self._can_punch

    def _look_up_size(self) -> int:
        """The size of the file, or of the block device behind it.

        Raises:
            BlockedError: It is neither.
        """
        status = os.fstat(self._descriptor)
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        if stat.S_ISBLK(status.st_mode):
            return os.lseek(self._descriptor, 0, os.SEEK_END)
        raise BlockedError(
            f"{self.path} is no image", expected="a file or a block device", found="something else"
        )


def check_size(path: Path, size_bytes: int) -> None:
    """Refuse a size that no disk has.

    Raises:
        BlockedError: It is no number of sectors, or 0.
    """
    if size_bytes <= 0 or size_bytes % SECTOR_BYTES:
        raise BlockedError(
            f"the image {path} cannot be a disk",
            expected=f"whole sectors of {SECTOR_BYTES} bytes, at least one",
            found=f"{size_bytes} bytes",
            hint="truncate --size=%512 FILE makes it larger by what is missing",
        )
