"""Where clients connect to: the sockets of an address, as long as they are listened on."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import trio

from transship.control.server.limits import BACKLOG
from transship.errors import ConnectError
from transship.toolkit.socket_file import SocketFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.control.address import QmpAddress

_ADDRESS_IS_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""This machine lacks the address, or its whole family (a container without IPv6)."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What is listened on.

    Args:
        address: As a client would write it.
        sockets: Where clients are accepted.
    """

    address: QmpAddress
    sockets: tuple[trio.socket.SocketType, ...]


@asynccontextmanager
async def listen(address: QmpAddress) -> AsyncIterator[Listening]:
    """Listen on an address; stops when left, and removes the socket file.

    Raises:
        ConnectError: Somebody listens there, it is no address of this machine, or it is not
            allowed.
    """
    with ExitStack() as stack:
        try:
            if address.path:
                listening = _listen_on_path(address, stack)
            else:
                listening = await _listen_on_host(address, stack)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConnectError(f"cannot listen on {address}: {why}") from error
        yield listening


def _listen_on_path(address: QmpAddress, stack: ExitStack) -> Listening:
    listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    file = SocketFile.bind(listening, address.path)
    stack.callback(file.remove)  # while the socket lives: nobody else's file can have its identity
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return Listening(replace(address, path=file.path), (trio.socket.from_stdlib_socket(listening),))


async def _listen_on_host(address: QmpAddress, stack: ExitStack) -> Listening:
    """Listen on all addresses of a host; on the first of them, if any port will do."""
    found = await trio.socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[trio.socket.SocketType] = []
    failure: OSError | None = None
    for family, _, _, _, where in found:
        try:
            listening = _listen_on(family, where, stack)
        except OSError as error:
            if error.errno not in _ADDRESS_IS_ABSENT:
                raise
            failure = error
            continue
        sockets.append(trio.socket.from_stdlib_socket(listening))
        if not address.port:
            break
    if not sockets:
        raise failure or OSError(errno.EADDRNOTAVAIL, "the name has no address")
    return Listening(replace(address, port=sockets[0].getsockname()[1]), tuple(sockets))


def _listen_on(family: int, where: Any, stack: ExitStack) -> socket.socket:
    listening = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.bind(where)
    listening.listen(BACKLOG)
    return listening
