"""Connects and listens; looks after the socket file."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship.errors import ConnectError
from transship.toolkit import SocketFile, SocketListener
from transship_unix._channel import make_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Listener
    from transship_unix._uri import UnixAddress

_BACKLOG: Final = 128
"""Connections waiting to be accepted; a migration has at most a few dozen channels."""

_RETRY_S: Final = 0.01
"""A full backlog cannot be waited for: the kernel says "try again", and we do, after this long."""


@asynccontextmanager
async def connect(address: UnixAddress) -> AsyncIterator[Channel]:
    """Connect to a socket file; the channel closes when left.

    Raises:
        ConnectError: There is no such file, nobody listens on it, or it is not allowed.

    Cancellation: nothing is left behind.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await _connect(connection, address)
        channel = make_channel(connection, address, partial(connect, address))
    except OSError as error:
        connection.close()
        raise ConnectError(f"cannot connect to {address}: {error.strerror}") from error
    except BaseException:
        connection.close()
        raise
    try:
        yield channel
    finally:
        await channel.aclose()


@asynccontextmanager
async def listen(address: UnixAddress) -> AsyncIterator[Listener]:
    """Listen on a socket file of our own, which is removed when left; or under an abstract name.

    Raises:
        ConnectError: Somebody listens there, something else has that name, or it is not allowed.
    """
    await trio.lowlevel.checkpoint()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    make = partial(make_channel, address=address)
    listener = SocketListener([listening], address.absolute().uri, make)
    try:
        file = _bind(listening, address)
        try:
            _start(listening, address)
            yield listener
        finally:
            if file is not None:
                file.remove()  # while the socket lives: nobody else's file can have its identity
    finally:
        listener.close()


async def _connect(connection: socket.socket, address: UnixAddress) -> None:
    connection.setblocking(False)
    await trio.lowlevel.checkpoint()
    while True:
        code = connection.connect_ex(address.place)
        if code != errno.EAGAIN:
            break
        await trio.sleep(_RETRY_S)
    if code:
        raise OSError(code, os.strerror(code))


def _bind(listening: socket.socket, address: UnixAddress) -> SocketFile | None:
    try:
        if not address.is_abstract:
            return SocketFile.bind(listening, address.path, address.mode)
        listening.bind(address.place)
    except OSError as error:
        raise ConnectError(f"cannot listen on {address}: {error.strerror}") from error
    return None


def _start(listening: socket.socket, address: UnixAddress) -> None:
    try:
        listening.listen(_BACKLOG)
    except OSError as error:
        raise ConnectError(f"cannot listen on {address}: {error.strerror}") from error
