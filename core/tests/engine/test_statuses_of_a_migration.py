"""The statuses of both sides, and what is told in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from engine_machine import PAGE
from engine_orders import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    DEVICE,
    FAILED,
    SETUP,
    at,
    change,
    quiet_pair,
)
from engine_pair import Pair

from transship.abc.settings import Parameters
from transship.engine.custody import Custodian
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    HandoverBegins,
    PassBegun,
    StatusReached,
)
from transship.engine.status import MigrationStatus

if TYPE_CHECKING:
    from trio.testing import MockClock

    from transship.errors import MigrationError


@pytest.mark.seed("S2", "S3", "S6", "S7", "S27", "S28", "S54", "S58", "S64", "S68")
async def test_source_tells_what_happens_in_the_order_of_qemu() -> None:
    pair = quiet_pair()
    assert pair.migration.status is MigrationStatus.NONE
    await pair.run()
    assert pair.source_notices == [
        StatusReached(SETUP),
        PassBegun(1),
        StatusReached(ACTIVE),
        # QEMU does without this one, and stops its guest blindly, if its first slice is not over.
        PassBegun(2),
        HandoverBegins(),
        GuestPaused(),
        StatusReached(DEVICE),
        PassBegun(3),
        StatusReached(COMPLETED),
    ]


async def test_source_of_a_guest_that_stands_still_tells_the_same_without_the_pause() -> None:
    pair = Pair()
    await pair.source.pause()
    await pair.run_unchecked()
    assert GuestPaused() not in pair.source_notices
    assert pair.statuses == [SETUP, ACTIVE, DEVICE, COMPLETED]
    assert pair.source_notices.index(HandoverBegins()) < pair.source_notices.index(
        StatusReached(DEVICE)
    )


@pytest.mark.seed("S36", "S38")
async def test_destination_tells_that_the_guest_runs_before_it_has_completed() -> None:
    pair = Pair()
    await pair.run()
    assert pair.destination_notices == [
        StatusReached(SETUP),
        StatusReached(ACTIVE),
        StatusReached(DEVICE),
        GuestResumed(),
        StatusReached(COMPLETED),
    ]


async def test_passes_are_told_with_consecutive_numbers(autojump_clock: MockClock) -> None:
    pair = Pair(parameters=Parameters(max_bandwidth_bytes_per_s=10 * PAGE, downtime_limit_s=0.5))
    with trio.CancelScope() as working:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.source.work, 8.0, 8)
            nursery.start_soon(pair.run)
            await trio.sleep(10.0)
            change(pair, downtime_limit_s=10.0)
            await trio.sleep(10.0)
            working.cancel()
    numbers = [one.number for one in pair.source_notices if isinstance(one, PassBegun)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 4
    assert pair.migration.statistics.dirty_syncs == numbers[-1]


class NotToStart(Custodian):
    """Wants the guest to stand still."""

    def may_resume(self) -> bool:
        return False


@pytest.mark.seed("S38")
async def test_guest_that_is_not_to_start_arrives_and_stands_still() -> None:
    pair = Pair()
    pair.incoming.custodian = NotToStart()
    await pair.run_unchecked()
    pair.check_arrived_whole()
    assert pair.incoming.status is COMPLETED
    assert pair.destination.history == ["prepare", "commit"]
    assert GuestResumed() not in pair.destination_notices


async def test_word_about_starting_is_heard_until_the_guest_has_arrived() -> None:
    pair = Pair()

    def do_not_start() -> None:
        pair.incoming.custodian = NotToStart()

    pair.incoming.notifiers.add(at(StatusReached(DEVICE), do_not_start))
    await pair.run_unchecked()
    assert not pair.destination.is_running
    assert pair.incoming.status is COMPLETED


@pytest.mark.parametrize("status", [COMPLETED, FAILED, CANCELLED])
async def test_final_status_is_entered_when_everything_is_over(status: MigrationStatus) -> None:
    pair = Pair(destination_fails_in=["prepare"] if status is FAILED else [])
    if status is CANCELLED:
        pair.migration.notifiers.add(at(StatusReached(DEVICE), pair.migration.cancel))
    seen: list[tuple[bool, bool, MigrationError | None, float]] = []

    def look() -> None:
        migration = pair.migration
        seen.append(
            (migration.owns_guest, pair.source.is_running, migration.error, migration.elapsed_s)
        )

    pair.migration.notifiers.add(at(StatusReached(status), look))
    await pair.run()
    [(owns, runs, error, elapsed_s)] = seen
    assert owns is runs is (status is not COMPLETED)
    assert error is pair.source_error
    assert elapsed_s == pair.migration.statistics.total_s
