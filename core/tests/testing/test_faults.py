from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Blocking, ExtraChannels, ReturnPath
from transship.engine.channels.threads import sender_in_thread
from transship.errors import ChannelError, PeerClosedError
from transship.testing import (
    ChannelWrapper,
    CloseAfter,
    ExtraFaults,
    ShortReads,
    ShortWrites,
    SlowLink,
    StallAfter,
    memory_channel_pair,
    one_byte_at_a_time,
)
from transship.testing.checking import blocked, is_resizable, receive_exactly, receive_to_end
from transship.testing.pytest_plugin import ChannelConformance
from transship.toolkit import SocketChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trio.testing import MockClock

    from transship.abc import Channel
    from transship.buffers import Buffer
    from transship.testing import MakePair


class TestWrapper(ChannelConformance):
    """A wrapper that changes nothing, and one that only dribbles, are as good as a channel."""

    @pytest.fixture
    def make_pair(self) -> MakePair:
        @asynccontextmanager
        async def make() -> AsyncIterator[tuple[Channel, Channel]]:
            source, destination = memory_channel_pair()
            yield (
                ShortWrites(ChannelWrapper(source), 600_007),
                ShortReads(ChannelWrapper(destination), 50_000),
            )
            await source.aclose()
            await destination.aclose()

        return make


class Counting(ChannelWrapper):
    """Remembers the sizes of sends."""

    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.sizes: list[int] = []

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        self.sizes.append(sum(map(len, segments)))
        await super().send_segments(segments)


@pytest.mark.parametrize("limit", [0, 1, 5, 6, 9])
async def test_close_after_lets_exactly_so_many_bytes_through(limit: int) -> None:
    source, destination = memory_channel_pair()
    faulty = CloseAfter(source, sent_bytes=limit)
    with pytest.raises(PeerClosedError):
        await faulty.send_segments([b"abcde", b"", bytearray(b"fghij")])
    assert await receive_to_end(destination) == b"abcdefghij"[:limit]
    with pytest.raises(PeerClosedError):
        await faulty.send_segments([b"x"])
    with pytest.raises(PeerClosedError):
        await faulty.receive_some_into(memoryview(bytearray(1)))
    with pytest.raises(PeerClosedError):
        await faulty.send_eof()


async def test_close_after_the_last_byte_of_a_send_lets_the_send_succeed() -> None:
    source, destination = memory_channel_pair()
    faulty = CloseAfter(source, sent_bytes=3)
    await faulty.send_segments([b"abc"])
    assert await receive_to_end(destination) == b"abc"
    with pytest.raises(PeerClosedError):
        await faulty.send_segments([b"x"])


async def test_close_after_counts_received_bytes_too() -> None:
    source, destination = memory_channel_pair()
    faulty = CloseAfter(destination, received_bytes=3)
    await source.send_segments([b"abcde"])
    assert await receive_exactly(faulty, 3) == b"abc"
    with pytest.raises(PeerClosedError):
        await faulty.receive_some_into(memoryview(bytearray(1)))
    with pytest.raises(PeerClosedError):
        await source.send_segments([b"x"])


async def test_fault_without_a_limit_in_a_direction_leaves_it_alone() -> None:
    source, destination = memory_channel_pair()
    faulty = CloseAfter(source, received_bytes=3)
    await faulty.send_segments([bytes(1_000)])
    assert await receive_exactly(destination, 1_000) == bytes(1_000)


@pytest.mark.parametrize("limit", [0, 3])
async def test_stall_after_moves_nothing_more_until_it_is_closed(limit: int) -> None:
    source, destination = memory_channel_pair()
    faulty = StallAfter(source, sent_bytes=limit)
    async with blocked("a stalled send", lambda: faulty.send_segments([b"abcde"])) as attempt:
        if limit:
            assert await receive_exactly(destination, limit) == b"abc"
        await faulty.aclose()
        await attempt.wait()
        assert type(attempt.error) is ChannelError


async def test_stalled_receive_can_be_cancelled() -> None:
    source, destination = memory_channel_pair()
    faulty = StallAfter(destination, received_bytes=2)
    await source.send_segments([b"abcde"])
    assert await receive_exactly(faulty, 2) == b"ab"
    with trio.move_on_after(0.01) as scope:
        await faulty.receive_some_into(memoryview(bytearray(1)))
    assert scope.cancelled_caught


async def test_stall_that_ends_loses_nothing(autojump_clock: MockClock) -> None:
    source, destination = memory_channel_pair()
    sending = StallAfter(source, sent_bytes=3, stall_s=2)
    receiving = StallAfter(destination, received_bytes=4, stall_s=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sending.send_segments, [b"ab", b"cdefg"])
        assert await receive_exactly(receiving, 3) == b"abc"
        assert trio.current_time() == pytest.approx(0)
        assert await receive_exactly(receiving, 4) == b"defg"
        assert trio.current_time() == pytest.approx(3)
    await sending.send_segments([b"h"])
    assert await receive_exactly(receiving, 1) == b"h"
    assert trio.current_time() == pytest.approx(3)


async def test_slow_link_takes_its_time_in_the_direction_that_is_slow(
    autojump_clock: MockClock,
) -> None:
    source, destination = memory_channel_pair()
    await SlowLink(source, sent_bytes_per_s=1_000).send_segments([bytes(400), bytes(200)])
    assert trio.current_time() == pytest.approx(0.6)
    await receive_exactly(SlowLink(destination, received_bytes_per_s=100), 300)
    assert trio.current_time() == pytest.approx(3.6)
    await receive_exactly(SlowLink(destination, sent_bytes_per_s=1), 300)
    await SlowLink(source, received_bytes_per_s=1).send_segments([b"x"])
    assert trio.current_time() == pytest.approx(3.6)


async def test_cancelled_slow_send_holds_no_view() -> None:
    source, _ = memory_channel_pair()
    sent = bytearray(100)
    with trio.move_on_after(0.02) as scope:
        await SlowLink(source, sent_bytes_per_s=100).send_segments([sent])
    assert scope.cancelled_caught
    assert is_resizable(sent)


async def test_short_writes_send_pieces_of_at_most_the_limit() -> None:
    source, destination = memory_channel_pair()
    counting = Counting(source)
    await ShortWrites(counting, 3).send_segments([b"abcd", b"", memoryview(b"efghijk")])
    assert counting.sizes == [3, 1, 3, 3, 1]
    assert await receive_exactly(destination, 11) == b"abcdefghijk"


async def test_one_byte_at_a_time_never_moves_two() -> None:
    source, destination = memory_channel_pair()
    counting = Counting(source)
    await one_byte_at_a_time(counting).send_segments([b"abc"])
    assert counting.sizes == [1, 1, 1]
    target = memoryview(bytearray(3))
    assert await one_byte_at_a_time(destination).receive_some_into(target) == 1


async def test_return_messages_pass_through_the_fault() -> None:
    source, destination = memory_channel_pair()
    path = CloseAfter(destination, sent_bytes=4).capability(ReturnPath)
    assert path is not None
    with pytest.raises(PeerClosedError):
        await path.send_return(b"a long message")
    assert await receive_to_end(source) == b"a lo"


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[SocketChannel, SocketChannel]]:
    """Channels that can do more than carry bytes; each that the source opens is its own peer."""

    @asynccontextmanager
    async def another() -> AsyncIterator[Channel]:
        one, two = map(SocketChannel, socket.socketpair(), ("here", "there"))
        peers.append(two)
        yield one
        await one.aclose()
        await two.aclose()

    peers: list[SocketChannel] = []
    near, far = socket.socketpair()
    source, destination = SocketChannel(near, "destination", another), SocketChannel(far, "source")
    yield source, destination
    await source.aclose()
    await destination.aclose()


async def test_nothing_goes_by_a_wrapper_in_a_thread() -> None:
    async with sockets() as (source, destination):
        assert source.capability(Blocking) is not None
        faulty = CloseAfter(source, sent_bytes=100_000)
        sender = sender_in_thread(faulty, 5)
        with pytest.raises(PeerClosedError):
            await trio.to_thread.run_sync(sender.send, [bytes(99_999), b"abc"])
        assert len(await receive_to_end(destination)) == 100_000


async def test_extra_channel_passes_a_wrapper_as_it_is() -> None:
    async with sockets() as (source, _):
        extra = CloseAfter(source, sent_bytes=0).capability(ExtraChannels)
        assert extra is not None
        async with extra.open_channel() as channel:
            await channel.send_segments([b"abc"])


async def test_extra_channels_can_each_be_given_a_fault() -> None:
    def wrap(number: int, channel: Channel) -> Channel:
        return CloseAfter(channel, sent_bytes=2) if number == 1 else channel

    async with sockets() as (source, _):
        extra = ExtraFaults(source, wrap).capability(ExtraChannels)
        assert extra is not None
        async with extra.open_channel() as first, extra.open_channel() as second:
            await first.send_segments([b"abc"])
            with pytest.raises(PeerClosedError):
                await second.send_segments([b"abc"])


def test_wrapper_has_no_capability_that_the_channel_within_lacks() -> None:
    class OneWay(ChannelWrapper):
        def capability(self, kind: type[object]) -> None:
            return None

    source, _ = memory_channel_pair()
    assert CloseAfter(OneWay(source)).capability(ReturnPath) is None
    assert CloseAfter(source).capability(ExtraChannels) is None
