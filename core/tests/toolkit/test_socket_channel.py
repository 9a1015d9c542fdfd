"""Sockets do what every channel must do; and what only sockets can do wrong."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
from channel_pairs import unix_pair
from trio.testing import wait_all_tasks_blocked

from transship.errors import ChannelError, PeerClosedError, StalledError
from transship.testing.checking import (
    blocked_receive,
    blocked_send,
    receive_exactly,
    receive_to_end,
)
from transship.testing.pytest_plugin import ChannelConformance
from transship.toolkit.vectored import SEGMENTS_PER_CALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.testing import MakePair
    from transship.toolkit import BlockingSocketSender


class TestSocketPair(ChannelConformance):
    @pytest.fixture
    def make_pair(self) -> MakePair:
        return unix_pair


@pytest.mark.parametrize("more", [-1, 0, 1, SEGMENTS_PER_CALL + 1])
async def test_more_segments_than_a_call_takes_arrive_in_order(more: int) -> None:
    segments = [b"%06d" % turn for turn in range(SEGMENTS_PER_CALL + more)]
    async with unix_pair() as (source, destination), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            await source.send_segments(segments)
            await source.send_eof()

        assert await receive_to_end(destination, 1_001) == b"".join(segments)


async def test_run_of_empty_segments_longer_than_a_call_takes_is_skipped() -> None:
    async with unix_pair() as (source, destination):
        await source.send_segments([*[b""] * (2 * SEGMENTS_PER_CALL), b"x"])
        await source.send_eof()
        assert await receive_to_end(destination) == b"x"


async def test_lost_peer_is_named_with_the_kernels_reason_as_cause() -> None:
    async with unix_pair() as (source, destination):
        await destination.aclose()
        with pytest.raises(PeerClosedError, match="the other closed the channel: ") as caught:
            await source.send_segments([b"x"])
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EPIPE


async def test_send_after_failed_send_says_that_the_channel_is_spoilt() -> None:
    async with unix_pair() as (source, destination):
        await destination.aclose()
        with pytest.raises(PeerClosedError):
            await source.send_segments([b"x"])
        with pytest.raises(ChannelError, match="an earlier send was cut short"):
            await source.send_segments([b"x"])
        with pytest.raises(ChannelError, match="an earlier send was cut short"):
            await source.send_eof()


def send_views(sender: BlockingSocketSender) -> None:
    sender.send([bytes(16 << 20)])


def send_with_a_function(sender: BlockingSocketSender) -> None:
    sender.send_with(lambda descriptor: os.write(descriptor, bytes(16 << 20)))
    sender.send_with(lambda descriptor: os.write(descriptor, bytes(16 << 20)))


@pytest.mark.parametrize("send", [send_views, send_with_a_function])
async def test_channel_is_spoilt_by_a_thread_that_gave_up_sending(
    send: Callable[[BlockingSocketSender], None],
) -> None:
    async with unix_pair() as (source, destination):
        with pytest.raises(StalledError):
            await trio.to_thread.run_sync(send, source.blocking_sender(0.05))
        with pytest.raises(ChannelError, match="an earlier send was cut short"):
            await source.send_segments([b"x"])
        with pytest.raises(ChannelError, match="an earlier send was cut short"):
            source.blocking_sender(0.05)
        await destination.send_return(b"still here")
        assert await receive_exactly(source, 10) == b"still here"


async def test_channel_that_is_closed_gives_no_halves_away() -> None:
    async with unix_pair() as (source, _):
        await source.aclose()
        for half in (source.blocking_sender, source.blocking_receiver):
            with pytest.raises(ChannelError, match="closed on this side"):
                half(1.0)


async def test_last_words_of_the_peer_are_received_after_a_failed_send() -> None:
    async with unix_pair() as (source, destination):
        await destination.send_return(b"disk full")
        await destination.aclose()
        with pytest.raises(PeerClosedError):
            await source.send_segments([b"x"])
        target = memoryview(bytearray(100))
        count = await source.receive_return_into(target)
        assert bytes(target[:count]) == b"disk full"


async def test_cancelled_send_leaves_the_receiving_direction_alone() -> None:
    async with unix_pair() as (source, destination), blocked_send(source) as attempt:
        attempt.scope.cancel()
        await attempt.wait()
        await destination.send_return(b"still here")
        target = memoryview(bytearray(100))
        assert await source.receive_return_into(target) == 10


async def test_second_sender_does_not_poison_the_channel() -> None:
    async with unix_pair() as (source, destination), trio.open_nursery() as nursery:
        nursery.start_soon(source.send_segments, [bytes(1_000_000)])
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await source.send_segments([b"x"])
        with pytest.raises(trio.BusyResourceError):
            await source.send_eof()
        left = 1_000_000
        while left:
            left -= await destination.receive_some_into(memoryview(bytearray(left)))
        await wait_all_tasks_blocked()
        await source.send_segments([b"y"])


async def test_empty_target_is_refused_since_zero_means_the_end() -> None:
    async with unix_pair() as (_, destination):
        with pytest.raises(ValueError, match="empty"):
            await destination.receive_some_into(memoryview(b""))


async def test_end_can_be_sent_twice_but_not_after_closing() -> None:
    async with unix_pair() as (source, _):
        await source.send_eof()
        await source.send_eof()
        await source.aclose()
        with pytest.raises(ChannelError, match="closed on this side"):
            await source.send_eof()


async def test_closing_gives_the_descriptor_back_at_once() -> None:
    async with unix_pair() as (source, destination), blocked_receive(source):
        before = len(os.listdir("/proc/self/fd"))
        await source.aclose()
        await destination.aclose()
        assert len(os.listdir("/proc/self/fd")) == before - 2


async def test_reset_by_the_peer_is_an_error_not_an_end() -> None:
    async with unix_pair() as (source, destination):
        await source.send_segments([b"unread"])
        await destination.aclose()  # with bytes unread: the kernel resets the connection
        with pytest.raises(PeerClosedError):
            await source.receive_some_into(memoryview(bytearray(1)))
