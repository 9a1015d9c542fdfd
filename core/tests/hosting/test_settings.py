"""Settings of a host: for which migrations they hold, and when they can be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from engine_machine import PAGE
from engine_orders import PAUSES
from engine_pair import PARAMETERS

from transship.abc.settings import Settings
from transship.engine.limiter import BandwidthLimiter
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError
from transship.hosting.host import open_host
from transship.hosting.runstate import RunState

from .hosted import SLOW, URI, HostedMachine, one_host, over, reached, two_hosts

if TYPE_CHECKING:
    from trio.testing import MockClock


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
