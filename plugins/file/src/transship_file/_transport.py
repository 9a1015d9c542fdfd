"""Opens a file to be written, or to be read, from an offset on."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from transship.errors import ConnectError
from transship.toolkit import FileChannel, SingleListener, stored_or_not

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Listener
    from transship_file._uri import FileAddress

_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
"""What flock(2) says of file systems that have no locks."""


@asynccontextmanager
async def connect(address: FileAddress) -> AsyncIterator[Channel]:
    """Write to a file, which is made if it is not there; what it had from the offset on is gone.

    So is what was written, if it is left with an exception.

    Raises:
        ConnectError: It cannot be opened, is in use, or is neither a file nor a block device.
    """
    descriptor = await trio.to_thread.run_sync(_open_to_write, address)
    async with stored_or_not(FileChannel(str(address), descriptor)) as channel:
        yield channel


@asynccontextmanager
async def listen(address: FileAddress) -> AsyncIterator[Listener]:
    """Read from a file.

    Raises:
        ConnectError: It cannot be opened, is being written, or is neither a file nor a block
            device.
    """
    descriptor = await trio.to_thread.run_sync(_open_to_read, address)
    channel = FileChannel(str(address), descriptor)
    listener = SingleListener(channel, str(address.absolute()), trio.lowlevel.checkpoint)
    try:
        yield listener
    finally:
        await listener.aclose()


def _open_to_write(address: FileAddress) -> int:
    descriptor = _open(address, os.O_WRONLY | os.O_CREAT)
    try:
        mode = _check(os.fstat(descriptor), address)
        _lock(descriptor, address, fcntl.LOCK_EX)
        if stat.S_ISREG(mode):
            os.ftruncate(descriptor, address.offset)
        os.lseek(descriptor, address.offset, os.SEEK_SET)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise ConnectError(f"cannot write to {address}: {error.strerror}") from error
        raise
    if address.descriptor is None:
        _keep_name(address.path)
    return descriptor


def _open_to_read(address: FileAddress) -> int:
    descriptor = _open(address, os.O_RDONLY)
    try:
        _check(os.fstat(descriptor), address)
        _lock(descriptor, address, fcntl.LOCK_SH)
        os.lseek(descriptor, address.offset, os.SEEK_SET)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise ConnectError(f"cannot read from {address}: {error.strerror}") from error
        raise
    return descriptor


def _open(address: FileAddress, flags: int) -> int:
    """Open the file, or duplicate what it is open as."""
    try:
        if address.descriptor is not None:
            return fcntl.fcntl(address.descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        # Opening alone may wait (a named pipe), or do something (a tape is rewound).
        with suppress(FileNotFoundError):
            _check(os.stat(address.path), address)
        return os.open(address.path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise ConnectError(f"cannot open {address}: {error.strerror}") from error


def _check(found: os.stat_result, address: FileAddress) -> int:
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        raise ConnectError(
            f"{address} is neither a file nor a block device",
            found=f"mode {stat.filemode(found.st_mode)}",
            hint="exec: and fd: carry a stream through pipes",
        )
    return found.st_mode


def _lock(descriptor: int, address: FileAddress, kind: int) -> None:
    """Keep others of us from a file that is being written; it ends with the descriptor.

    One that was handed over stays open elsewhere, and the lock would stay with it: it gets none.
    """
    if address.descriptor is not None:
        return
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConnectError(f"{address} is in use by another migration") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _keep_name(path: str) -> None:
    """Have the name of a new file on the disk as well, where the system lets us."""
    with suppress(OSError):
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
