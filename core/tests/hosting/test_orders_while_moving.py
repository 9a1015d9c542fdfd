"""A guest is told to stop and to go on while it moves: where it leaves, and where it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_orders import PAUSES

from transship.engine.notifiers import HandoverBegins, Notice, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, CancelledError
from transship.hosting.runstate import RunState

from .hosted import SLOW, URI, over, reached, state, two_hosts

if TYPE_CHECKING:
    from trio.testing import MockClock

    from transship.hosting.host import Host

STATE_AFTER: Final = {"stop": "paused", "cont": "running"}


async def tell(host: Host, order: str) -> None:
    await (host.stop() if order == "stop" else host.cont())


async def test_guest_may_be_stopped_and_resumed_while_its_memory_travels(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        await hosts.here.start_migration(URI)
        await trio.sleep(0.5)
        await hosts.here.stop()
        assert state(hosts.here) == "paused"
        await hosts.here.cont()
        assert state(hosts.here) == "running"
        await over(hosts.here, hosts.there)
        assert state(hosts.there) == "running"


async def test_guest_that_is_stopped_while_its_memory_travels_arrives_standing_still(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        await hosts.here.start_migration(URI)
        await trio.sleep(0.5)
        await hosts.here.stop()
        await over(hosts.here, hosts.there)
        assert state(hosts.here) == "postmigrate"
        assert state(hosts.there) == "paused"


@pytest.mark.seed("S67")
@pytest.mark.parametrize("order", ["cont", "stop"])
async def test_order_that_has_begun_is_carried_out_before_the_guest_is_paused(
    order: str, autojump_clock: MockClock
) -> None:
    async with two_hosts() as hosts:
        if order == "cont":
            await hosts.here.stop()
        hosts.guest.takes_s = {"pause": 2.0, "resume": 2.0}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, hosts.here, order)
            await trio.sleep(0.5)
            await hosts.here.start_migration(URI)
        await over(hosts.here, hosts.there)
        assert hosts.here.outgoing is not None
        assert hosts.here.outgoing.error is None
        assert state(hosts.there) == STATE_AFTER[order]


@pytest.mark.seed("S67")
async def test_guest_cannot_be_resumed_while_it_is_handed_over(autojump_clock: MockClock) -> None:
    async with two_hosts(capabilities=PAUSES) as hosts:
        migration = await hosts.here.start_migration(URI)
        await reached(hosts.here, RunState.FINISH_MIGRATE)
        with pytest.raises(BlockedError, match="while it is handed over"):
            await hosts.here.cont()
        assert not hosts.guest.is_running
        migration.switch_over()
        await over(hosts.here)
        assert migration.error is None


@pytest.mark.parametrize("end", ["cancelled", "completed"])
async def test_stop_during_the_hand_over_is_remembered_by_a_guest_that_stays(
    end: str, autojump_clock: MockClock
) -> None:
    async with two_hosts(capabilities=PAUSES) as hosts:
        migration = await hosts.here.start_migration(URI)
        await reached(hosts.here, RunState.FINISH_MIGRATE)
        await hosts.here.stop()
        assert state(hosts.here) == "finish-migrate"
        if end == "cancelled":
            migration.cancel()
            await over(hosts.here)
            assert state(hosts.here) == "paused"
            assert not hosts.guest.is_running
            await hosts.here.cont()
        else:
            migration.switch_over()
            await over(hosts.here)
            assert state(hosts.here) == "postmigrate"
        await over(hosts.there)


async def test_stop_that_comes_just_before_the_pause_is_remembered_by_a_guest_that_stays(
    autojump_clock: MockClock,
) -> None:
    async def slowly(notice: Notice) -> None:
        if isinstance(notice, HandoverBegins):
            await trio.sleep(5.0)

    async with two_hosts() as hosts:
        hosts.here.notifiers.add(slowly)
        migration = await hosts.here.start_migration(URI)
        await trio.sleep(1.0)
        assert HandoverBegins() in hosts.seen_here.notices
        await hosts.here.stop()
        migration.cancel()
        await over(hosts.here)
        assert isinstance(migration.error, CancelledError)
        assert state(hosts.here) == "paused"
        assert not hosts.guest.is_running
        await over(hosts.there)


@pytest.mark.parametrize("status", ["setup", "active", "device"])
@pytest.mark.parametrize("order", ["stop", "cont"])
async def test_order_for_a_guest_that_is_still_to_arrive_is_obeyed_when_it_has(
    order: str, status: str, autojump_clock: MockClock
) -> None:
    async with two_hosts(autostart=order == "stop") as hosts:

        async def give(notice: Notice) -> None:
            if notice == StatusReached(MigrationStatus(status)):
                await tell(hosts.there, order)

        if status == "setup":
            await tell(hosts.there, order)
            assert hosts.arrival.history == []
        else:
            hosts.there.notifiers.add(give)
        await hosts.migrate()
        assert state(hosts.there) == STATE_AFTER[order]


@pytest.mark.parametrize("order", ["stop", "cont"])
async def test_order_that_comes_while_the_guest_is_being_started_is_obeyed(
    order: str, autojump_clock: MockClock
) -> None:
    async with two_hosts() as hosts:
        hosts.arrival.takes_s["resume"] = 2.0
        await hosts.here.start_migration(URI)
        await trio.sleep(1.0)
        assert state(hosts.there) == "inmigrate"
        await tell(hosts.there, order)
        await over(hosts.here, hosts.there)
        assert state(hosts.there) == STATE_AFTER[order]
