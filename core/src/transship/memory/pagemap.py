"""PAGEMAP_SCAN: which protected pages of a process were written; asking protects them again.

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
        argument = bytearray(
            _ARGUMENT.pack(
                _ARGUMENT.size,
                _WP_MATCHING | _CHECK_WPASYNC,
                start,
                end,
                0,
                self._address,
                _REGIONS,
                0,
                0,
                _IS_WRITTEN,
                0,
                _IS_WRITTEN,
            )
        )
        found = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, argument)
        (walk_end,) = _WALK_END.unpack_from(argument, _WALK_END_OFFSET)
        return found, walk_end
