"""Memory for guests: where it comes from, and what the kernel is told about it.

Every function here asks the operating system for something. What is only there to be faster (huge
pages) is asked for and never insisted upon.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from contextlib import suppress
from typing import Final

_MADV_POPULATE_WRITE: Final = 23
"""Source: Linux 5.14, ``asm-generic/mman-common.h``; the module mmap does not name it yet."""

_TOUCHED_BYTES: Final = 1 << 20
_MOST_NAME_BYTES: Final = 249
"""Source: memfd_create(2), without the final zero byte."""


def map_anonymous(length: int) -> mmap.mmap:
    """Private memory, all zero, that costs nothing until it is written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return mmap.mmap(-1, length, flags=flags)


def create_memfd(name: str, length: int) -> int:
    """A descriptor of memory, all zero, that can be given to other processes.

    It is sealed against shrinking: whoever maps it may be sure that no access to it is fatal.

    Args:
        name: What ``/proc`` shows; cut where it is too long.
        length: Bytes.

    Raises:
        OSError: There is no such thing here, or no descriptor left.
    """
    shown = os.fsencode(name)[:_MOST_NAME_BYTES].decode("utf-8", "ignore")
    descriptor = os.memfd_create(shown, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, length)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def empty(memfd: int) -> None:
    """Give the memory of a memfd back: also whoever maps it reads zeros from now on.

    Raises:
        OSError: It cannot be written.
    """
    with mmap.mmap(memfd, 0) as mapping:
        mapping.madvise(mmap.MADV_REMOVE)


def is_sealed_against_shrinking(descriptor: int) -> bool:
    """Whether a mapping of this file can never lose its memory."""
    try:
        return bool(fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no kind of file that can be sealed
            return False
        raise


def advise_huge_pages(mapping: mmap.mmap) -> None:
    """Ask for huge pages; whether there are any is the system's policy."""
    with suppress(OSError):  # a kernel without them
        mapping.madvise(mmap.MADV_HUGEPAGE)


def prefault(mapping: mmap.mmap) -> None:
    """Give all of a mapping its memory now, so that the first write to a page costs nothing more.

    Args:
        mapping: Fresh: where the kernel cannot do this by itself, zeros are written.

    Raises:
        OSError: There is not so much memory.
    """
    try:
        mapping.madvise(_MADV_POPULATE_WRITE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        zeros = bytes(_TOUCHED_BYTES)
        for start in range(0, len(mapping), _TOUCHED_BYTES):
            end = min(start + _TOUCHED_BYTES, len(mapping))
            mapping[start:end] = zeros[: end - start]


def address_of(memory: mmap.mmap | bytearray) -> int:
    """Where a writable buffer begins, in this process; it is not held."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
