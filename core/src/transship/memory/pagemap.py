"""PAGEMAP_SCAN: which pages of a process were written, as the kernel knows.

Source of the numbers: ``linux/fs.h`` of Linux 6.7.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING, Final

from transship.memory.mappings import address_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGEMAP_SCAN: Final = 0xC0606610
_WP_MATCHING: Final = 1 << 0
_CHECK_WPASYNC: Final = 1 << 1
_IS_WRITTEN: Final = 1 << 1
_IS_OF_A_FILE: Final = 1 << 2
_IS_PRESENT: Final = 1 << 3
_IS_SWAPPED: Final = 1 << 4
_ARGUMENT: Final = struct.Struct("12Q")
"""Size, flags, start, end, where it ended; vector, its length; most pages, inverted categories,
categories that all must hold, of which one must, and which are told."""
_WALK_END: Final = struct.Struct("Q")
_WALK_END_OFFSET: Final = 32

REGION_BYTES: Final = 24
"""A ``struct page_region``: its first address, the one behind its last, and its categories."""

_REGIONS: Final = 1 << 15
"""Taken with one system call: some 0.8 MB."""


def open_pagemap(process: int | None = None) -> int:
    """A descriptor that tells of the pages of a process, of this one if none is given.

    Raises:
        OSError: There is no such process, or this one may not trace it.
    """
    return os.open(f"/proc/{process or 'self'}/pagemap", os.O_RDONLY | os.O_CLOEXEC)


class WrittenPages:
    """Finds written pages, and protects each of them again before it is told.

    Args:
        pagemap: Of the process that has the memory; borrowed.
    """

    def __init__(self, pagemap: int) -> None:
        self._pagemap = pagemap
        self._regions = bytearray(_REGIONS * REGION_BYTES)
        self._address = address_of(self._regions)

    def take(self, start: int, length: int) -> Iterator[memoryview]:
        """Yield regions of written pages as they are found; good until the next is asked for.

        Raises:
            OSError: Some of the memory is not registered to be protected without a handler.
        """
        at, end = start, start + length
        with memoryview(self._regions) as regions:
            while at < end:
                found, at = self._scan(at, end)
                with regions[: found * REGION_BYTES] as part:
                    yield part

    def _scan(self, start: int, end: int) -> tuple[int, int]:
        """One system call: how many regions it found, and how far it came."""
        return _scan(
            self._pagemap,
            (start, end),
            (self._address, _REGIONS),
            flags=_WP_MATCHING | _CHECK_WPASYNC,
            all_of=_IS_WRITTEN,
        )


def has_own_pages(pagemap: int, start: int, length: int) -> bool:
    """Whether a private mapping of a file has pages that are no longer the file's.

    Args:
        pagemap: Of the process that has the mapping; borrowed.
        start: Where it begins.
        length: Bytes.

    Raises:
        OSError: The kernel is older than this question.
    """
    region = bytearray(REGION_BYTES)
    found, _ = _scan(
        pagemap,
        (start, start + length),
        (address_of(region), 1),
        inverted=_IS_OF_A_FILE,
        all_of=_IS_OF_A_FILE,
        any_of=_IS_PRESENT | _IS_SWAPPED,
        most_pages=1,
    )
    return found > 0


def _scan(
    pagemap: int,
    addresses: tuple[int, int],
    regions: tuple[int, int],
    *,
    flags: int = 0,
    inverted: int = 0,
    all_of: int = 0,
    any_of: int = 0,
    most_pages: int = 0,
) -> tuple[int, int]:
    """One system call: how many regions it found, and how far it came."""
    argument = bytearray(
        _ARGUMENT.pack(
            _ARGUMENT.size,
            flags,
            *addresses,
            0,
            *regions,
            most_pages,
            inverted,
            all_of,
            any_of,
            all_of | any_of,
        )
    )
    found = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument)
    (walk_end,) = _WALK_END.unpack_from(argument, _WALK_END_OFFSET)
    return found, walk_end
