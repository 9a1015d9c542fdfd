"""A guest is told to stop and to go on while no migration is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.engine.notifiers import GuestPaused, GuestResumed
from transship.errors import LocalError, StalledError

from .hosted import machine, one_host, see, state, two_hosts

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_guest_of_a_new_host_has_not_run_and_is_left_as_it_is() -> None:
    async with one_host(runs=False) as host:
        assert state(host) == "prelaunch"
        await host.stop()
        assert state(host) == "prelaunch"
        assert machine(host).history == []


async def test_guest_runs_and_stands_still_as_it_is_told_and_everybody_hears_of_it() -> None:
    async with one_host(runs=False) as host:
        seen = see(host)
        await host.cont()
        assert state(host) == "running"
        await host.stop()
        assert state(host) == "paused"
        await host.cont()
        assert state(host) == "running"
    assert machine(host).history == ["resume", "pause", "resume"]
    assert seen.notices == [GuestResumed(), GuestPaused(), GuestResumed()]


async def test_telling_a_guest_what_it_does_already_changes_nothing() -> None:
    async with one_host() as host:
        seen = see(host)
        await host.cont()
        await host.stop()
        await host.stop()
    assert seen.notices == [GuestPaused()]
    assert machine(host).history == ["resume", "pause"]


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
        machine(host).takes_s["pause"] = 1000.0
        with pytest.raises(StalledError, match="did not pause within 10 s"):
            await host.stop()
        assert state(host) == "running"


async def test_orders_are_carried_out_one_after_the_other(autojump_clock: MockClock) -> None:
    async with one_host() as host:
        machine(host).takes_s = {"pause": 2.0, "resume": 1.0}
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
        machine(host).takes_s["pause"] = 2.0
        with trio.move_on_after(1.0):
            await host.stop()
        assert state(host) == "paused"
