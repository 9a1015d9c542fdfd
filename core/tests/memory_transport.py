"""A transport within this process, ``memory:NAME``: a plugin for tests of what plugins make up.

Whoever uses it lets an entry point lead here; see the conftest of the tests of hosting.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from transship import hookimpl
from transship.abc import Channel, Listener
from transship.errors import ConnectError
from transship.testing import memory_channel_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transship.abc import Address, Incoming, Outgoing

CAPACITY_BYTES: Final = 8192
TAKEN: Final = "memory:taken"
"""Where nobody can listen."""


class Network:
    """All that listens, and what is put around the ends of each channel.

    Attributes:
        near: Wraps the end of whoever connects.
        far: Wraps the other end.
    """

    def __init__(self) -> None:
        self.near: Callable[[Channel], Channel] = lambda channel: channel
        self.far: Callable[[Channel], Channel] = lambda channel: channel
        self.listeners: dict[str, _Listener] = {}


NETWORK: Network = Network()
"""Replaced before each test."""


class _Listener(Listener):
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.offer, self._offered = trio.open_memory_channel[Channel](100)

    @property
    def uri(self) -> str:
        return self._uri

    async def accept(self) -> Channel:
        return await self._offered.receive()


@asynccontextmanager
async def _listening(uri: str) -> AsyncIterator[Listener]:
    await trio.lowlevel.checkpoint()
    network = NETWORK
    if uri == TAKEN or uri in network.listeners:
        raise ConnectError(f"cannot listen at {uri}", hint="somebody else does")
    listener = network.listeners[uri] = _Listener(uri)
    try:
        yield listener
    finally:
        del network.listeners[uri]


@asynccontextmanager
async def _connected(uri: str) -> AsyncIterator[Channel]:
    await trio.lowlevel.checkpoint()
    network = NETWORK
    if uri not in network.listeners:
        raise ConnectError(f"nobody listens at {uri}")
    near, far = memory_channel_pair(CAPACITY_BYTES)
    channel = network.near(near)
    network.listeners[uri].offer.send_nowait(network.far(far))
    try:
        yield channel
    finally:
        await channel.aclose()


@hookimpl
def start_outgoing(address: Address) -> Outgoing:
    return _connected(str(address))


@hookimpl
def start_incoming(address: Address) -> Incoming:
    return _listening(str(address))
