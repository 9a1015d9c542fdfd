"""A guest moves: what both hosts say, and that it never runs again where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from engine_channels import OneWay
from engine_machine import LAST_WORDS
from engine_orders import PAUSES

from transship.engine.notifiers import GuestPaused, Notice
from transship.errors import BlockedError
from transship.hosting.runstate import RunState

from .hosted import URI, over, state, two_hosts

if TYPE_CHECKING:
    from memory_transport import Network
    from trio.testing import MockClock


@pytest.mark.seed("S33", "S38", "S56", "S62")
async def test_guest_moves_and_both_hosts_say_so(autojump_clock: MockClock) -> None:
    async with two_hosts() as hosts:
        migration = await hosts.here.start_migration(URI)
        assert migration is hosts.here.outgoing is hosts.here.active
        await over(hosts.here, hosts.there)
        assert migration.error is None
        assert LAST_WORDS in hosts.arrival.contents()["ram"]
    assert hosts.seen_here.run_states == [
        RunState.RUNNING,
        RunState.FINISH_MIGRATE,
        RunState.POSTMIGRATE,
    ]
    assert hosts.seen_there.run_states == [RunState.INMIGRATE, RunState.RUNNING]
    assert hosts.over == [hosts.there.incoming, migration] or hosts.over == [
        migration,
        hosts.there.incoming,
    ]


@pytest.mark.parametrize("has_run", [True, False])
async def test_guest_that_stands_still_moves_and_stands_still(
    has_run: bool, autojump_clock: MockClock
) -> None:
    async with two_hosts(runs=has_run) as hosts:
        await hosts.here.stop()
        await hosts.migrate()
        assert state(hosts.here) == "postmigrate"
        assert state(hosts.there) == "paused"
        await hosts.there.cont()
        assert state(hosts.there) == "running"


async def test_guest_is_in_finish_migrate_while_it_waits_for_the_switchover(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(capabilities=PAUSES) as hosts:
        migration = await hosts.here.start_migration(URI)
        await trio.sleep(1.0)
        assert state(hosts.here) == "finish-migrate"
        migration.switch_over()
        await over(hosts.here)
        assert state(hosts.here) == "postmigrate"


async def test_guest_that_moves_while_an_order_is_still_being_told_does_not_run_here_any_more(
    autojump_clock: MockClock,
) -> None:
    """Whoever hears of the order takes so long that the hand-over does not wait for it."""

    async def slowly(notice: Notice) -> None:
        if notice == GuestPaused():
            await trio.sleep(9.0)

    async with two_hosts() as hosts:
        for _ in range(3):
            hosts.here.notifiers.add(slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hosts.here.stop)
            await trio.sleep(0.5)
            assert state(hosts.here) == "paused"
            await hosts.here.start_migration(URI)
            await over(hosts.here)
        await over(hosts.there)
        assert state(hosts.there) == "paused"
        await hosts.there.cont()
        assert state(hosts.here) == "postmigrate"
        with pytest.raises(BlockedError, match="it is the destination's"):
            await hosts.here.cont()


async def test_guest_that_has_moved_for_certain_does_not_run_here_any_more(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        for _ in range(2):
            with pytest.raises(BlockedError, match="it is the destination's"):
                await hosts.here.cont()
        await hosts.here.stop()
        assert state(hosts.here) == "postmigrate"
        with pytest.raises(BlockedError, match="moved away already"):
            await hosts.here.start_migration("memory:other")


async def test_guest_that_left_by_a_channel_without_answers_may_be_told_to_run(
    network: Network, autojump_clock: MockClock
) -> None:
    network.near = network.far = OneWay
    async with two_hosts(storage_is_shared=False) as hosts:
        hosts.arrival.fails_in = ["resume"]
        await hosts.migrate()
        assert state(hosts.here) == "postmigrate"
        await hosts.here.cont()
        assert state(hosts.here) == "running"
