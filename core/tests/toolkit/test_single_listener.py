"""A listener over one channel offers it once, when it is used, and keeps nobody after closing."""

from __future__ import annotations

import pytest
import trio

from transship.errors import ChannelError
from transship.testing import memory_channel_pair
from transship.testing.checking import blocked, settle
from transship.toolkit import SingleListener


class Used:
    """Whether the source has begun to use the channel."""

    def __init__(self) -> None:
        self.event = trio.Event()

    async def wait(self) -> None:
        await self.event.wait()


async def test_channel_is_offered_when_it_is_used_and_not_again() -> None:
    used = Used()
    channel, _ = memory_channel_pair()
    listener = SingleListener(channel, "pipe:1", used.wait)
    assert listener.uri == "pipe:1"
    async with blocked("accepting what nobody uses", listener.accept):
        pass
    used.event.set()
    assert await listener.accept() is channel
    async with blocked("accepting again", listener.accept):
        pass


async def test_cancelled_accept_loses_no_channel() -> None:
    channel, _ = memory_channel_pair()
    listener = SingleListener(channel, "pipe:1", trio.lowlevel.checkpoint)
    with trio.CancelScope() as scope:
        scope.cancel()
        await listener.accept()
    assert scope.cancelled_caught
    assert await listener.accept() is channel


async def test_two_who_accept_do_not_both_get_the_channel() -> None:
    channel, _ = memory_channel_pair()
    listener = SingleListener(channel, "pipe:1", trio.lowlevel.checkpoint)
    got = []

    async def accept() -> None:
        got.append(await listener.accept())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        nursery.start_soon(accept)
        await settle()
        nursery.cancel_scope.cancel()
    assert got == [channel]


async def test_closing_closes_a_channel_that_nobody_took_and_ends_accepting() -> None:
    channel, _ = memory_channel_pair()
    listener = SingleListener(channel, "pipe:1", trio.lowlevel.checkpoint)
    await listener.aclose()
    await listener.aclose()
    with pytest.raises(ChannelError, match="closed"):
        await channel.send_segments([b"x"])
    with pytest.raises(ChannelError, match="pipe:1 is no longer listened on"):
        await listener.accept()


async def test_closing_leaves_the_channel_to_who_took_it_and_ends_waiting_for_another() -> None:
    channel, other = memory_channel_pair()
    listener = SingleListener(channel, "pipe:1", trio.lowlevel.checkpoint)
    taken = await listener.accept()
    async with blocked("accepting again", listener.accept) as attempt:
        await listener.aclose()
        await attempt.wait()
        assert attempt.error is not None
    await taken.send_segments([b"x"])
    await other.receive_into(memoryview(bytearray(1)))


async def test_channel_that_is_closed_while_waited_for_is_an_end_of_listening() -> None:
    closing = trio.Event()

    async def until_used() -> None:
        await closing.wait()
        raise trio.ClosedResourceError

    channel, _ = memory_channel_pair()
    listener = SingleListener(channel, "pipe:1", until_used)
    async with blocked("accepting", listener.accept) as attempt:
        await listener.aclose()
        closing.set()
        await attempt.wait()
        assert attempt.error is not None
