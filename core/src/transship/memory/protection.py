"""WriteProtection: who writes to memory, as the kernel notices it.

For memory that native code writes. It sees every write through the mapping that it watches, be it
by the process itself or by the kernel on its behalf; no writes through other mappings of the same
memory, and none to the file below it (``pwrite``, a punched hole).
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from transship.errors import LocalError
from transship.memory import kernels
from transship.memory.mappings import address_of, create_memfd, map_anonymous
from transship.memory.pagemap import WrittenPages, open_pagemap
from transship.memory.userfault import open_userfaultfd, protect, register, unregister

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.buffers import Buffer

_CHUNK_BYTES: Final = 64 << 20
"""Protected or given back at once. Meanwhile the kernel holds up whoever in this process needs
memory: some 1.5 ms for 64 MiB, where 16 GiB at once would be 0.3 s."""


class WriteProtection:
    """Protects memory of one process, and tells what was written in spite of it.

    Both descriptors may be sent to another process, which then watches this one's memory, and needs
    no other right to. They go with the last copy of them, and the protection with them. What a
    method does it does undisturbed by calls from other threads.

    Args:
        userfaultfd: Made by the process whose memory it is; owned from now on.
        pagemap: Of that process; owned as well.
    """

    def __init__(self, userfaultfd: int, pagemap: int) -> None:
        self._userfaultfd = userfaultfd
        self._pagemap = pagemap
        self._written = WrittenPages(pagemap)
        self._is_open = True
        self._lock = threading.Lock()

    @classmethod
    def of_this_process(cls) -> Self:
        """Protection of memory that this process has mapped.

        Raises:
            LocalError: The kernel has none, or not for us.
        """
        try:
            userfaultfd = open_userfaultfd()
        except OSError as error:
            raise _unavailable(error) from error
        try:
            return cls(userfaultfd, open_pagemap())
        except OSError as error:
            os.close(userfaultfd)
            raise _unavailable(error) from error

    @property
    def descriptors(self) -> tuple[int, int]:
        """Userfaultfd and pagemap, in the order in which the constructor takes them. Borrowed."""
        return self._userfaultfd, self._pagemap

    def track(self, start: int, length: int) -> None:
        """Begin: from now on no write to this memory is missed.

        Args:
            start: An address in the process whose memory it is, at the border of a page of its.
            length: Bytes, whole pages.

        Raises:
            LocalError: The kernel refuses.
        """
        with self._open(start, length):
            register(self._userfaultfd, start, length)
        for at, size in _chunks(start, length):
            with self._open(at, size):
                protect(self._userfaultfd, at, size)

    def take(self, start: int, length: int, page_size: int, marks: Buffer) -> int:
        """Mark the pages written since this was last asked; each is protected before it is marked.

        Args:
            start: An address in memory that is tracked.
            length: Bytes, whole pages.
            page_size: Bytes of a page, as marks count them.
            marks: One byte for each page of the memory; becomes 1 for those written.

        Returns:
            How many of them were 0 before.

        Raises:
            LocalError: Some of the memory is not tracked, or its process has gone.
        """
        mark_ranges = kernels.current().mark_ranges
        fresh = 0
        with self._open(start, length):
            for regions in self._written.take(start, length):
                fresh += mark_ranges(regions, start, page_size, marks)
        return fresh

    def untrack(self, start: int, length: int) -> None:
        """Track memory no longer. Never fails: memory that has gone is not tracked either."""
        for at, size in _chunks(start, length):
            try:
                with self._open(at, size):
                    unregister(self._userfaultfd, at, size)
            except LocalError:
                return

    def close(self) -> None:
        """Close both descriptors; idempotent."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._userfaultfd)
                os.close(self._pagemap)

    @contextmanager
    def _open(self, start: int, length: int) -> Iterator[None]:
        """Have the descriptors to oneself, and say what went wrong in our words."""
        with self._lock:
            if not self._is_open:
                raise LocalError("write protection that has been closed was asked of memory")
            try:
                yield
            except OSError as error:
                raise LocalError(
                    f"writes to the memory at {start:#x} cannot be tracked",
                    expected=f"{length} bytes of one process, mapped and watched by nobody else",
                    found=error.strerror or str(error),
                ) from error


def check_write_protection() -> None:
    """Try all that is needed of the kernel on a few pages.

    Raises:
        LocalError: Something of it is missing.
    """
    length = 4 * mmap.PAGESIZE
    memfd = create_memfd("trial", length)
    try:
        with map_anonymous(length) as private, mmap.mmap(memfd, length) as shared:
            protection = WriteProtection.of_this_process()
            try:
                for memory in (private, shared):
                    _try(protection, memory)
            finally:
                protection.close()
    finally:
        os.close(memfd)


def _try(protection: WriteProtection, memory: mmap.mmap) -> None:
    start, length = address_of(memory), len(memory)
    memory[0] = 1
    protection.track(start, length)
    for page in (0, 2):  # one that is there, and one that never was
        memory[page * mmap.PAGESIZE] = 2
    for expected in (b"\1\0\1\0", bytes(4)):
        marks = bytearray(4)
        protection.take(start, length, mmap.PAGESIZE, marks)
        if marks != expected:
            raise LocalError(
                "write protection by the kernel does not tell what was written",
                expected=expected.hex(),
                found=marks.hex(),
            )


def _chunks(start: int, length: int) -> Iterator[tuple[int, int]]:
    end = start + length
    for at in range(start, end, _CHUNK_BYTES):
        yield at, min(_CHUNK_BYTES, end - at)


def _unavailable(error: OSError) -> LocalError:
    kind = errno.errorcode.get(error.errno or 0, "?")
    return LocalError(
        "this kernel does not protect memory for us",
        expected="Linux 6.7 or later, with userfaultfd allowed",
        found=f"{error.strerror} ({kind})",
    )
