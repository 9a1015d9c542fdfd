"""What a mapping shows, exchanged in place: its address, and every view of it, stay as they are."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from transship.memory.mappings import address_of
from transship.memory.pagemap import has_own_pages, open_pagemap

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000
"""Source: ``asm-generic/mman-common.h``; the module mmap names the first not, the second since
Python 3.13."""

_MREMAP_KEEPS_THE_OLD: Final = 7
"""MREMAP_MAYMOVE, MREMAP_FIXED and MREMAP_DONTUNMAP; source: mremap(2)."""

_MOVED_AT_ONCE: Final = 2 << 20
"""Between addresses that are congruent modulo this, whole page tables move."""

_UNMAPPED_AT_ONCE: Final = 2 << 20
"""Takes some 0.2 ms."""

_PROT_NONE: Final = 0
_NO_FILE: Final = -1
_FRESH: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


def show_private_copy(mapping: mmap.mmap, file: int, length: int) -> None:
    """Let a mapping show a file, and keep from the file whatever is written here from now on.

    A page shows what others write to the file until it is written here.

    Args:
        mapping: Nothing of its own is left but what lies beyond ``length``.
        file: Borrowed.
        length: Bytes from the beginning of both; whole pages of this host.

    Raises:
        OSError: The kernel refuses, and everything is as it was.
    """
    _map_over(mapping, file, length, mmap.MAP_PRIVATE | _MAP_NORESERVE)


def show_shared(mapping: mmap.mmap, file: int, length: int) -> None:
    """Let a mapping show a file, and write to it. Arguments and errors as above."""
    _map_over(mapping, file, length, mmap.MAP_SHARED)


def show_nothing(mapping: mmap.mmap, length: int) -> None:
    """Let a mapping be fresh memory of this process, all zero. Arguments and errors as above."""
    _map_over(mapping, _NO_FILE, length, _FRESH)


def is_written_here(mapping: mmap.mmap, length: int) -> bool:
    """Whether anything of what :func:`show_private_copy` shows has been written here.

    Raises:
        OSError: ``/proc`` is not to be had.
    """
    pagemap = open_pagemap()
    try:
        return has_own_pages(pagemap, address_of(mapping), length)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return _has_own_memory(address_of(mapping))
    finally:
        os.close(pagemap)


@contextmanager
def pages_moved_away(mapping: mmap.mmap, length: int) -> Iterator[None]:
    """Take all pages out of a mapping, so that showing something else there is quick.

    They go away in the background after the ``with``, which takes about a tenth of a second a GiB.
    A kernel before 5.13 cannot do this, and nothing happens.

    Args:
        mapping: Shared: it shows the same until something else is shown.
        length: Bytes from its beginning; whole pages of this host.
    """
    address = address_of(mapping)
    room = length + _MOVED_AT_ONCE
    elsewhere = _mmap(None, room, _PROT_NONE, _FRESH, _NO_FILE, 0)
    if elsewhere == _MAP_FAILED:
        yield
        return
    target = elsewhere + (address - elsewhere) % _MOVED_AT_ONCE
    _mremap(address, length, length, _MREMAP_KEEPS_THE_OLD, target)
    try:
        yield
    finally:
        threading.Thread(
            target=_unmap, args=(elsewhere, room), name="memory-release", daemon=True
        ).start()


def _unmap(address: int, length: int) -> None:
    """Unmap step by step: during each, whoever else wants memory in this process waits."""
    for start in range(0, length, _UNMAPPED_AT_ONCE):
        _munmap(address + start, min(_UNMAPPED_AT_ONCE, length - start))


def _has_own_memory(address: int) -> bool:
    """The same on older kernels, which then walk through all memory of this process."""
    prefix = f"{address:x}-"
    with open("/proc/self/smaps", encoding="ascii", errors="replace") as mappings:
        for line in mappings:
            if line.startswith(prefix):
                break
        for line in mappings:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) > 0
    raise FileNotFoundError(f"/proc/self/smaps does not list {prefix}")


def _map_over(mapping: mmap.mmap, file: int, length: int, flags: int) -> None:
    address = address_of(mapping)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    shown = _mmap(address, length, protection, flags | _MAP_FIXED, file, 0)
    if shown != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc: Final = ctypes.CDLL(None, use_errno=True)
_mmap: Final = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_mremap: Final = _libc.mremap
_mremap.restype = ctypes.c_void_p
_mremap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_void_p,
)
_munmap: Final = _libc.munmap
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
