"""A channel over TLS does what every channel must do, and tells the truth about what came."""

from __future__ import annotations

import os
import random
import threading
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
from channel_pairs import memory_pair, tcp_pair, unix_pair
from tls_pair import secured

from transship.abc import Blocking, DescriptorPassing, ExtraChannels, RemoteMemory, Seekable
from transship.errors import ChannelError, StalledError, TlsError
from transship.testing.checking import blocked_send, receive_exactly, receive_to_end
from transship.testing.faults import ChannelWrapper
from transship.testing.pytest_plugin import ChannelConformance
from transship.tls.channel import TlsChannel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from transship.abc import Channel
    from transship.buffers import Buffer
    from transship.testing import MakePair

MIB = 1 << 20


class TestOverMemory(ChannelConformance):
    @pytest.fixture
    def make_pair(self, pki: Path) -> MakePair:
        return secured(memory_pair, pki)


class TestOverUnix(ChannelConformance):
    @pytest.fixture
    def make_pair(self, pki: Path) -> MakePair:
        return secured(unix_pair, pki)


class TestOverTcp(ChannelConformance):
    @pytest.fixture
    def make_pair(self, pki: Path) -> MakePair:
        return secured(tcp_pair, pki)


async def test_what_goes_beside_the_bytes_is_not_offered_over_tls(pki: Path) -> None:
    async with secured(unix_pair, pki)() as (source, _):
        assert source.capability(Blocking) is not None
        for kind in (DescriptorPassing, RemoteMemory, Seekable, ExtraChannels):
            assert source.capability(kind) is None
        with pytest.raises(ChannelError, match="there is only one channel"):
            source.open_channel()  # type: ignore[attr-defined]


@pytest.mark.parametrize("step_bytes", [1, 1000, 16_384, 70_000])
async def test_what_had_arrived_is_received_after_the_end_was_sent(
    pki: Path, step_bytes: int
) -> None:
    message = random.Random(1).randbytes(100_000)
    async with secured(memory_pair, pki)() as (source, destination):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def send() -> None:
                    await source.send_segments([message])
                    await source.send_eof()

                first = await receive_exactly(destination, 10)
                await destination.send_eof()
                rest = await receive_to_end(destination, step_bytes)
            assert first + rest == message
            assert await receive_to_end(source) == b""


async def test_end_without_a_farewell_is_an_end(pki: Path) -> None:
    async with unix_pair() as pair, secured_over(pair, pki) as (source, destination):
        await source.send_segments([b"x" * 5])
        await pair[0].send_eof()
        assert await receive_to_end(destination) == b"x" * 5


def secured_over(
    pair: tuple[Channel, Channel], pki: Path
) -> AbstractAsyncContextManager[tuple[Channel, Channel]]:
    return secured(lambda: nullcontext(pair), pki)()


class Flipping(ChannelWrapper):
    """Changes one bit of the n-th byte that is sent from now on."""

    at: int | None = None

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        data = bytearray(b"".join(bytes(segment) for segment in segments))
        if self.at is not None:
            if self.at < len(data):
                data[self.at] ^= 1 << (self.at % 8)
                self.at = None
            else:
                self.at -= len(data)
        await super().send_segments([data])


@pytest.mark.parametrize("where", [0, 1, 2, 3, 4, 5, 20, 900, 16_000, 16_400, 17_000, 50_000])
async def test_changed_bit_is_an_error_and_nothing_wrong_is_delivered(
    pki: Path, where: int
) -> None:
    message = random.Random(where).randbytes(60_000)
    async with memory_pair() as (source, destination):
        flipping = Flipping(source)
        async with secured_over((flipping, destination), pki) as (safe, other):
            flipping.at = where
            received = bytearray()
            step = memoryview(bytearray(997))
            await safe.send_segments([message])  # as much as the channel holds
            await safe.send_eof()
            with pytest.raises(TlsError):  # noqa: PT012 (the loop ends in it)
                while count := await other.receive_some_into(step):
                    received += step[:count]
            assert message.startswith(received)
            with pytest.raises(TlsError):  # and it stays one: no end, as the library would say
                await other.receive_some_into(step)


@pytest.mark.parametrize("make_pair", [unix_pair, tcp_pair], ids=["unix", "tcp"])
async def test_threads_send_while_tasks_receive_in_both_directions(
    pki: Path, make_pair: MakePair
) -> None:
    chance = random.Random(7)
    total = 24 * MIB
    blob = chance.randbytes(total)
    async with secured(make_pair, pki)() as (source, destination):
        assert isinstance(source, TlsChannel)
        assert isinstance(destination, TlsChannel)

        def cut(seed: int) -> list[int]:
            sizes = random.Random(seed)
            places = sorted(sizes.sample(range(1, total), 400))
            return [0, *places, total]

        def send(channel: TlsChannel, seed: int) -> None:
            sender = channel.blocking_sender(10)
            places = cut(seed)
            for first, last in pairwise(places):
                middle = (first + last) // 2
                sender.send([memoryview(blob)[first:middle], b"", memoryview(blob)[middle:last]])

        def receive(channel: TlsChannel, found: bytearray) -> None:
            receiver = channel.blocking_receiver(10)
            view = memoryview(found)
            half = total // 2
            assert receiver.receive([view[:half], view[half : half + 1]]) == half + 1
            done = half + 1
            while done < total:
                done += receiver.receive_some(view[done : done + 100_000])

        async def receive_in_loop(channel: TlsChannel, found: bytearray) -> None:
            sizes = random.Random(3)
            done = 0
            while done < total:
                room = min(sizes.choice([1, 100, 20_000, 1_000_000]), total - done)
                done += await channel.receive_some_into(memoryview(found)[done : done + room])

        there, here = bytearray(total), bytearray(total)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                run = trio.to_thread.run_sync
                nursery.start_soon(run, send, source, 1)
                nursery.start_soon(run, receive, destination, there)
                nursery.start_soon(run, send, destination, 2)
                nursery.start_soon(receive_in_loop, source, here)
        assert there == blob
        assert here == blob


async def test_both_halves_of_one_side_may_be_in_threads_at_once(pki: Path) -> None:
    blob = random.Random(8).randbytes(8 * MIB)
    async with secured(unix_pair, pki)() as (source, destination):
        found = [bytearray(len(blob)), bytearray(len(blob))]

        def send(channel: Channel) -> None:
            channel.blocking_sender(10).send([blob])  # type: ignore[attr-defined]

        def receive(channel: Channel, into: bytearray) -> None:
            receiver = channel.blocking_receiver(10)  # type: ignore[attr-defined]
            assert receiver.receive([memoryview(into)]) == len(blob)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number, channel in enumerate((source, destination)):
                    nursery.start_soon(trio.to_thread.run_sync, send, channel)
                    nursery.start_soon(trio.to_thread.run_sync, receive, channel, found[number])
        assert found == [blob, blob]


async def test_thread_that_sends_after_the_session_broke_gets_an_error_of_ours(pki: Path) -> None:
    async with unix_pair() as pair, secured_over(pair, pki) as (source, destination):
        await pair[1].send_return(b"garbage, not a record of TLS")
        with pytest.raises(TlsError):
            await source.receive_some_into(memoryview(bytearray(9)))
        sender = source.blocking_sender(5)  # type: ignore[attr-defined]
        with pytest.raises(TlsError):
            await trio.to_thread.run_sync(sender.send, [b"x"])
        with pytest.raises(ChannelError, match="an earlier send was cut short"):
            await source.send_segments([b"x"])
        await destination.aclose()


async def test_channel_is_spoilt_by_a_thread_that_gave_up_sending(pki: Path) -> None:
    async with secured(unix_pair, pki)() as (source, destination):
        sender = source.blocking_sender(0.05)  # type: ignore[attr-defined]
        with pytest.raises(StalledError):
            await trio.to_thread.run_sync(sender.send, [bytes(16 * MIB)])
        with pytest.raises(ChannelError, match=r"to the other \(TLS.*an earlier send was cut"):
            await source.send_segments([b"x"])
        with pytest.raises(ChannelError, match="an earlier send was cut short"):
            source.blocking_sender(0.05)  # type: ignore[attr-defined]
        await destination.send_segments([b"last words"])
        assert await receive_exactly(source, 10) == b"last words"


async def test_interrupted_thread_ends_and_the_other_direction_works_on(pki: Path) -> None:
    async with secured(unix_pair, pki)() as (source, destination):
        receiver = destination.blocking_receiver(30)  # type: ignore[attr-defined]
        ended = threading.Event()

        def receive() -> None:
            with pytest.raises(ChannelError, match="closed on this side"):
                receiver.receive_some(memoryview(bytearray(9)))
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, receive)
            await trio.sleep(0.05)
            receiver.interrupt()
        assert ended.is_set()
        await destination.send_segments([b"last words"])
        assert await receive_exactly(source, 10) == b"last words"


@pytest.mark.parametrize("make_pair", [memory_pair, unix_pair], ids=["memory", "unix"])
async def test_closing_while_a_send_is_blocked_takes_no_longer_than_its_farewell(
    pki: Path, make_pair: MakePair
) -> None:
    async with secured(make_pair, pki)() as (source, _):
        async with blocked_send(source) as sending:
            with trio.fail_after(2):
                await source.aclose()
            await sending.wait()
            assert isinstance(sending.error, ChannelError)


async def test_hundred_channels_leave_no_descriptor_behind(pki: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        async with secured(unix_pair, pki)() as (source, destination):
            await source.send_segments([b"x"])
            assert await receive_exactly(destination, 1) == b"x"
    assert len(os.listdir("/proc/self/fd")) <= before
