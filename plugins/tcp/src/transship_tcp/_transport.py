"""Connects and listens: looks up names, and turns refusals into ``ConnectError``."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from transship.errors import ConnectError
from transship.toolkit import SocketListener
from transship_tcp._channel import make_channel, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from transship.abc import Channel, Listener
    from transship_tcp._uri import TcpAddress

ATTEMPT_S: Final = 10.0
"""How long one address of a host may keep us from trying its next one. The last has as long as the
kernel gives it (two minutes), or as the caller's time-out leaves."""

_BACKLOG: Final = 128
"""Connections waiting to be accepted; a migration has at most a few dozen channels."""

_FREE_PORT_ATTEMPTS: Final = 16
"""With port 0, the port that the first socket gets must be free for the others of the host too."""

_ADDRESS_IS_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""This machine lacks the address, or its whole family (a container without IPv6)."""

_SocketAddress = tuple[Any, ...]


@asynccontextmanager
async def connect(
    address: TcpAddress, peer: _SocketAddress | None = None
) -> AsyncIterator[Channel]:
    """Connect to the first of the host's addresses that answers; the channel closes when left.

    Args:
        address: Where to.
        peer: Who there is a channel to already: nobody else is asked.

    Raises:
        ConnectError: The name has no address, or none of them answers; says why for each.

    Cancellation: nothing is left behind.
    """
    connection = await _connect_to_any(address, peer)
    try:
        channel = make_channel(
            connection,
            keep_alive=address.keep_alive,
            open_channel=partial(connect, address, connection.getpeername()),
            is_extra=peer is not None,
        )
    except OSError as error:
        connection.close()
        raise ConnectError(f"{address} closed the connection: {error.strerror}") from error
    try:
        yield channel
    finally:
        await channel.aclose()


@asynccontextmanager
async def listen(address: TcpAddress) -> AsyncIterator[Listener]:
    """Listen on all addresses of the host, on one port; stops when left.

    Raises:
        ConnectError: The name has no address, no port is free, or it is not allowed.
    """
    places = await _resolve(address, flags=socket.AI_PASSIVE)
    sockets = _listen_on_first_free_port(address, places)
    port: int = sockets[0].getsockname()[1]
    make = partial(make_channel, keep_alive=address.keep_alive)
    listener = SocketListener(sockets, str(address.with_port(port)), make)
    try:
        yield listener
    finally:
        listener.close()


async def _resolve(address: TcpAddress, *, flags: int) -> list[_SocketAddress]:
    """All socket addresses of a host, without repetition, in the resolver's order."""
    family = socket.AF_UNSPEC
    if not (address.ipv4 and address.ipv6):
        family = socket.AF_INET if address.ipv4 else socket.AF_INET6
    try:
        found = await trio.socket.getaddrinfo(
            address.host or None, address.port, family, socket.SOCK_STREAM, 0, flags
        )
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"{address} has no address here: {getattr(error, 'strerror', None) or error}"
        ) from error
    return list(dict.fromkeys(where for *_, where in found))


# Connecting


async def _connect_to_any(address: TcpAddress, peer: _SocketAddress | None) -> socket.socket:
    places = [peer] if peer else await _resolve(address, flags=0)
    failures: list[OSError] = []
    for left, where in zip(reversed(range(len(places))), places, strict=True):
        patience_s = ATTEMPT_S if left else float("inf")
        try:
            with trio.fail_after(patience_s):
                return await _connect_to(address, where)
        except trio.TooSlowError:
            failures.append(OSError(errno.ETIMEDOUT, f"no answer in {ATTEMPT_S:.0f} s"))
        except OSError as error:
            failures.append(error)
    reasons = [
        f"{name_of(where)}: {failure.strerror or failure}"
        for where, failure in zip(places, failures, strict=True)
    ]
    raise ConnectError(f"cannot connect to {address}", found="; ".join(reasons)) from failures[-1]


async def _connect_to(address: TcpAddress, where: _SocketAddress) -> socket.socket:
    connection = _new_socket(address, where)
    try:
        code = connection.connect_ex(where)
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(connection)
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and connection.getsockname() == connection.getpeername():
            # Asked for a port of this host from the range the kernel takes ports from, and got
            # that very port for ourselves: nobody listens.
            code = errno.ECONNREFUSED
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        connection.close()
        raise
    return connection


# Listening


def _listen_on_first_free_port(
    address: TcpAddress, places: Sequence[_SocketAddress]
) -> list[socket.socket]:
    last_error: OSError | None = None
    for port in _ports_to_try(address, places):
        try:
            return _listen_on(address, places, port)
        except OSError as error:
            last_error = error
            if error.errno != errno.EADDRINUSE:
                break
    reason = last_error.strerror if last_error else "it has no port"
    raise ConnectError(f"cannot listen on {address}: {reason}") from last_error


def _ports_to_try(address: TcpAddress, places: Sequence[_SocketAddress]) -> Iterator[int]:
    port: int = places[0][1]  # a service's name is a number by now
    if port == 0:
        yield from [0] * _FREE_PORT_ATTEMPTS
    else:
        yield from range(port, max(port, address.last_port or port) + 1)


def _listen_on(
    address: TcpAddress, places: Sequence[_SocketAddress], port: int
) -> list[socket.socket]:
    """Listen on one port of all addresses that this machine has; on all of those, or none.

    Raises:
        OSError: It cannot.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as on_failure:
        for host, _, *scope in places:
            try:
                listening = on_failure.enter_context(_new_socket(address, (host, port, *scope)))
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
                if listening.family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
                listening.bind((host, port, *scope))
                listening.listen(_BACKLOG)
            except OSError as error:
                if error.errno not in _ADDRESS_IS_ABSENT:
                    raise
                absent = error
                continue
            port = listening.getsockname()[1]
            sockets.append(listening)
        if not sockets and absent:
            raise absent
        on_failure.pop_all()
    return sockets


def _new_socket(address: TcpAddress, where: _SocketAddress) -> socket.socket:
    """A non-blocking socket of the family of ``where``: IPv6 addresses have four parts."""
    family = socket.AF_INET if len(where) == 2 else socket.AF_INET6
    if address.mptcp and not hasattr(socket, "IPPROTO_MPTCP"):
        raise OSError(errno.EPROTONOSUPPORT, "this Python knows no Multipath TCP")
    protocol = socket.IPPROTO_MPTCP if address.mptcp else 0
    created = socket.socket(family, socket.SOCK_STREAM, protocol)
    created.setblocking(False)
    return created
