from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import RemoteMemory, RemoteRun
from transship.errors import PeerClosedError
from transship.testing import check_transport, memory_channel_pair
from transship.testing.checking import blocked_receive
from transship.testing.pytest_plugin import ChannelConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel
    from transship.testing import MakePair


@asynccontextmanager
async def memory_pair(
    capacity_bytes: int = 65_536, *, remote_memory: bool = False
) -> AsyncIterator[tuple[Channel, Channel]]:
    source, destination = memory_channel_pair(capacity_bytes, remote_memory=remote_memory)
    try:
        yield source, destination
    finally:
        await source.aclose()
        await destination.aclose()


class TestMemory(ChannelConformance):
    @pytest.fixture
    def make_pair(self) -> MakePair:
        return memory_pair


class TestRemoteMemory(ChannelConformance):
    @pytest.fixture
    def make_pair(self) -> MakePair:
        return lambda: memory_pair(remote_memory=True)


def test_remote_memory_is_there_only_where_it_was_asked_for() -> None:
    for channel in memory_channel_pair():
        assert channel.capability(RemoteMemory) is None


async def test_remote_memory_is_written_as_late_as_it_may_be() -> None:
    source, destination = memory_channel_pair(remote_memory=True)
    here, there = bytearray(b"old"), bytearray(3)
    async with destination.expose({"ram": memoryview(there)}, at_once=False):
        async with source.mirror({"ram": memoryview(here)}, at_once=False) as writer:
            await writer.write([RemoteRun("ram", 0, 3)])
            here[:] = b"new"
            assert not any(there)
            await writer.flush()
            assert there == b"new"


async def test_check_transport_runs_all_checks_on_a_good_transport() -> None:
    await check_transport(lambda: memory_pair(10_000))


async def test_send_blocks_at_exactly_the_capacity() -> None:
    async with memory_pair(10) as (source, destination):
        await source.send_segments([bytes(7), bytes(3)])
        with trio.move_on_after(0.01) as scope:
            await source.send_segments([b"x"])
        assert scope.cancelled_caught
        target = memoryview(bytearray(100))
        assert await destination.receive_some_into(target) == 10


async def test_lost_peer_is_an_error_for_both_and_never_an_end() -> None:
    source, destination = memory_channel_pair()
    await source.send_segments([b"half"])
    source.lose_peer()
    target = memoryview(bytearray(10))
    assert await destination.receive_some_into(target) == 4
    with pytest.raises(PeerClosedError):
        await destination.receive_some_into(target)
    with pytest.raises(PeerClosedError):
        await source.send_segments([b"x"])


async def test_lost_peer_wakes_a_blocked_receive() -> None:
    source, destination = memory_channel_pair()
    async with blocked_receive(destination) as attempt:
        source.lose_peer()
        await attempt.wait()
    assert isinstance(attempt.error, PeerClosedError)


def test_pair_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        memory_channel_pair(0)
