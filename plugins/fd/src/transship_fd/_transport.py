"""Makes a channel of whatever a descriptor is: a socket, a pipe, a file."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship.errors import ConnectError
from transship.toolkit import (
    DescriptorSocketChannel,
    FileChannel,
    PipeChannel,
    SingleListener,
    SocketChannel,
    SocketListener,
    stored_or_not,
)
from transship_fd._taking import take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Listener
    from transship_fd._uri import FdAddress

_READS: Final = (os.O_RDONLY, os.O_RDWR)
_WRITES: Final = (os.O_WRONLY, os.O_RDWR)


@asynccontextmanager
async def connect(address: FdAddress) -> AsyncIterator[Channel]:
    """Send to a descriptor; it is closed when left.

    Raises:
        ConnectError: There is no such descriptor, or nothing can be sent to it.
    """
    await trio.lowlevel.checkpoint()
    descriptor = take(address)
    try:
        channel = _outgoing(descriptor, address)
    except BaseException:
        os.close(descriptor)
        raise
    if isinstance(channel, FileChannel):
        async with stored_or_not(channel):
            yield channel
        return
    try:
        yield channel
    finally:
        await channel.aclose()


@asynccontextmanager
async def listen(address: FdAddress) -> AsyncIterator[Listener]:
    """Receive from a descriptor; one that listens accepts connections.

    Raises:
        ConnectError: There is no such descriptor, or nothing can be received from it.
    """
    await trio.lowlevel.checkpoint()
    descriptor = take(address)
    try:
        listener = _incoming(descriptor, address)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield listener
    finally:
        if isinstance(listener, SocketListener):
            listener.close()
        else:
            await listener.aclose()


def _outgoing(descriptor: int, address: FdAddress) -> Channel:
    kind = _kind(descriptor, address)
    if kind is _SOCKET:
        connection = _socket(descriptor, address, may_listen=False)
        return _socket_channel(connection, f"{address} (socket)")
    flags = _check_mode(descriptor, address, _WRITES, "written to")
    if kind is _PIPE:
        return PipeChannel(f"{address} (pipe)", sending=descriptor)
    if flags & os.O_APPEND:
        raise ConnectError(
            f"{address} was opened to append: its bytes have no places that we know",
            hint="open it with <> or >, or let a pipe lead to it",
        )
    return FileChannel(f"{address} (file)", descriptor)


def _incoming(descriptor: int, address: FdAddress) -> SingleListener | SocketListener:
    uri = str(address)
    kind = _kind(descriptor, address)
    if kind is _SOCKET:
        make = partial(_socket_channel, peer=f"{uri} (socket)")
        found = _socket(descriptor, address, may_listen=True)
        if _listens(found):
            return SocketListener([found], uri, make)
        return SingleListener(make(found), uri, partial(trio.lowlevel.wait_readable, found))
    _check_mode(descriptor, address, _READS, "read from")
    if kind is _PIPE:
        pipe = PipeChannel(f"{uri} (pipe)", receiving=descriptor)
        return SingleListener(pipe, uri, pipe.wait_for_data)
    file = FileChannel(f"{uri} (file)", descriptor)
    return SingleListener(file, uri, trio.lowlevel.checkpoint)


def _socket_channel(connection: socket.socket, peer: str) -> SocketChannel:
    """A channel over a socket; within this host it may pass descriptors."""
    is_within = connection.family == socket.AF_UNIX
    return (DescriptorSocketChannel if is_within else SocketChannel)(connection, peer)


_SOCKET: Final = "socket"
_PIPE: Final = "pipe"
_FILE: Final = "file"


def _kind(descriptor: int, address: FdAddress) -> str:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return _SOCKET
    if stat.S_ISFIFO(mode):
        return _PIPE
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return _FILE
    raise ConnectError(
        f"{address} cannot carry a stream",
        expected="a socket, a pipe, a file or a block device",
        found=f"mode {stat.filemode(mode)}",
    )


def _check_mode(descriptor: int, address: FdAddress, modes: tuple[int, ...], what: str) -> int:
    """What the descriptor was opened with; it must be one of the modes."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & os.O_ACCMODE not in modes:
        raise ConnectError(f"{address} was not opened to be {what}")
    return flags


def _socket(descriptor: int, address: FdAddress, *, may_listen: bool) -> socket.socket:
    """The socket, which owns the descriptor from now on, if it can be used.

    Raises:
        ConnectError: It cannot.
    """
    found = socket.socket(fileno=descriptor)
    try:
        if found.type != socket.SOCK_STREAM:
            raise ConnectError(
                f"{address} cannot carry a stream",
                expected="a stream socket",
                found=socket.SocketKind(found.type).name,
            )
        if not (may_listen and _listens(found)):
            found.getpeername()
        found.setblocking(False)
    except BaseException as error:
        found.detach()
        if isinstance(error, OSError):
            raise ConnectError(f"{address} is not connected: {error.strerror}") from error
        raise
    return found


def _listens(found: socket.socket) -> bool:
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
