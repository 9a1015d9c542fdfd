"""Whatever a descriptor is, it does what its kind must do."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from transship.abc import Address, Blocking, DescriptorPassing, ReturnPath, Seekable
from transship.testing.pytest_plugin import StoredTransportConformance, TransportConformance
from transship_fd import plugin as fd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from pathlib import Path

    from transship.abc import Channel, Incoming, Listener, Outgoing
    from transship.testing import Read, Write
    from transship.testing.checking import MakePair
    from transship.testing.pytest_plugin import TransportPlugin


def outgoing(descriptor: int) -> Outgoing:
    """Send to a descriptor as an inherited one."""
    os.set_inheritable(descriptor, True)
    return fd.start_outgoing(Address("fd", str(descriptor)), {})


def incoming(descriptor: int) -> Incoming:
    """Receive from a descriptor as from an inherited one."""
    os.set_inheritable(descriptor, True)
    return fd.start_incoming(Address("fd", str(descriptor)), {})


def pair_of(connect: Callable[[], tuple[int, int]]) -> MakePair:
    """Pairs over two ends: where to write, and where to read."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Channel, Channel]]:
        writes, reads = connect()
        async with outgoing(writes) as source, incoming(reads) as listener:
            await source.send_segments((b"!",))  # a listener waits for the first byte
            destination = await listener.accept()
            await destination.receive_into(memoryview(bytearray(1)))
            try:
                yield source, destination
            finally:
                await destination.aclose()

    return make


def pipe() -> tuple[int, int]:
    reads, writes = os.pipe()
    return writes, reads


def socket_pair() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


class Fd(TransportConformance):
    """Each kind of descriptor can do a part of what is declared."""

    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return fd

    @pytest.fixture
    def incoming_uri(self) -> str:
        return "fd:3"


class TestPipe(Fd):
    @pytest.fixture
    def capabilities(self) -> Collection[type]:
        return {Blocking}

    @pytest.fixture
    def make_pair(self) -> MakePair:
        return pair_of(pipe)


class TestSocketPair(Fd):
    @pytest.fixture
    def capabilities(self) -> Collection[type]:
        return {Blocking, DescriptorPassing, ReturnPath}

    @pytest.fixture
    def make_pair(self) -> MakePair:
        return pair_of(socket_pair)


class TestListeningSocket(Fd):
    @pytest.fixture
    def capabilities(self) -> Collection[type]:
        return {Blocking, ReturnPath}

    @pytest.fixture
    def make_pair(self) -> MakePair:
        @asynccontextmanager
        async def make() -> AsyncIterator[tuple[Channel, Channel]]:
            listening = socket.create_server(("127.0.0.1", 0))
            connection = socket.create_connection(listening.getsockname())
            async with incoming(listening.detach()) as listener:
                async with outgoing(connection.detach()) as source:
                    destination = await listener.accept()
                    try:
                        yield source, destination
                    finally:
                        await destination.aclose()

        return make


class TestFile(StoredTransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return fd

    @pytest.fixture
    def uri(self) -> str:
        return "fd:3"

    @pytest.fixture
    def capabilities(self) -> Collection[type]:
        return {Blocking, Seekable}

    @pytest.fixture
    def write(self, tmp_path: Path) -> Write:
        @asynccontextmanager
        async def write() -> AsyncIterator[Channel]:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            async with outgoing(os.open(tmp_path / "stream", flags)) as channel:
                yield channel

        return write

    @pytest.fixture
    def read(self, tmp_path: Path) -> Read:
        @asynccontextmanager
        async def read() -> AsyncIterator[Listener]:
            async with incoming(os.open(tmp_path / "stream", os.O_RDONLY)) as listener:
                yield listener

        return read
