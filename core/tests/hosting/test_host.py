"""Everything that may be asked of a host, in every state of its guest."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_pair import LAST_WORDS, PAGE, PARAMETERS, OneWay, saying
from memory_transport import TAKEN

from transship.abc.settings import Capability, Parameters, Settings
from transship.engine.limiter import BandwidthLimiter
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    HandoverBegins,
    Notice,
    StatusReached,
)
from transship.engine.status import MigrationStatus
from transship.errors import (
    BlockedError,
    CancelledError,
    ConnectError,
    LocalError,
    NotStartedError,
    PeerClosedError,
    PeerFailedError,
    PluginError,
    StalledError,
    StreamError,
    UnknownOutcomeError,
)
from transship.hosting.host import Host, open_host
from transship.hosting.runstate import RunState
from transship.hosting.shutdown import ShutdownCause, ShuttingDown
from transship.testing import CloseAfter

from .hosted import URI, HostedMachine, over, reached, see, state, two_hosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memory_transport import Network
    from trio.testing import MockClock

    from transship.abc import Channel

PAUSES: Final = [Capability.PAUSE_BEFORE_SWITCHOVER]
SLOW: Final = Parameters(max_bandwidth_bytes_per_s=4 * PAGE, downtime_limit_s=0)
"""Memory travels for two seconds and more."""


@asynccontextmanager
async def one_host(*, runs: bool = True, awaits_migration: bool = False) -> AsyncIterator[Host]:
    guest = HostedMachine(is_source=True)
    async with open_host(
        guest, Settings(parameters=PARAMETERS), awaits_migration=awaits_migration
    ) as host:
        if runs:
            await host.cont()
        yield host
        assert (host.run_state is RunState.RUNNING) is guest.is_running


# Stop and cont.


async def test_guest_of_a_new_host_has_not_run_and_is_left_as_it_is() -> None:
    async with one_host(runs=False) as host:
        assert state(host) == "prelaunch"
        await host.stop()
        assert state(host) == "prelaunch"
        assert host.guest.history == []  # type: ignore[attr-defined]


async def test_guest_runs_and_stands_still_as_it_is_told_and_everybody_hears_of_it() -> None:
    async with one_host(runs=False) as host:
        seen = see(host)
        await host.cont()
        assert state(host) == "running"
        await host.stop()
        assert state(host) == "paused"
        await host.cont()
        assert state(host) == "running"
    assert host.guest.history == ["resume", "pause", "resume"]  # type: ignore[attr-defined]
    assert seen.notices == [GuestResumed(), GuestPaused(), GuestResumed()]


async def test_telling_a_guest_what_it_does_already_changes_nothing() -> None:
    async with one_host() as host:
        seen = see(host)
        await host.cont()
        await host.stop()
        await host.stop()
    assert seen.notices == [GuestPaused()]
    assert host.guest.history == ["resume", "pause"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["pause", "resume"])
async def test_guest_that_does_not_obey_is_an_error_and_stays_what_it_was(what: str) -> None:
    async with two_hosts(runs=what == "pause") as hosts:
        hosts.guest.fails_in = [what]
        before = state(hosts.here)
        with pytest.raises(LocalError, match=f"{what} does not work here"):
            await (hosts.here.stop() if what == "pause" else hosts.here.cont())
        assert state(hosts.here) == before
        assert hosts.seen_here.notices == []


async def test_guest_that_takes_too_long_to_pause_is_an_error(autojump_clock: MockClock) -> None:
    async with one_host() as host:
        assert isinstance(host.guest, HostedMachine)
        host.guest.takes_s["pause"] = 1000.0
        with pytest.raises(StalledError, match="did not pause within 10 s"):
            await host.stop()
        assert state(host) == "running"


async def test_orders_are_carried_out_one_after_the_other(autojump_clock: MockClock) -> None:
    async with one_host() as host:
        assert isinstance(host.guest, HostedMachine)
        host.guest.takes_s = {"pause": 2.0, "resume": 1.0}
        seen = see(host)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.stop)
            await trio.sleep(0.5)
            nursery.start_soon(host.cont)
            await trio.sleep(0.5)
            nursery.start_soon(host.stop)
        assert state(host) == "paused"
    assert seen.notices == [GuestPaused(), GuestResumed(), GuestPaused()]


async def test_order_that_is_cancelled_half_way_is_carried_out(autojump_clock: MockClock) -> None:
    async with one_host() as host:
        assert isinstance(host.guest, HostedMachine)
        host.guest.takes_s["pause"] = 2.0
        with trio.move_on_after(1.0):
            await host.stop()
        assert state(host) == "paused"


# The way out, in run states.


@pytest.mark.seed("S33", "S38", "S56", "S62")
async def test_guest_moves_and_both_hosts_say_so(autojump_clock: MockClock) -> None:
    async with two_hosts() as hosts:
        migration = await hosts.here.start_migration(URI)
        assert migration is hosts.here.outgoing is hosts.here.active
        await over(hosts.here)
        await over(hosts.there)
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
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert state(hosts.here) == "postmigrate"
        assert state(hosts.there) == "paused"
        await hosts.there.cont()
        assert state(hosts.there) == "running"


@pytest.mark.parametrize("has_run", [True, False])
async def test_guest_that_stands_still_and_stays_is_again_what_it_was(
    has_run: bool, autojump_clock: MockClock
) -> None:
    async with two_hosts(runs=has_run, capabilities=PAUSES) as hosts:
        await hosts.here.stop()
        migration = await hosts.here.start_migration(URI)
        await reached(hosts.here, RunState.FINISH_MIGRATE)
        with pytest.raises(BlockedError, match="while it is handed over"):
            await hosts.here.cont()
        migration.cancel()
        await over(hosts.here)
        assert state(hosts.here) == ("paused" if has_run else "prelaunch")


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


@pytest.mark.seed("S19", "S63")
async def test_guest_runs_on_when_its_hand_over_is_cancelled(autojump_clock: MockClock) -> None:
    async with two_hosts(capabilities=PAUSES) as hosts:
        migration = await hosts.here.start_migration(URI)
        await reached(hosts.here, RunState.FINISH_MIGRATE)
        hosts.here.cancel()
        await over(hosts.here)
        assert state(hosts.here) == "running"
        assert isinstance(migration.error, CancelledError)
        await over(hosts.there)
    assert hosts.seen_here.run_states == [
        RunState.RUNNING,
        RunState.FINISH_MIGRATE,
        RunState.RUNNING,
    ]


@pytest.mark.seed("S1", "S48", "S59", "S63")
async def test_guest_runs_on_when_its_hand_over_fails_and_can_be_moved_again(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        hosts.arrival.fails_in = ["prepare"]
        first = await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert isinstance(first.error, PeerFailedError)
        assert first.status is MigrationStatus.FAILED
        assert hosts.here.outgoing is first
        assert state(hosts.here) == "running"
        sent = first.statistics.transferred_bytes
        assert sent > 0
        async with other_host(hosts.guest) as other:
            second = await hosts.here.start_migration("memory:other")
            assert second.error is None
            assert second.statistics.transferred_bytes < sent
            await over(hosts.here)
            await over(other)
            assert state(other) == "running"
            assert first.statistics.transferred_bytes == sent


@asynccontextmanager
async def other_host(source: HostedMachine) -> AsyncIterator[Host]:
    """One more host that waits, at ``memory:other``."""
    arrival = HostedMachine(is_source=False)
    arrival.other = source
    settings = Settings(parameters=PARAMETERS)
    async with open_host(arrival, settings, awaits_migration=True) as host:
        await host.start_incoming("memory:other")
        yield host
        assert not arrival.has_run_twice


@pytest.mark.seed("S57")
async def test_guest_that_cannot_be_paused_for_the_hand_over_runs_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_hosts() as hosts:
        hosts.guest.fails_in = ["pause"]
        migration = await hosts.here.start_migration(URI)
        await over(hosts.here)
        assert "pause does not work here" in str(migration.error)
        assert state(hosts.here) == "running"
        hosts.guest.fails_in = []
        await hosts.here.stop()
        assert state(hosts.here) == "paused"
        await over(hosts.there)
    assert caplog.text == ""
    assert GuestResumed() not in hosts.seen_here.notices


async def test_guest_that_cannot_be_resumed_after_a_failure_stands_still_and_can_be_told_again(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        hosts.guest.fails_in = ["resume"]
        hosts.arrival.fails_in = ["prepare"]
        migration = await hosts.here.start_migration(URI)
        await over(hosts.here)
        assert "could not be resumed" in str(migration.error)
        assert state(hosts.here) == "paused"
        hosts.guest.fails_in = []
        await hosts.here.cont()
        assert state(hosts.here) == "running"
        await over(hosts.there)


async def test_guest_whose_fate_is_unknown_stands_still_and_may_be_told_to_run(
    network: Network, autojump_clock: MockClock
) -> None:
    network.far = saying(lambda number, message: message if number < 2 else b"")
    async with two_hosts(storage_is_shared=False) as hosts:
        hosts.arrival.fails_in = ["resume"]
        migration = await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert isinstance(migration.error, UnknownOutcomeError)
        assert not migration.is_confirmed
        assert state(hosts.here) == "postmigrate"
        assert state(hosts.there) == "paused"
        with pytest.raises(BlockedError, match="moved away already"):
            await hosts.here.start_migration("memory:other")
        await hosts.here.cont()
        assert state(hosts.here) == "running"
        again = await hosts.here.start_migration("memory:nowhere")
        await over(hosts.here)
        assert isinstance(again.error, ConnectError)


async def test_guest_whose_fate_is_unknown_does_not_run_while_the_other_side_has_its_disk(
    network: Network, autojump_clock: MockClock
) -> None:
    network.far = saying(lambda number, message: message if number < 2 else b"")
    async with two_hosts() as hosts:
        hosts.arrival.fails_in = ["resume"]
        migration = await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert isinstance(migration.error, UnknownOutcomeError)
        assert hosts.arrival.disk.is_active
        with pytest.raises(LocalError, match="belongs to somebody else"):
            await hosts.here.cont()
        assert state(hosts.here) == "postmigrate"
        hosts.arrival.disk.inactivate()
        await hosts.here.cont()
        assert state(hosts.here) == "running"
        with pytest.raises(LocalError, match="belongs to somebody else"):
            await hosts.there.cont()


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
        hosts.there.guest.fails_in = ["resume"]  # type: ignore[attr-defined]
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert state(hosts.here) == "postmigrate"
        await hosts.here.cont()
        assert state(hosts.here) == "running"


# What is refused on the way out.


@pytest.mark.seed("S18", "S72")
async def test_second_migration_is_refused_while_one_is_under_way(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        first = await hosts.here.start_migration(URI)
        with pytest.raises(BlockedError, match="a migration is under way"):
            await hosts.here.start_migration("memory:other")
        await trio.sleep(0.5)
        with pytest.raises(BlockedError, match="a migration is under way"):
            await hosts.here.start_migration("memory:other")
        assert hosts.here.outgoing is first
        await over(hosts.here)
        await over(hosts.there)
        assert first.error is None


async def test_of_two_that_are_asked_for_at_once_one_is_refused(
    autojump_clock: MockClock,
) -> None:
    refused: list[BlockedError] = []

    async def start(host: Host) -> None:
        try:
            await host.start_migration(URI)
        except BlockedError as error:
            refused.append(error)

    async with two_hosts() as hosts:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, hosts.here)
            nursery.start_soon(start, hosts.here)
        await over(hosts.here)
        await over(hosts.there)
    assert len(refused) == 1
    assert hosts.seen_here.statuses.count(MigrationStatus.SETUP) == 1


@pytest.mark.seed("S18", "S73")
@pytest.mark.parametrize("listens", [True, False])
async def test_guest_that_is_still_to_arrive_cannot_leave(listens: bool) -> None:
    async with two_hosts(listens=listens) as hosts:
        with pytest.raises(BlockedError, match="waits for a migration to here"):
            await hosts.there.start_migration("memory:other")
        assert hosts.there.outgoing is None


@pytest.mark.seed("S18", "S49", "S50", "S75")
async def test_guest_that_something_keeps_here_cannot_leave_until_it_lets_go(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        remove = hosts.here.blockers.add("a backup is being taken", "backup")
        with pytest.raises(BlockedError, match=r"a backup is being taken \(says backup\)"):
            await hosts.here.start_migration(URI)
        assert hosts.here.outgoing is hosts.here.active is None
        assert hosts.guest.history == ["resume"]
        remove()
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        assert state(hosts.here) == "postmigrate"


@pytest.mark.seed("S51", "S76")
async def test_address_of_a_scheme_that_nobody_knows_is_refused() -> None:
    async with two_hosts() as hosts:
        with pytest.raises(PluginError, match="'carrier-pigeon:'"):
            await hosts.here.start_migration("carrier-pigeon:coop")
        with pytest.raises(BlockedError, match="is no migration address"):
            await hosts.here.start_migration("anywhere")
        assert hosts.here.outgoing is None


@pytest.mark.seed("S1", "S31", "S42", "S51")
async def test_peer_that_nobody_is_at_fails_the_migration_for_everybody_to_see(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        migration = await hosts.here.start_migration("memory:nowhere")
        await over(hosts.here)
        assert isinstance(migration.error, ConnectError)
        assert migration.error.phase == "setup"
        assert hosts.here.outgoing is migration
        assert state(hosts.here) == "running"
    assert hosts.seen_here.statuses == [MigrationStatus.SETUP, MigrationStatus.FAILED]
    assert hosts.over == [migration]


@pytest.mark.seed("S31")
async def test_what_is_refused_leaves_the_last_migration_to_be_read(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        failed = await hosts.here.start_migration("memory:nowhere")
        await over(hosts.here)
        hosts.here.blockers.add("a backup is being taken", "backup")
        for uri in (URI, "carrier-pigeon:coop", "anywhere"):
            with pytest.raises((BlockedError, PluginError)):
                await hosts.here.start_migration(uri)
        assert hosts.here.outgoing is failed
        assert isinstance(failed.error, ConnectError)
        assert hosts.seen_here.statuses == [MigrationStatus.SETUP, MigrationStatus.FAILED]


async def test_hook_of_the_host_may_refuse_a_migration(autojump_clock: MockClock) -> None:
    async def refuse(notice: Notice) -> None:
        if notice == StatusReached(MigrationStatus.SETUP):
            await trio.sleep(1.0)
            raise BlockedError("the other host is not ready")

    async with two_hosts() as hosts:
        hosts.here.notifiers.add(refuse)
        migration = await hosts.here.start_migration(URI)
        await over(hosts.here)
        assert isinstance(migration.error, BlockedError)
        assert hosts.guest.history == ["resume"]


@pytest.mark.seed("S3", "S45")
async def test_asking_for_a_migration_returns_when_it_is_in_setup() -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        migration = await hosts.here.start_migration(URI)
        assert migration.status is MigrationStatus.SETUP
        hosts.here.cancel()


async def test_migration_goes_on_when_whoever_asked_for_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        with trio.CancelScope() as scope:
            scope.cancel()
            await hosts.here.start_migration(URI)
        assert scope.cancelled_caught
        await over(hosts.here)
        await over(hosts.there)
        assert state(hosts.there) == "running"


# Cancel.


@pytest.mark.seed("S19")
async def test_cancelling_never_fails_whatever_is_under_way(autojump_clock: MockClock) -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        hosts.here.cancel()
        hosts.there.cancel()
        migration = await hosts.here.start_migration(URI)
        for _ in range(3):
            hosts.here.cancel()
        await over(hosts.here)
        hosts.here.cancel()
        assert isinstance(migration.error, CancelledError)
        assert migration.status is MigrationStatus.CANCELLED


@pytest.mark.seed("S19")
async def test_cancelling_on_the_host_that_waits_does_not_end_the_waiting(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        hosts.there.cancel()
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        assert state(hosts.there) == "running"


# Settings.


@pytest.mark.seed("S20", "S72")
async def test_capabilities_cannot_be_changed_while_a_migration_is_under_way(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(capabilities=PAUSES) as hosts:
        migration = await hosts.here.start_migration(URI)
        await reached(hosts.here, RunState.FINISH_MIGRATE)
        with pytest.raises(BlockedError, match="cannot be changed"):
            hosts.here.set_capabilities({"xbzrle": True})
        migration.cancel()
        with pytest.raises(BlockedError, match="cannot be changed"):
            hosts.here.set_capabilities({"pause-before-switchover": False})
        await over(hosts.here)
        hosts.here.set_capabilities({"pause-before-switchover": False, "xbzrle": True})
        assert hosts.here.settings.capabilities == {"xbzrle"}
        assert migration.settings.capabilities == {"pause-before-switchover"}
        await over(hosts.there)


@pytest.mark.seed("S20")
async def test_capabilities_are_switched_one_by_one_and_the_others_stay() -> None:
    async with one_host() as host:
        host.set_capabilities({"events": True, "xbzrle": True})
        host.set_capabilities({"xbzrle": False, "auto-converge": True})
        assert host.settings.capabilities == {"events", "auto-converge"}


async def test_capabilities_of_a_guest_to_come_can_be_changed_until_its_source_is_there(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        assert hosts.there.incoming is not None
        hosts.there.set_capabilities({"xbzrle": True})
        assert hosts.there.incoming.settings.has("xbzrle")
        await hosts.here.start_migration(URI)
        await trio.sleep(0.5)
        assert hosts.there.incoming.status is MigrationStatus.ACTIVE
        with pytest.raises(BlockedError, match="cannot be changed"):
            hosts.there.set_capabilities({"xbzrle": False})
        await over(hosts.there)
        hosts.there.set_capabilities({"xbzrle": False})
        assert hosts.there.incoming.settings.has("xbzrle")


@pytest.mark.seed("S25", "S26", "S48")
async def test_parameters_hold_for_the_migration_under_way_and_for_those_to_come(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        hosts.here.set_parameters({"downtime_limit_s": 0.25})
        migration = await hosts.here.start_migration(URI)
        assert migration.parameters.downtime_limit_s == pytest.approx(0.25)
        await trio.sleep(0.5)
        hosts.here.set_parameters({"max_bandwidth_bytes_per_s": 0})
        assert migration.parameters.max_bandwidth_bytes_per_s == 0
        assert migration.parameters.downtime_limit_s == pytest.approx(0.25)
        changed_s = trio.current_time()
        await over(hosts.here)
        assert trio.current_time() - changed_s < 0.5
        hosts.here.set_parameters({"downtime_limit_s": 2.0})
        assert migration.parameters.downtime_limit_s == pytest.approx(0.25)
        assert hosts.here.settings.parameters.downtime_limit_s == 2.0
        await over(hosts.there)


async def test_migrations_of_hosts_with_one_limiter_share_its_total(
    autojump_clock: MockClock,
) -> None:
    limiter = BandwidthLimiter(8 * PAGE)
    guest = HostedMachine(is_source=True)
    async with (
        two_hosts(runs=False) as hosts,
        open_host(guest, Settings(parameters=PARAMETERS), limiter=limiter) as limited,
    ):
        guest.other = hosts.arrival
        with limiter.member(lambda: 0):
            await limited.cont()
            await limited.start_migration(URI)
            started_s = trio.current_time()
            await over(limited)
            # Eight pages and one that is written again, a part of them within the first slice.
            assert 1.5 < trio.current_time() - started_s < 3.5
        await over(hosts.there)


# Stop and cont while a migration is under way.


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
        await over(hosts.here)
        await over(hosts.there)
        assert state(hosts.there) == "running"


async def test_guest_that_is_stopped_while_its_memory_travels_arrives_standing_still(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(parameters=SLOW) as hosts:
        await hosts.here.start_migration(URI)
        await trio.sleep(0.5)
        await hosts.here.stop()
        await over(hosts.here)
        await over(hosts.there)
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
            nursery.start_soon(hosts.here.cont if order == "cont" else hosts.here.stop)
            await trio.sleep(0.5)
            await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert hosts.here.outgoing is not None
        assert hosts.here.outgoing.error is None
        arrived = "running" if order == "cont" else "paused"
        assert state(hosts.there) == arrived


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


# The way in.


@pytest.mark.seed("S34", "S69")
async def test_address_to_wait_at_must_make_sense() -> None:
    async with two_hosts(listens=False) as hosts:
        with pytest.raises(PluginError, match="'carrier-pigeon:'"):
            await hosts.there.start_incoming("carrier-pigeon:coop")
        with pytest.raises(BlockedError, match="is no migration address"):
            await hosts.there.start_incoming("anywhere")
        assert hosts.there.incoming is None
        await hosts.there.start_incoming(URI)


@pytest.mark.seed("S34")
async def test_place_where_nobody_can_listen_is_an_error_and_another_may_be_tried(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(listens=False) as hosts:
        for _ in range(2):
            with pytest.raises(ConnectError, match="cannot listen"):
                await hosts.there.start_incoming(TAKEN)
            assert hosts.there.incoming is hosts.there.active is None
            assert state(hosts.there) == "inmigrate"
        assert hosts.over == []
        incoming = await hosts.there.start_incoming(URI)
        assert incoming.address == URI
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        assert state(hosts.there) == "running"


async def test_hook_of_the_host_may_refuse_to_wait_and_be_asked_again() -> None:
    def refuse(notice: Notice) -> None:
        if notice == StatusReached(MigrationStatus.SETUP):
            raise BlockedError("no room for a guest")

    async with two_hosts(listens=False) as hosts:
        remove = hosts.there.notifiers.add(refuse)
        with pytest.raises(BlockedError, match="no room for a guest"):
            await hosts.there.start_incoming(URI)
        assert hosts.there.incoming is None
        assert state(hosts.there) == "inmigrate"
        remove()
        await hosts.there.start_incoming(URI)


async def test_waiting_that_whoever_asked_for_it_gave_up_can_be_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(listens=False) as hosts:
        with trio.CancelScope() as scope:
            scope.cancel()
            await hosts.there.start_incoming(TAKEN)
        assert scope.cancelled_caught
        await trio.sleep(1.0)
        assert hosts.there.active is None
        await hosts.there.start_incoming(URI)


async def test_waiting_twice_is_refused_also_once_it_has_failed(autojump_clock: MockClock) -> None:
    async with two_hosts() as hosts:
        incoming = hosts.there.incoming
        with pytest.raises(BlockedError, match="has begun to wait"):
            await hosts.there.start_incoming("memory:other")
        hosts.arrival.fails_in = ["prepare"]
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        with pytest.raises(BlockedError, match="has begun to wait"):
            await hosts.there.start_incoming("memory:other")
        assert hosts.there.incoming is incoming
        await over(hosts.here)


async def test_guest_that_is_here_does_not_wait_for_another(autojump_clock: MockClock) -> None:
    async with two_hosts() as hosts:
        with pytest.raises(BlockedError, match="does not wait") as caught:
            await hosts.here.start_incoming("memory:other")
        assert (caught.value.expected, caught.value.found) == ("inmigrate", "running")
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        with pytest.raises(BlockedError, match="does not wait"):
            await hosts.there.start_incoming("memory:other")


@pytest.mark.seed("S37", "S70")
@pytest.mark.parametrize("exits", [True, False])
async def test_guest_that_fails_to_arrive_is_forgotten_and_the_reason_kept(
    exits: bool, network: Network, autojump_clock: MockClock
) -> None:
    network.far = lambda end: CloseAfter(end, received_bytes=3 * PAGE)
    async with two_hosts(listens=False) as hosts:
        incoming = await hosts.there.start_incoming(URI, exits_on_error=exits)
        assert hosts.there.exits_on_error is exits
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        assert state(hosts.there) == "inmigrate"
        assert incoming is hosts.there.incoming
        assert incoming.status is MigrationStatus.FAILED
        assert isinstance(incoming.error, PeerClosedError | StreamError)
        assert hosts.arrival.history == ["discard"]
        assert hosts.arrival.announced_s == []
        await over(hosts.here)
        assert state(hosts.here) == "running"
        assert incoming in hosts.over


@pytest.mark.seed("S71")
@pytest.mark.parametrize("method", ["commit", "resume"])
async def test_guest_that_arrived_and_could_not_be_started_stands_still_and_can_be_told_to_run(
    method: str, autojump_clock: MockClock
) -> None:
    async with two_hosts() as hosts:
        hosts.arrival.fails_in = [method]
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert hosts.there.incoming is not None
        assert isinstance(hosts.there.incoming.error, NotStartedError)
        assert state(hosts.there) == "paused"
        with pytest.raises(BlockedError, match="the destination's word that it has the guest"):
            await hosts.here.cont()
        hosts.arrival.fails_in = []
        await hosts.there.cont()
        assert state(hosts.there) == "running"


async def test_guest_whose_source_was_lost_at_the_last_word_stands_still(
    network: Network, autojump_clock: MockClock
) -> None:
    """It may be told to run, by somebody who has looked at the source."""
    network.near = _WithoutEnd
    async with two_hosts() as hosts:
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        assert hosts.there.incoming is not None
        assert isinstance(hosts.there.incoming.error, UnknownOutcomeError)
        assert state(hosts.there) == "paused"
        assert state(hosts.here) == "postmigrate"
        await hosts.there.cont()


def _WithoutEnd(channel: Channel) -> Channel:
    from transship.testing import ChannelWrapper

    class WithoutEnd(ChannelWrapper):
        """Closes instead of sending the end of the stream."""

        async def send_segments(self, segments: object) -> None:
            data = b"".join(map(bytes, segments))  # type: ignore[call-overload]
            if data[:2] == b"\0\6":
                await self.inner.aclose()
            await self.inner.send_segments((data,))

    return WithoutEnd(channel)


@pytest.mark.seed("S38")
@pytest.mark.parametrize("autostart", [True, False])
async def test_guest_that_arrived_announces_itself_whether_it_runs_or_not(
    autostart: bool, autojump_clock: MockClock
) -> None:
    async with two_hosts(autostart=autostart) as hosts:
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        arrived_s = trio.current_time()
        await trio.sleep(2.0)
        assert state(hosts.there) == ("running" if autostart else "paused")
        assert len(hosts.arrival.announced_s) == 5
        assert hosts.arrival.announced_s[0] == pytest.approx(arrived_s, abs=0.1)
        assert hosts.guest.announced_s == []


async def test_guest_that_moves_on_is_announced_here_no_more(autojump_clock: MockClock) -> None:
    async with two_hosts() as hosts, other_host(hosts.arrival) as other:
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        await trio.sleep(0.1)
        await hosts.there.start_migration("memory:other")
        await over(hosts.there)
        moved_s = trio.current_time()
        await trio.sleep(5.0)
        assert state(other) == "running"
        assert max(hosts.arrival.announced_s) < moved_s


async def test_announcing_can_be_asked_for_at_any_time(autojump_clock: MockClock) -> None:
    async with one_host() as host:
        assert isinstance(host.guest, HostedMachine)
        host.announce(Parameters(announce_rounds=3))
        await trio.sleep(5.0)
        assert len(host.guest.announced_s) == 3


async def test_announcing_anew_ends_the_schedule_before(autojump_clock: MockClock) -> None:
    async with one_host() as host:
        assert isinstance(host.guest, HostedMachine)
        host.announce(Parameters(announce_rounds=1000))
        await trio.sleep(1.0)
        host.announce(Parameters(announce_rounds=1))
        await trio.sleep(0.01)
        before = len(host.guest.announced_s)
        await trio.sleep(100.0)
        assert len(host.guest.announced_s) == before


@pytest.mark.parametrize("status", ["setup", "active", "device"])
@pytest.mark.parametrize("order", ["stop", "cont"])
async def test_order_for_a_guest_that_is_still_to_arrive_is_obeyed_when_it_has(
    order: str, status: str, autojump_clock: MockClock
) -> None:
    async with two_hosts(autostart=order == "stop") as hosts:

        async def give(notice: Notice) -> None:
            if notice == StatusReached(MigrationStatus(status)):
                await tell()

        tell = hosts.there.stop if order == "stop" else hosts.there.cont
        if status == "setup":
            await tell()
            assert hosts.arrival.history == []
        else:
            hosts.there.notifiers.add(give)
        await hosts.here.start_migration(URI)
        await over(hosts.here)
        await over(hosts.there)
        arrived = "paused" if order == "stop" else "running"
        assert state(hosts.there) == arrived


@pytest.mark.parametrize("order", ["stop", "cont"])
async def test_order_that_comes_while_the_guest_is_being_started_is_obeyed(
    order: str, autojump_clock: MockClock
) -> None:
    async with two_hosts() as hosts:
        hosts.arrival.takes_s["resume"] = 2.0
        await hosts.here.start_migration(URI)
        await trio.sleep(1.0)
        assert state(hosts.there) == "inmigrate"
        await (hosts.there.stop() if order == "stop" else hosts.there.cont())
        await over(hosts.here)
        await over(hosts.there)
        arrived = "paused" if order == "stop" else "running"
        assert state(hosts.there) == arrived


# The end.


async def test_process_is_asked_to_end_once_and_everybody_hears_why() -> None:
    async with one_host() as host:
        seen = see(host)
        assert host.shutdown_cause is None
        await host.quit(ShutdownCause.HOST_QMP_QUIT)
        await host.quit(ShutdownCause.HOST_SIGNAL)
        assert await host.wait_for_quit() is ShutdownCause.HOST_QMP_QUIT
        assert host.guest.is_running
    assert seen.notices == [ShuttingDown(ShutdownCause.HOST_QMP_QUIT)]


async def test_process_that_is_asked_to_end_twice_at_once_says_so_once(
    autojump_clock: MockClock,
) -> None:
    async def slowly(notice: Notice) -> None:
        await trio.sleep(1.0)

    async with one_host() as host:
        seen = see(host)
        host.notifiers.add(slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.quit, ShutdownCause.HOST_QMP_QUIT)
            nursery.start_soon(host.quit, ShutdownCause.HOST_QMP_QUIT)
        assert host.shutdown_cause is ShutdownCause.HOST_QMP_QUIT
    assert seen.notices == [ShuttingDown(ShutdownCause.HOST_QMP_QUIT)]


async def test_migration_that_is_to_begin_when_the_process_is_about_to_end_is_cancelled() -> None:
    async with one_host() as host:
        await host.quit(ShutdownCause.HOST_SIGNAL)
        with pytest.raises(CancelledError, match="about to end"):
            await host.start_migration(URI)


async def test_host_that_is_left_takes_its_guest_back_and_stops_waiting(
    network: Network, autojump_clock: MockClock
) -> None:
    guest = HostedMachine(is_source=True)
    settings = Settings(frozenset(PAUSES), PARAMETERS)
    async with other_host(guest) as other:
        async with open_host(guest, settings) as here:
            await here.cont()
            migration = await here.start_migration("memory:other")
            await reached(here, RunState.FINISH_MIGRATE)
        assert isinstance(migration.error, CancelledError)
        assert guest.is_running
        assert state(here) == "running"
        await over(other)
    assert network.listeners == {}


async def test_host_that_is_left_lets_a_guest_that_was_handed_over_arrive(
    network: Network, autojump_clock: MockClock
) -> None:
    async with two_hosts() as hosts:
        hosts.arrival.takes_s["resume"] = 3.0
        migration = await hosts.here.start_migration(URI)
        await trio.sleep(1.0)
        assert not migration.owns_guest
    assert migration.error is None
    assert state(hosts.here) == "postmigrate"
    assert state(hosts.there) == "running"


async def test_notifiers_of_a_host_outlive_its_migrations_and_can_be_taken_away(
    autojump_clock: MockClock,
) -> None:
    told: list[Notice] = []
    async with two_hosts() as hosts:
        remove = hosts.here.notifiers.add(told.append)
        for _ in range(2):
            await hosts.here.start_migration("memory:nowhere")
            await over(hosts.here)
        remove()
        await hosts.here.stop()
    assert [one for one in told if isinstance(one, StatusReached)] == 2 * [
        StatusReached(MigrationStatus.SETUP),
        StatusReached(MigrationStatus.FAILED),
    ]
    assert GuestPaused() not in told
