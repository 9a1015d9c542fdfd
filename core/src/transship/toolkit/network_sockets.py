"""Sockets for addresses of a network: names are looked up, connections made, ports listened on.

This file knows no grammar, and not what is said over a connection.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from transship.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transship.toolkit.network_address import NetworkAddress

SocketAddress: TypeAlias = tuple[Any, ...]
"""Host and port, and two parts more for IPv6."""

_BACKLOG: Final = 128
"""Connections waiting to be accepted; a migration has at most a few dozen channels."""

_FREE_PORT_ATTEMPTS: Final = 16
"""With port 0, the port that the first socket gets must be free for the others of the host too."""

_ADDRESS_IS_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""This machine lacks the address, or its whole family (a container without IPv6)."""


async def resolve(
    address: NetworkAddress, *, to_listen: bool = False, numeric: bool = False
) -> list[SocketAddress]:
    """Look up all socket addresses of a host.

    Args:
        address: Its host may be empty.
        to_listen: Whether an empty host is any address of this host, and not the loopback
            interface.
        numeric: Whether no name is looked up.

    Returns:
        At least one, without repetition, in the resolver's order.

    Raises:
        ConnectError: There are none.
    """
    family = socket.AF_UNSPEC
    if not (address.ipv4 and address.ipv6):
        family = socket.AF_INET if address.ipv4 else socket.AF_INET6
    flags = socket.AI_PASSIVE if to_listen else 0
    if numeric:
        flags |= socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = await trio.socket.getaddrinfo(
            address.host or None, address.port, family, socket.SOCK_STREAM, 0, flags
        )
    except (OSError, UnicodeError) as error:
        raise ConnectError(
            f"{address} has no address here: {getattr(error, 'strerror', None) or error}"
        ) from error
    return list(dict.fromkeys(where for *_, where in found))


def new_socket(where: SocketAddress, protocol: int = 0) -> socket.socket:
    """Make a stream socket of the family of an address; it does not block.

    Raises:
        OSError: This machine has no such family or protocol.
    """
    family = socket.AF_INET if len(where) == 2 else socket.AF_INET6
    created = socket.socket(family, socket.SOCK_STREAM, protocol)
    created.setblocking(False)
    return created


async def connect_to(connection: socket.socket, where: SocketAddress) -> None:
    """Connect a socket that does not block.

    Args:
        connection: Closed if it cannot be connected.
        where: One address of the peer's.

    Raises:
        OSError: Nobody listens there, or the way is barred.

    Cancellation: the socket is closed.
    """
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


def listen_on(
    address: NetworkAddress,
    places: Sequence[SocketAddress],
    *,
    last_port: int | None = None,
    make_socket: Callable[[SocketAddress], socket.socket] = new_socket,
) -> list[socket.socket]:
    """Listen on all addresses of a host that this machine has, on one port.

    Args:
        address: For people.
        places: What it was resolved to.
        last_port: Try the ports from its own to this one; None for its own alone.
        make_socket: Makes a socket that is to be bound to an address.

    Returns:
        At least one, for the caller to close; the port is the same for all of them.

    Raises:
        ConnectError: No port is free for all of them, or there is none to try; the machine has
            none of the addresses, or it is not allowed.
    """
    first: int = places[0][1]  # a service's name is a number by now
    last = first if last_port is None else last_port
    if last < first:
        raise ConnectError(
            f"cannot listen on {address}",
            expected=f"a last port of {first} or higher",
            found=str(last),
        )
    ports: Iterable[int] = range(first, last + 1) if first else [0] * _FREE_PORT_ATTEMPTS
    taken: OSError | None = None
    for port in ports:
        try:
            return _listen_on_port(port, places, make_socket)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConnectError(f"cannot listen on {address}: {error.strerror}") from error
            taken = error
    tried = f", each port from {first} to {last}" if first < last else ""
    raise ConnectError(
        f"cannot listen on {address}: {os.strerror(errno.EADDRINUSE)}{tried}"
    ) from taken


def _listen_on_port(
    port: int,
    places: Sequence[SocketAddress],
    make_socket: Callable[[SocketAddress], socket.socket],
) -> list[socket.socket]:
    """Listen on all of them that this machine has, or on none.

    Raises:
        OSError: It cannot.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as on_failure:
        for host, _, *scope in places:
            try:
                listening = _listening_at((host, port, *scope), make_socket)
            except OSError as error:
                if error.errno not in _ADDRESS_IS_ABSENT:
                    raise
                absent = error
                continue
            sockets.append(on_failure.enter_context(listening))
            port = listening.getsockname()[1]
        if not sockets and absent:
            raise absent
        on_failure.pop_all()
    return sockets


def _listening_at(
    where: SocketAddress, make_socket: Callable[[SocketAddress], socket.socket]
) -> socket.socket:
    listening = make_socket(where)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
        listening.bind(where)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def keep_alive(
    connection: socket.socket | trio.socket.SocketType,
    *,
    idle_s: int,
    interval_s: int,
    probes: int,
) -> None:
    """Let the kernel ask a silent peer for a sign of life, and end the connection if there is none.

    Args:
        connection: Connected.
        idle_s: How long the peer is silent before it is asked.
        interval_s: How long after that it is asked again.
        probes: How often it is asked in vain.

    Raises:
        OSError: The connection is lost already.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)


def uri_of(scheme: str, where: SocketAddress) -> str:
    """A socket address as a URI, for people."""
    host, port = where[:2]
    return f"{scheme}:[{host}]:{port}" if ":" in host else f"{scheme}:{host}:{port}"
