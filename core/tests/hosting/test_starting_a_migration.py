"""A migration is asked for: when the answer comes, what is refused, and who hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.engine.notifiers import GuestPaused, Notice, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, ConnectError, PluginError

from .hosted import SLOW, URI, over, state, two_hosts

if TYPE_CHECKING:
    from trio.testing import MockClock

    from transship.hosting.host import Host


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
        await over(hosts.here, hosts.there)
        assert state(hosts.there) == "running"


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
        await over(hosts.here, hosts.there)
        assert first.error is None


async def test_of_two_that_are_asked_for_at_once_one_is_refused(autojump_clock: MockClock) -> None:
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
        await over(hosts.here, hosts.there)
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
