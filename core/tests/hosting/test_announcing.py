"""A guest tells the network where it is: after it has arrived, and when it is asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc.settings import Parameters

from .hosted import URI, machine, one_host, other_host, over, state, two_hosts

if TYPE_CHECKING:
    from trio.testing import MockClock


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
        host.announce(Parameters(announce_rounds=3))
        await trio.sleep(5.0)
        assert len(machine(host).announced_s) == 3


async def test_announcing_anew_ends_the_schedule_before(autojump_clock: MockClock) -> None:
    async with one_host() as host:
        host.announce(Parameters(announce_rounds=1000))
        await trio.sleep(1.0)
        host.announce(Parameters(announce_rounds=1))
        await trio.sleep(0.01)
        before = len(machine(host).announced_s)
        await trio.sleep(100.0)
        assert len(machine(host).announced_s) == before
