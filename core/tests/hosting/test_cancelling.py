"""A migration is cancelled: the guest stays, and is what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from engine_orders import PAUSES

from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, CancelledError
from transship.hosting.runstate import RunState

from .hosted import SLOW, URI, over, reached, state, two_hosts

if TYPE_CHECKING:
    from trio.testing import MockClock


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
