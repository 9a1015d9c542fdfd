"""A guest that writes faster than the channel carries is slowed down, for as long as that takes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from engine_machine import PAGE, Machine
from engine_orders import ACTIVE, Slow, under_way
from engine_pair import Pair, until

from transship.abc.settings import Capability, Parameters
from transship.engine.notifiers import HandoverBegins, Notice
from transship.errors import BlockedError, LocalError
from transship.testing import CloseAfter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trio.testing import MockClock


CONVERGES: Final = [Capability.AUTO_CONVERGE]


_BUSY = Parameters(max_bandwidth_bytes_per_s=40 * PAGE, downtime_limit_s=0.2)


def busy(capabilities: Sequence[str] = (), **arguments: Any) -> Pair:
    return Pair(parameters=_BUSY, capabilities=capabilities, pages=64, **arguments)


@asynccontextmanager
async def at_work(pair: Pair) -> AsyncIterator[Pair]:
    """A pair whose guest dirties half as many pages again as may be sent."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.source.work, 60.0, 60)
        async with under_way(pair):
            yield pair
        nursery.cancel_scope.cancel()


async def test_guest_that_dirties_faster_than_the_channel_carries_does_not_converge(
    autojump_clock: MockClock,
) -> None:
    async with at_work(busy()) as pair:
        await trio.sleep(120.0)
        assert pair.migration.status is ACTIVE
        pair.migration.cancel()
    assert pair.source.withheld == []
    assert pair.migration.statistics.period.dirtied_pages_per_s > 35


@pytest.mark.seed("S52")
async def test_guest_that_dirties_faster_than_the_channel_carries_converges_if_slowed_down(
    autojump_clock: MockClock,
) -> None:
    async with at_work(busy(CONVERGES)) as pair:
        await trio.sleep(120.0)
        assert pair.migration.is_over
    assert pair.source_error is None
    assert pair.destination.is_running
    *steps, last = pair.source.withheld
    assert steps == list(range(20, 20 + 10 * len(steps), 10))
    assert last == 0
    assert pair.migration.statistics.throttle_percent == 0
    downtime_s = pair.migration.statistics.downtime_s
    assert downtime_s is not None
    assert downtime_s < _BUSY.downtime_limit_s + 0.1


async def test_present_throttle_is_among_the_figures(autojump_clock: MockClock) -> None:
    async with at_work(busy(CONVERGES)) as pair:
        await until(lambda: bool(pair.source.withheld))
        assert pair.migration.statistics.throttle_percent == 20


async def test_guest_that_is_slow_enough_is_never_slowed_down(autojump_clock: MockClock) -> None:
    pair = busy(CONVERGES)
    await pair.run()
    assert pair.destination.is_running
    assert pair.source.withheld == []


async def test_throttle_lasts_until_the_guest_stands_still(autojump_clock: MockClock) -> None:
    pair = busy(CONVERGES)
    withheld_at_pause: list[int] = []
    pause = pair.source.pause

    async def slowly(notice: Notice) -> None:
        if isinstance(notice, HandoverBegins):
            await trio.sleep(8.0)

    async def note_and_pause() -> None:
        withheld_at_pause.append(pair.source.withheld[-1])
        await pause()

    pair.source.pause = note_and_pause  # type: ignore[method-assign]
    pair.migration.notifiers.add(slowly)
    async with at_work(pair):
        pass
    assert pair.destination.is_running
    assert withheld_at_pause[0] >= 20
    assert pair.source.withheld[-1] == 0


@pytest.mark.parametrize("how", ["cancelled", "cancelled from outside", "broken", "failed"])
async def test_throttle_ends_with_the_migration_however_that_ends(
    how: str, autojump_clock: MockClock
) -> None:
    pair = busy(CONVERGES)
    async with at_work(pair):
        await until(lambda: bool(pair.source.withheld))
        match how:
            case "cancelled":
                pair.migration.cancel()
            case "cancelled from outside":
                pair.source_scope.cancel()
            case "broken":
                await pair.far.aclose()
            case _:
                pair.ram.fails_in = "iterate"
    assert pair.source.is_running
    assert pair.source.withheld == [20, 0]
    assert pair.migration.statistics.throttle_percent == 0


async def test_guest_that_cannot_be_slowed_down_after_all_stays_and_is_let_go(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_work(busy(CONVERGES, source_fails_in=["throttle"])) as pair:
        pass
    assert pair.source.is_running
    assert isinstance(pair.source_error, LocalError)
    assert "throttle does not work here" in str(pair.source_error)
    assert pair.source.withheld == [20, 0]
    assert "could not be let run at full speed again" in caplog.text


async def test_capability_that_the_guest_has_not_is_refused_before_connecting() -> None:
    pair = Pair(capabilities=CONVERGES, near=lambda end: CloseAfter(end, sent_bytes=0))
    pair.source.can_throttle = False
    with pytest.raises(BlockedError, match="auto-converge"):
        pair.migration.check()
    await pair.run_source_alone()
    assert isinstance(pair.source_error, BlockedError)
    assert pair.source.history == []
    assert pair.source.log.starts == 0


async def test_guest_that_may_be_slowed_down_is_looked_at_every_five_seconds(
    autojump_clock: MockClock,
) -> None:
    async def passes(capabilities: Sequence[str]) -> int:
        never = Parameters(max_bandwidth_bytes_per_s=0, throttle_trigger_percent=100_000)
        pair = Pair(near=Slow, parameters=never, capabilities=capabilities, pages=300)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.source.work, 12.0, 250)
            async with under_way(pair):
                await trio.sleep(70.0)
                before = pair.migration.statistics.dirty_syncs
                pair.migration.cancel()
            nursery.cancel_scope.cancel()
        assert pair.source.withheld == []
        return before

    assert await passes([]) <= 3
    assert await passes(CONVERGES) >= 8


def test_machine_of_these_tests_can_be_slowed_down() -> None:
    assert Machine.can_throttle
