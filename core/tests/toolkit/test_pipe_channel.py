"""Pipes do what every channel must do; and what only pipes can do wrong."""

from __future__ import annotations

import os
import threading
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from transship.abc import ReturnPath
from transship.errors import ChannelError, PeerClosedError, StalledError
from transship.testing.checking import (
    blocked_receive,
    blocked_send,
    receive_exactly,
    receive_to_end,
)
from transship.testing.pytest_plugin import ChannelConformance
from transship.toolkit import PipeChannel
from transship.toolkit.vectored import SEGMENTS_PER_CALL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.testing import MakePair


@asynccontextmanager
async def one_way() -> AsyncIterator[tuple[PipeChannel, PipeChannel]]:
    reads, writes = os.pipe()
    source = PipeChannel("the reader", sending=writes)
    destination = PipeChannel("the writer", receiving=reads)
    async with aclosing(source), aclosing(destination):
        yield source, destination


@asynccontextmanager
async def both_ways() -> AsyncIterator[tuple[PipeChannel, PipeChannel]]:
    down, up = os.pipe(), os.pipe()
    source = PipeChannel("the destination", sending=down[1], receiving=up[0])
    destination = PipeChannel("the source", sending=up[1], receiving=down[0])
    async with aclosing(source), aclosing(destination):
        yield source, destination


class TestOnePipe(ChannelConformance):
    @pytest.fixture
    def make_pair(self) -> MakePair:
        return one_way


class TestTwoPipes(ChannelConformance):
    @pytest.fixture
    def make_pair(self) -> MakePair:
        return both_ways


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_only_a_channel_of_two_pipes_leads_back() -> None:
    async with one_way() as (source, _), both_ways() as (there, back):
        assert source.capability(ReturnPath) is None
        for channel in (there, back):
            assert channel.capability(ReturnPath) is not None
        await there.send_eof()
        assert there.capability(ReturnPath) is not None


async def test_one_pipe_refuses_the_direction_that_it_has_not() -> None:
    async with one_way() as (source, destination):
        with pytest.raises(ChannelError, match="it is only written to"):
            await source.receive_some_into(memoryview(bytearray(1)))
        with pytest.raises(ChannelError, match="it is only written to"):
            await source.wait_for_data()
        with pytest.raises(ChannelError, match="it is only written to"):
            source.blocking_receiver(1.0)
        with pytest.raises(ChannelError, match="it is only read from"):
            destination.blocking_sender(1.0)
        with pytest.raises(ChannelError, match="it is only read from"):
            await destination.send_segments([b"x"])


async def test_more_segments_than_a_call_takes_arrive_in_order() -> None:
    segments = [b"%06d" % turn for turn in range(2 * SEGMENTS_PER_CALL + 1)]
    async with one_way() as (source, destination), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            await source.send_segments(segments)
            await source.send_eof()

        assert await receive_to_end(destination, 1_001) == b"".join(segments)


async def test_closing_gives_the_descriptors_back_at_once_and_once() -> None:
    before = open_descriptors()
    async with both_ways() as (source, destination), blocked_receive(destination):
        await source.send_eof()
        await source.aclose()
        await destination.aclose()
        assert open_descriptors() == before
        others = [os.dup(0) for _ in range(4)]
        await source.aclose()
        await destination.aclose()
        for other in others:
            os.close(other)


async def test_closed_channel_is_not_waited_on_nor_lent_to_threads() -> None:
    async with both_ways() as (source, _):
        await source.aclose()
        for call in (source.blocking_sender, source.blocking_receiver):
            with pytest.raises(ChannelError, match="closed on this side"):
                call(1.0)
        with pytest.raises(ChannelError, match="closed on this side"):
            await source.wait_for_data()


async def test_closing_ends_waiting_for_data() -> None:
    async with one_way() as (_, destination), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await destination.wait_for_data()

        await trio.testing.wait_all_tasks_blocked()
        await destination.aclose()


# In the hands of threads.


async def in_thread(call: object, *arguments: object) -> None:
    await trio.to_thread.run_sync(call, *arguments)  # type: ignore[arg-type]


async def test_threads_carry_the_same_bytes_as_tasks() -> None:
    data = os.urandom(5_000_003)
    async with one_way() as (source, destination):
        sender, receiver = source.blocking_sender(10.0), destination.blocking_receiver(10.0)
        target = bytearray(len(data) + 6)
        counts = []

        def receive() -> None:
            with memoryview(target) as view, view[:7] as first, view[7:] as rest:
                counts.append(receiver.receive([first, rest]))
                counts.append(receiver.receive_some(first))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, receive)
            with memoryview(data) as view:
                await in_thread(sender.send, [b"", view[:11], view[11:], b"abc"])
            await source.send_segments([b"def"])
            await source.send_eof()
        assert counts == [len(data) + 6, 0]
        assert target == data + b"abcdef"


async def test_thread_that_waits_too_long_is_told_so() -> None:
    async with both_ways() as (source, _):
        began_s = time.monotonic()
        with pytest.raises(StalledError, match=r"did nothing for 0\.1 s"):
            await in_thread(source.blocking_sender(0.1).send, [bytes(1 << 24)])
        with pytest.raises(StalledError, match=r"did nothing for 0\.1 s"):
            await in_thread(source.blocking_receiver(0.1).receive_some, memoryview(bytearray(1)))
        assert time.monotonic() - began_s < 5
        with pytest.raises(ChannelError, match="cut short"):
            await source.send_segments([b"x"])


async def test_interruption_breaks_a_call_all_later_ones_and_the_channels_own() -> None:
    async with both_ways() as (source, destination):
        sender = source.blocking_sender(60.0)
        threading.Timer(0.05, sender.interrupt).start()
        for _ in range(2):
            with pytest.raises(ChannelError, match="closed on this side"):
                await in_thread(sender.send, [bytes(1 << 24)])
        with pytest.raises(ChannelError, match="cut short"):
            await source.send_segments([b"x"])
        await destination.send_return(b"the other half works on")
        assert await receive_exactly(source, 3) == b"the"

        receiver = source.blocking_receiver(60.0)
        with memoryview(bytearray(100)) as target:
            assert receiver.receive_some(target) == 20
            threading.Timer(0.05, receiver.interrupt).start()
            for _ in range(2):
                with pytest.raises(ChannelError, match="closed on this side"):
                    await in_thread(receiver.receive, [target])
            with pytest.raises(ChannelError, match="closed on this side"):
                await source.receive_some_into(target)


async def test_interruption_during_a_tasks_send_holds_though_that_send_gets_through() -> None:
    async with both_ways() as (source, destination):
        sender = source.blocking_sender(60.0)
        unread = bytes(1 << 24)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.send_segments, [unread])
            await wait_all_tasks_blocked()
            sender.interrupt()
            assert await receive_exactly(destination, len(unread)) == unread
        with pytest.raises(ChannelError, match="cut short"):
            await source.send_segments([b"x"])


async def test_closing_breaks_a_thread_that_waits_and_frees_the_descriptor() -> None:
    before = open_descriptors()
    async with both_ways() as (source, destination), trio.open_nursery() as nursery:
        sender, receiver = source.blocking_sender(60.0), source.blocking_receiver(60.0)

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(ChannelError, match="closed on this side"):
                await in_thread(sender.send, [bytes(1 << 24)])

        @nursery.start_soon
        async def receive() -> None:
            with pytest.raises(ChannelError, match="closed on this side"):
                await in_thread(receiver.receive_some, memoryview(bytearray(1)))

        await trio.sleep(0.05)
        await source.aclose()
        with trio.fail_after(2):
            while open_descriptors() > before + 2:  # noqa: ASYNC110 (the kernel sets no event)
                await trio.sleep(0.01)
        await destination.aclose()


async def test_lost_reader_is_told_in_a_thread_as_in_a_task() -> None:
    async with one_way() as (source, destination):
        await destination.aclose()
        with pytest.raises(PeerClosedError, match="the reader closed the channel: Broken pipe"):
            source.blocking_sender(1.0).send([b"x"])


async def test_cancelled_send_leaves_the_receiving_direction_alone() -> None:
    async with both_ways() as (source, destination), blocked_send(source) as attempt:
        attempt.scope.cancel()
        await attempt.wait()
        await destination.send_return(b"still here")
        assert await receive_exactly(source, 10) == b"still here"
