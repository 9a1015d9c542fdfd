"""Who connects introduces itself first, and whoever says nothing keeps nobody out."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from transship.errors import BlockedError, ChannelError
from transship.testing import memory_channel_pair
from transship.testing.checking import blocked, settle
from transship.toolkit import introducing_listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from transship.abc import Channel, Listener


class Connection:
    """Somebody who connects.

    Args:
        takes_s: How long the introduction takes.
        fails: What it ends with, if not with a channel.
    """

    def __init__(self, takes_s: float = 0.0, fails: Exception | None = None) -> None:
        self._takes_s = takes_s
        self._fails = fails
        self.source, self.channel = memory_channel_pair()
        self.closed = trio.Event()

    async def introduce(self) -> Channel:
        try:
            await trio.sleep(self._takes_s)
            if self._fails is not None:
                raise self._fails
        except BaseException:
            self.closed.set()
            raise
        return self.channel


class Door:
    """Where connections come from; an exception among them is raised."""

    def __init__(self, *coming: Connection | Exception) -> None:
        self._queue, self._coming = trio.open_memory_channel["Connection | Exception"](1000)
        for one in coming:
            self.let_in(one)

    def let_in(self, one: Connection | Exception) -> None:
        self._queue.send_nowait(one)

    @property
    def waiting(self) -> int:
        return self._queue.statistics().current_buffer_used

    async def take(self) -> Connection:
        one = await self._coming.receive()
        if isinstance(one, Exception):
            raise one
        return one


@asynccontextmanager
async def listening(
    *doors: Door, timeout_s: float = math.inf, **options: Any
) -> AsyncIterator[Listener]:
    async with introducing_listener(
        "kite:1",
        [door.take for door in doors],
        Connection.introduce,
        timeout_s=timeout_s,
        name=lambda connection: "a kite",
        **options,
    ) as listener:
        yield listener


async def is_closed(channel: Channel) -> bool:
    try:
        await channel.send_segments((b"x",))
    except ChannelError:
        return True
    return False


async def test_who_is_quicker_is_accepted_first(autojump_clock: MockClock) -> None:
    slow, quick = Connection(takes_s=2), Connection(takes_s=1)
    async with listening(Door(slow, quick)) as listener:
        assert listener.uri == "kite:1"
        assert await listener.accept() is quick.channel
        assert await listener.accept() is slow.channel
        async with blocked("accepting from nobody", listener.accept):
            pass


async def test_connections_of_every_place_are_taken(autojump_clock: MockClock) -> None:
    doors = [Door() for _ in range(40)]
    async with listening(*doors) as listener:
        for door in doors:
            connection = Connection()
            door.let_in(connection)
            with trio.fail_after(60):
                assert await listener.accept() is connection.channel


async def test_who_fails_or_says_nothing_is_turned_away(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, silent, good = Connection(fails=OSError("what?")), Connection(math.inf), Connection()
    async with listening(Door(wrong, silent, good), timeout_s=5) as listener:
        assert await listener.accept() is good.channel
        assert not silent.closed.is_set()
        await trio.sleep(6)
        assert silent.closed.is_set()
    assert caplog.messages == [
        "a connection from a kite was turned away: what?",
        "a connection from a kite was turned away: it did not introduce itself within 5.0 s",
    ]


async def test_many_who_say_nothing_make_room_in_time(autojump_clock: MockClock) -> None:
    silent = [Connection(math.inf) for _ in range(50)]
    good = Connection(takes_s=1)
    async with listening(Door(*silent, good), timeout_s=60) as listener:
        assert await listener.accept() is good.channel
        assert trio.current_time() < 10
        assert not silent[-1].closed.is_set()  # nobody waits any more


async def test_those_who_are_ready_are_bounded_and_the_others_wait(
    autojump_clock: MockClock,
) -> None:
    door = Door(*[Connection() for _ in range(100)])
    async with listening(door, ready=3) as listener:
        await trio.sleep(60)
        assert door.waiting > 50
        for _ in range(100):
            await listener.accept()


@pytest.mark.parametrize("accepts_more", [True, False])
async def test_what_would_be_wrong_with_all_of_them_is_told(accepts_more: bool) -> None:
    connection = Connection(fails=BlockedError("no kites here"))
    async with listening(Door(connection), accepts_more=accepts_more) as listener:
        assert listener.accepts_more is accepts_more
        with pytest.raises(BlockedError, match="no kites here"):
            await listener.accept()


async def test_failure_of_the_only_one_is_told() -> None:
    door = Door(Connection(fails=ChannelError("what?")))
    async with listening(door, accepts_more=False) as listener:
        with pytest.raises(ChannelError, match=r"what\?"):
            await listener.accept()


async def test_want_of_descriptors_is_a_pause_and_another_error_is_told(
    autojump_clock: MockClock,
) -> None:
    connection = Connection()
    failures = [OSError("too many open files")] * 30
    door = Door(*failures, connection, ChannelError("the door is shut"))
    async with listening(door) as listener:
        assert await listener.accept() is connection.channel
        with pytest.raises(ChannelError, match="the door is shut"):
            await listener.accept()


async def test_leaving_ends_introductions_and_closes_what_nobody_accepted() -> None:
    accepted, ready, silent = Connection(), Connection(), Connection(math.inf)
    async with trio.open_nursery() as nursery:
        async with listening(Door(accepted, ready, silent)) as listener:
            assert await listener.accept() is accepted.channel
            await settle()
        assert silent.closed.is_set()
        assert await is_closed(ready.source)
        assert not await is_closed(accepted.source)
        with pytest.raises(ChannelError, match="no longer listened on"):
            await listener.accept()

        async with listening(Door()) as other:

            @nursery.start_soon
            async def accept() -> None:
                with pytest.raises(ChannelError, match="no longer listened on"):
                    await other.accept()

            await settle()


async def test_accept_that_is_cancelled_loses_no_channel() -> None:
    connection = Connection()
    async with listening(Door(connection)) as listener:
        await settle()
        with trio.CancelScope() as scope:
            scope.cancel()
            await listener.accept()
        assert scope.cancelled_caught
        assert await listener.accept() is connection.channel


async def test_failure_of_the_block_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError, match="a kite"):
        async with listening(Door(Connection())):
            raise KeyError("a kite")
