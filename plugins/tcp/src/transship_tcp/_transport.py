"""Connects and listens, and turns refusals into ``ConnectError``."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship.errors import ConnectError
from transship.toolkit import (
    SocketListener,
    connect_to,
    listen_on,
    new_socket,
    resolve,
    uri_of,
)
from transship_tcp._channel import make_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from transship.abc import Channel, Listener
    from transship.toolkit import SocketAddress
    from transship_tcp._uri import TcpAddress

ATTEMPT_S: Final = 10.0
"""How long one address of a host may keep us from trying its next one. The last has as long as the
kernel gives it (two minutes), or as the caller's time-out leaves."""


@asynccontextmanager
async def connect(address: TcpAddress, peer: SocketAddress | None = None) -> AsyncIterator[Channel]:
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
            host=address.host or None,
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
    places = await resolve(address, to_listen=True, numeric=address.numeric)
    sockets = listen_on(
        *(address, places),
        last_port=address.last_port,
        make_socket=partial(_new_socket, address),
    )
    port: int = sockets[0].getsockname()[1]
    make = partial(make_channel, keep_alive=address.keep_alive)
    listener = SocketListener(sockets, str(address.with_port(port)), make)
    try:
        yield listener
    finally:
        listener.close()


# Connecting


async def _connect_to_any(address: TcpAddress, peer: SocketAddress | None) -> socket.socket:
    places = [peer] if peer else await resolve(address, numeric=address.numeric)
    if address.bind is not None:
        places = _reachable_from(address, address.bind, places)
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
        f"{uri_of('tcp', where)}: {failure.strerror or failure}"
        for where, failure in zip(places, failures, strict=True)
    ]
    raise ConnectError(f"cannot connect to {address}", found="; ".join(reasons)) from failures[-1]


def _reachable_from(
    address: TcpAddress, source: str, places: Sequence[SocketAddress]
) -> list[SocketAddress]:
    """Those of the same family as the source.

    Raises:
        ConnectError: There are none.
    """
    same = [where for where in places if (":" in where[0]) == (":" in source)]
    if not same:
        raise ConnectError(
            f"{address} cannot be reached from {source}",
            expected=f"an IPv{6 if ':' in source else 4} address",
            found=", ".join(uri_of("tcp", where) for where in places),
        )
    return same


async def _connect_to(address: TcpAddress, where: SocketAddress) -> socket.socket:
    connection = _new_socket(address, where)
    try:
        if address.bind is not None:
            _bind_source(connection, address.bind)
    except OSError:
        connection.close()
        raise
    await connect_to(connection, where)
    return connection


def _bind_source(connection: socket.socket, source: str) -> None:
    """Connect from an address of this host.

    Raises:
        OSError: This host has no such address.
    """
    host, _, scope = source.partition("%")
    try:
        if connection.family == socket.AF_INET6:
            connection.bind((host, 0, 0, socket.if_nametoindex(scope) if scope else 0))
        else:
            connection.bind((host, 0))
    except OSError as error:
        raise OSError(error.errno, f"not from {source}: {error.strerror}") from error


# What both do


def _new_socket(address: TcpAddress, where: SocketAddress) -> socket.socket:
    """One of the protocol and at the interface that the address names.

    Raises:
        OSError: There is none to be had.
    """
    if address.mptcp and not hasattr(socket, "IPPROTO_MPTCP"):
        raise OSError(errno.EPROTONOSUPPORT, "this Python knows no Multipath TCP")
    created = new_socket(where, socket.IPPROTO_MPTCP if address.mptcp else 0)
    try:
        if address.interface is not None:
            _bind_to_interface(created, address.interface)
    except OSError:
        created.close()
        raise
    return created


def _bind_to_interface(unbound: socket.socket, interface: str) -> None:
    """Let a socket use one network interface alone, in both directions.

    Raises:
        OSError: There is no such interface, it is not allowed, or this is not Linux.
    """
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise OSError(errno.EOPNOTSUPP, "interfaces can be chosen on Linux only")
    try:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(interface))
    except OSError as error:
        reason = {
            errno.ENODEV: "there is no such interface",
            errno.EPERM: "not permitted: it takes CAP_NET_RAW",
        }.get(error.errno or 0, error.strerror)
        raise OSError(error.errno, f"interface {interface}: {reason}") from error
