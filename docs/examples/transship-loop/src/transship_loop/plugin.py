"""``loop:NAME``: a Unix socket with an abstract name, for one user of one Linux machine.

An abstract name is no file, so nothing has to be removed. It has no permissions either, so both
ends ask the kernel who is at the other one.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship import hookimpl
from transship.abc import Blocking, ReturnPath
from transship.errors import BlockedError, ConnectError
from transship.toolkit import (
    SocketChannel,
    SocketListener,
    peer_process,
    refuse_unknown_options,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from transship.abc import Address, Channel, Incoming, Listener, Options, Outgoing

_BACKLOG: Final = 16
_RETRY_S: Final = 0.01


# --- the hooks: they check what they are given, and return at once --------------------------------


@hookimpl
def start_outgoing(address: Address, options: Options) -> Outgoing:
    """Prepare to connect to ``loop:NAME``."""
    return _connect(str(address), _socket_name(address, options))


@hookimpl
def start_incoming(address: Address, options: Options) -> Incoming:
    """Prepare to listen on ``loop:NAME``."""
    return _listen(str(address), _socket_name(address, options))


@hookimpl
def channel_capabilities() -> Iterable[type]:
    """What a channel here may be able to do; what is not declared is refused in advance."""
    return Blocking, ReturnPath


def _socket_name(address: Address, options: Options) -> str:
    """The abstract name of the socket, which begins with a zero byte.

    Raises:
        BlockedError: The address is malformed, or an option is unknown.
    """
    refuse_unknown_options(address, options)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", address.rest):
        raise BlockedError(
            f"'{address}' has no valid name",
            expected="loop:NAME, with 1 to 64 letters, digits, dots, dashes and underscores",
        )
    return f"\0transship-loop-{os.getuid()}-{address.rest}"


# --- the context managers: they wait, and clean up after themselves -------------------------------


@asynccontextmanager
async def _connect(uri: str, name: str) -> AsyncIterator[Channel]:
    """Connect when entered, close when left."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = SocketChannel(connection, uri)  # owns the socket, and has made it non-blocking
    try:
        try:
            await _reach(connection, name)
            _check_user(connection)
        except OSError as error:
            raise ConnectError(f"cannot connect to {uri}: {error.strerror}") from error
        yield channel
    finally:
        await channel.aclose()


async def _reach(connection: socket.socket, name: str) -> None:
    await trio.lowlevel.checkpoint()
    while True:
        code = connection.connect_ex(name)
        if code != errno.EAGAIN:
            break
        await trio.sleep(_RETRY_S)  # a full backlog cannot be waited for: we try again
    if code:
        raise OSError(code, os.strerror(code))


@asynccontextmanager
async def _listen(uri: str, name: str) -> AsyncIterator[Listener]:
    """Listen when entered, stop when left; channels that were accepted stay open."""
    await trio.lowlevel.checkpoint()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener = SocketListener([listening], uri, partial(_accepted, uri=uri))
    try:
        try:
            listening.bind(name)
            listening.listen(_BACKLOG)
        except OSError as error:
            raise ConnectError(f"cannot listen on {uri}: {error.strerror}") from error
        yield listener
    finally:
        listener.close()


def _accepted(connection: socket.socket, uri: str) -> Channel:
    """Make the channel of an accepted connection.

    Raises:
        OSError: The connection is dropped, and listening goes on.
    """
    _check_user(connection)
    return SocketChannel(connection, uri)


def _check_user(connection: socket.socket) -> None:
    """Refuse a peer that is another user's.

    Raises:
        PermissionError: It is.
    """
    process = peer_process(connection)
    if process is None or not process.is_ours:
        raise PermissionError(errno.EACCES, "another user is at the other end")
