"""The inheritable classes call a plugin as a migration does, and pass a transport that is right."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship import hookimpl
from transship.errors import BlockedError, ConnectError
from transship.testing.pytest_plugin import ListeningTransportConformance
from transship.toolkit import SocketChannel, SocketListener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transship.abc import Channel, Listener
    from transship.abc.transport import Address, Incoming, Options, Outgoing
    from transship.testing.pytest_plugin import TransportPlugin


@asynccontextmanager
async def connecting(path: str) -> AsyncIterator[Channel]:
    await trio.lowlevel.checkpoint()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise ConnectError(f"cannot connect to {path}") from error
    channel = SocketChannel(connection, path)
    try:
        yield channel
    finally:
        await channel.aclose()


@asynccontextmanager
async def listening(path: str) -> AsyncIterator[Listener]:
    await trio.lowlevel.checkpoint()
    waiting = socket.socket(socket.AF_UNIX)
    waiting.bind(path)
    waiting.listen()
    listener = SocketListener(
        [waiting], f"plain:{path}", lambda connection: SocketChannel(connection, path)
    )
    try:
        yield listener
    finally:
        listener.close()
        os.unlink(path)


class Plain:
    """A transport whose hooks name their arguments in an order of their own.

    pluggy passes arguments by name, so that is as right as to leave some of them out.
    """

    @hookimpl
    def start_outgoing(self, options: Options, address: Address) -> Outgoing:
        return connecting(path_of(address, options))

    @hookimpl
    def start_incoming(self, options: Options, address: Address) -> Incoming:
        return listening(path_of(address, options))


def path_of(address: Address, options: Options) -> str:
    if options or not address.rest:
        raise BlockedError(f"{address} with {dict(options)} is refused")
    return address.rest


class TestPlain(ListeningTransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return Plain()

    @pytest.fixture
    def incoming_uri(self, tmp_path: Path) -> str:
        return f"plain:{tmp_path}/socket"
