"""userfaultfd: which memory of a process the kernel protects against writes, and lets pass.

In the asynchronous mode used here nobody has to answer a fault: the first write to a protected page
makes it writable again, at once, and :mod:`transship.memory.pagemap` tells which pages that befell.

Source of the numbers: ``linux/userfaultfd.h`` of Linux 6.7, the first to have this mode, and its
tables of system calls.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from typing import Final

_SYSCALL: Final = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "loongarch64": 282}
_USER_MODE_ONLY: Final = 1
"""Without it a plain user gets no descriptor. Asynchronous protection does not need more: writes by
the kernel into the memory (``recv_into``) are logged all the same."""

_USERFAULTFD_IOC_NEW: Final = 0xAA00
_UFFDIO_API: Final = 0xC018AA3F
_UFFDIO_REGISTER: Final = 0xC020AA00
_UFFDIO_UNREGISTER: Final = 0x8010AA01
_UFFDIO_WRITEPROTECT: Final = 0xC018AA06

_API: Final = 0xAA
_PAGEFAULT_FLAG_WP: Final = 1 << 0
_WP_HUGETLBFS_SHMEM: Final = 1 << 12
_WP_UNPOPULATED: Final = 1 << 13
_WP_ASYNC: Final = 1 << 15
_FEATURES: Final = _PAGEFAULT_FLAG_WP | _WP_HUGETLBFS_SHMEM | _WP_UNPOPULATED | _WP_ASYNC
"""Anonymous and shared memory, pages that were never written, and no handler."""

_REGISTER_MODE_WP: Final = 2
_WRITEPROTECT_MODE_WP: Final = 1

_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK


def open_userfaultfd() -> int:
    """A descriptor with which memory of this process is protected; also by who gets it from us.

    Raises:
        OSError: The kernel does not have it, not in this mode, or does not allow it.
    """
    try:
        descriptor = _by_system_call()
    except OSError:
        descriptor = _by_device()
    try:
        _control(descriptor, _UFFDIO_API, struct.pack("3Q", _API, _FEATURES, 0))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def register(userfaultfd: int, start: int, length: int) -> None:
    """Let memory be protected from now on; nothing is yet."""
    _control(userfaultfd, _UFFDIO_REGISTER, struct.pack("4Q", start, length, _REGISTER_MODE_WP, 0))


def protect(userfaultfd: int, start: int, length: int) -> None:
    """Protect all pages of registered memory, the ones that are not there yet as well."""
    _control(
        userfaultfd, _UFFDIO_WRITEPROTECT, struct.pack("3Q", start, length, _WRITEPROTECT_MODE_WP)
    )


def unregister(userfaultfd: int, start: int, length: int) -> None:
    """Protect memory no longer."""
    _control(userfaultfd, _UFFDIO_UNREGISTER, struct.pack("2Q", start, length))


def _by_system_call() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYSCALL.get(os.uname().machine, -1)
    descriptor: int = libc.syscall(ctypes.c_long(number), ctypes.c_int(_FLAGS | _USER_MODE_ONLY))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "userfaultfd")
    return descriptor


def _by_device() -> int:
    """The way for those whom system calls are filtered, or whose number is not known here."""
    device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(device, _USERFAULTFD_IOC_NEW, _FLAGS)
    finally:
        os.close(device)


def _control(userfaultfd: int, request: int, argument: bytes) -> None:
    """One ioctl; other threads run meanwhile, since the argument is small."""
    fcntl.ioctl(userfaultfd, request, bytearray(argument))
