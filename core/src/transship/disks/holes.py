"""Holes in files: made where a file system can, and found where it says."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PUNCH_HOLE: Final = 0x02
_KEEP_SIZE: Final = 0x01
_CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def punch_hole(descriptor: int, offset: int, length: int) -> bool:
    """Make a range read as zero, and give its room back. The file's size stays.

    Returns:
        Whether it was done; False where that cannot be had.

    Raises:
        OSError: It failed.
    """
    fallocate = _fallocate()
    if fallocate is None:
        return False
    place, size = ctypes.c_int64(offset), ctypes.c_int64(length)
    while fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, place, size):
        number = ctypes.get_errno()
        if number in _CANNOT:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True


def stretches(descriptor: int, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
    """What a range consists of: from, to, and whether there is data; a hole reads as zero.

    Where the file system knows of no holes everything is data.

    Raises:
        OSError: The file cannot be asked.
    """
    end = offset + length
    while offset < end:
        try:
            data = min(os.lseek(descriptor, offset, os.SEEK_DATA), end)
            if offset < data:
                yield offset, data, False
            if data < end:
                offset = min(os.lseek(descriptor, data, os.SEEK_HOLE), end)
                yield data, offset, True
            else:
                offset = end
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.EINVAL):
                raise
            yield offset, end, error.errno == errno.EINVAL
            offset = end


@cache
def _fallocate() -> Any:
    """The C library's function with 64-bit places, if it has one."""
    libc = ctypes.CDLL(None, use_errno=True)
    return getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
