"""Where clients connect to: the sockets of an address, as long as they are listened on."""

from __future__ import annotations

import socket
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from transship.control.server.limits import BACKLOG
from transship.errors import ConnectError
from transship.toolkit import NetworkAddress, SocketFile, listen_on, resolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.control.address import QmpAddress


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
        if address.path:
            yield _listen_on_path(address, stack)
        else:
            yield await _listen_on_host(address, stack)


def _listen_on_path(address: QmpAddress, stack: ExitStack) -> Listening:
    listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    try:
        file = SocketFile.bind(listening, address.path)
        stack.callback(file.remove)  # while the socket lives: no other file has its identity
        listening.listen(BACKLOG)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConnectError(f"cannot listen on {address}: {why}") from error
    listening.setblocking(False)
    return Listening(replace(address, path=file.path), (trio.socket.from_stdlib_socket(listening),))


@dataclass(frozen=True)
class _Host(NetworkAddress):
    def __str__(self) -> str:
        return self.written("tcp")


async def _listen_on_host(address: QmpAddress, stack: ExitStack) -> Listening:
    """Listen on all addresses of a host, on one port."""
    host = _Host(address.host, address.port)
    found = listen_on(host, await resolve(host, to_listen=True))
    sockets = [trio.socket.from_stdlib_socket(stack.enter_context(one)) for one in found]
    return Listening(replace(address, port=found[0].getsockname()[1]), tuple(sockets))
