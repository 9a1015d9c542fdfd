"""Pairs of connected channels, each closed when it is left."""

from __future__ import annotations

import socket
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from transship.testing import memory_channel_pair
from transship.toolkit import SocketChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel


@asynccontextmanager
async def memory_pair() -> AsyncIterator[tuple[Channel, Channel]]:
    source, destination = memory_channel_pair()
    async with aclosing(source), aclosing(destination):
        yield source, destination


@asynccontextmanager
async def unix_pair() -> AsyncIterator[tuple[SocketChannel, SocketChannel]]:
    async with _socket_pair(*socket.socketpair()) as pair:
        yield pair


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[SocketChannel, SocketChannel]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    async with _socket_pair(one, other) as pair:
        yield pair


@asynccontextmanager
async def _socket_pair(
    one: socket.socket, other: socket.socket
) -> AsyncIterator[tuple[SocketChannel, SocketChannel]]:
    source, destination = SocketChannel(one, "the other"), SocketChannel(other, "the one")
    async with aclosing(source), aclosing(destination):
        yield source, destination
