"""What the tests of rdma share: the providers they run on, and pairs of channels."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trio

from transship.abc import Address
from transship_rdma import _fabric, _link, plugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transship.abc import Listener, RemoteRun, RemoteWriter
    from transship_rdma._channel import FabricChannel

PROVIDERS: Final = ("tcp;ofi_rxm", "sockets")
"""Both are software, and differ where it matters: the first makes progress only when polled, the
second by threads of its own."""

HAS_IPV6: Final = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


def needs_provider(provider: str) -> None:
    """Skip a test where libfabric was built without a provider."""
    if provider not in _fabric.providers_at("127.0.0.1"):
        pytest.skip(f"this libfabric has no provider {provider}")


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    with trio.fail_after(5):
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(0.001)


class Load(NamedTuple):
    """What is on its way over a link.

    Args:
        operations: How many operations.
        writes: How many of them are writes.
    """

    operations: int
    writes: int


def loads_seen(monkeypatch: pytest.MonkeyPatch) -> list[Load]:
    """The load of every link each time something has begun, from now on."""
    seen: list[Load] = []
    began = _link.Link._began

    def look(link: _link.Link, count: int) -> None:
        began(link, count)
        seen.append(Load(link._operations_out, link.writes_out))

    monkeypatch.setattr(_link.Link, "_began", look)
    return seen


async def write_through(writer: RemoteWriter, *runs: RemoteRun) -> None:
    """Write runs, and wait until they are there."""
    await writer.write(runs)
    await writer.flush()


@asynccontextmanager
async def listening(uri: str, **options: str | bool) -> AsyncIterator[Listener]:
    async with plugin.start_incoming(Address.parse(uri), options) as listener:
        yield listener


@asynccontextmanager
async def connected(uri: str, **options: str | bool) -> AsyncIterator[FabricChannel]:
    async with plugin.start_outgoing(Address.parse(uri), options) as channel:
        yield channel  # type: ignore[misc]


@asynccontextmanager
async def pair_over(provider: str) -> AsyncIterator[tuple[FabricChannel, FabricChannel]]:
    """A source and a destination, in this process."""
    async with listening(f"rdma:127.0.0.1:0,provider={provider}") as listener:
        async with connected(listener.uri) as source:
            destination = await listener.accept()
            try:
                yield source, destination  # type: ignore[misc]
            finally:
                await destination.aclose()
