"""How fast memory goes, and how long the guest may stand still: as the operator has it by now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from engine_channels import Watched
from engine_machine import PAGE
from engine_orders import ACTIVE, COMPLETED, Slow, change, under_way
from engine_pair import Pair, until

from transship.abc.settings import Parameters

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.mark.seed("S55", "S61", "S65")
@pytest.mark.parametrize("cap", [PAGE * 10, PAGE * 40, PAGE * 1000])
async def test_pages_of_a_running_guest_keep_to_the_bandwidth_cap(
    cap: int, autojump_clock: MockClock
) -> None:
    parameters = Parameters(max_bandwidth_bytes_per_s=cap, downtime_limit_s=0)
    pair = Pair(near=Watched, parameters=parameters, pages=100)
    await pair.run()
    assert pair.destination.is_running
    assert isinstance(pair.near, Watched)
    assert pair.source_took_s >= 100 * PAGE / cap - 0.2
    sent = pair.near.sent
    for start_s, _ in sent:
        in_a_second = sum(length for at_s, length in sent if start_s <= at_s < start_s + 1)
        assert in_a_second <= cap * 1.1 + 3 * PAGE


def sent_between(pair: Pair, start_s: float, end_s: float) -> int:
    assert isinstance(pair.near, Watched)
    return sum(length for at_s, length in pair.near.sent if start_s <= at_s < end_s)


# Bandwidth.


@pytest.mark.seed("S25", "S61", "S65")
@pytest.mark.parametrize(
    ("before", "after"),
    [(10, 100), (100, 10), (1 / PAGE, 50), (1, 50), (0, 20), (50, 20)],
    ids=lambda pages: f"{pages:.3g} pages a second",
)
async def test_bandwidth_that_is_changed_holds_from_the_next_slice_on(
    before: float, after: int, autojump_clock: MockClock
) -> None:
    parameters = Parameters(max_bandwidth_bytes_per_s=int(before * PAGE), downtime_limit_s=0)
    pair = Pair(near=lambda end: Watched(Slow(end, 200)), parameters=parameters, pages=600)
    async with under_way(pair):
        await trio.sleep(1.0)
        change(pair, max_bandwidth_bytes_per_s=after * PAGE)
        changed_s = trio.current_time()
        await trio.sleep(2.2)
        pair.migration.cancel()
    sent = sent_between(pair, changed_s + 0.1, changed_s + 2.1)
    assert sent == pytest.approx(2 * after * PAGE, rel=0.1, abs=2 * PAGE)


async def test_cap_that_is_taken_away_holds_nothing_back(autojump_clock: MockClock) -> None:
    parameters = Parameters(max_bandwidth_bytes_per_s=PAGE, downtime_limit_s=0)
    pair = Pair(parameters=parameters, pages=100)
    async with under_way(pair):
        await trio.sleep(5.0)
        change(pair, max_bandwidth_bytes_per_s=0)
        changed_s = trio.current_time()
        await until(lambda: pair.migration.is_over)
        assert trio.current_time() - changed_s < 0.3
    assert pair.destination.is_running


# Downtime.


@pytest.mark.seed("S12", "S26", "S55", "S60")
@pytest.mark.parametrize("cap", [10 * PAGE, 0], ids=["capped", "slow channel"])
async def test_downtime_limit_that_is_raised_leads_to_the_switchover(
    cap: int, autojump_clock: MockClock
) -> None:
    parameters = Parameters(max_bandwidth_bytes_per_s=cap, downtime_limit_s=0.05)
    pair = Pair(near=Slow, parameters=parameters, pages=200)
    with trio.CancelScope() as working:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.source.work, 15.0, 40)
            nursery.start_soon(pair.run)
            await trio.sleep(60.3)
            assert pair.migration.status is ACTIVE
            change(pair, downtime_limit_s=8.0)
            changed_s = trio.current_time()
            await until(lambda: not pair.source.is_running)
            assert trio.current_time() - changed_s < 1.0
            await trio.sleep(10.0)
            working.cancel()
    assert pair.source_error is None
    downtime_s = pair.migration.statistics.downtime_s
    assert downtime_s is not None
    assert downtime_s < 8.5


async def test_bandwidth_that_the_operator_knows_of_leads_to_the_switchover(
    autojump_clock: MockClock,
) -> None:
    parameters = Parameters(max_bandwidth_bytes_per_s=5 * PAGE, downtime_limit_s=0.3)
    pair = Pair(near=lambda end: Slow(end, 100), parameters=parameters, pages=40)
    with trio.CancelScope() as working:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.source.work, 20.0, 20)
            nursery.start_soon(pair.run)
            await trio.sleep(30.0)
            assert pair.migration.status is ACTIVE
            change(pair, switchover_bandwidth_bytes_per_s=100 * PAGE)
            await trio.sleep(10.0)
            assert pair.migration.status is COMPLETED
            working.cancel()
    downtime_s = pair.migration.statistics.downtime_s
    assert downtime_s is not None
    assert downtime_s < 0.35


async def test_tiny_cap_does_not_stall_the_destination(autojump_clock: MockClock) -> None:
    pair = Pair(parameters=Parameters(max_bandwidth_bytes_per_s=50, downtime_limit_s=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await trio.sleep(300)
        failed = pair.migration.is_over
        pair.migration.cancel()
    assert not failed
