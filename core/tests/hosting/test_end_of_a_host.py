"""A process is asked to end, and a host is left: what becomes of the guest and its migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from engine_orders import PAUSES
from engine_pair import PARAMETERS

from transship.abc.settings import Settings
from transship.errors import CancelledError
from transship.hosting.host import open_host
from transship.hosting.runstate import RunState
from transship.hosting.shutdown import ShutdownCause, ShuttingDown

from .hosted import URI, HostedMachine, one_host, other_host, over, reached, see, state, two_hosts

if TYPE_CHECKING:
    from memory_transport import Network
    from trio.testing import MockClock

    from transship.engine.notifiers import Notice


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
