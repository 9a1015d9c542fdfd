"""A side that is cancelled, whenever that is: one of the two has the guest, and knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_channels import OneWay
from engine_machine import PAGE
from engine_orders import (
    ACTIVE,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    DEVICE,
    PAUSES,
    PRE_SWITCHOVER,
    SETUP,
    at,
    under_way,
)
from engine_pair import PARAMETERS, PATIENT, Pair, at_every_step, until

from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    HandoverBegins,
    Notice,
    PassBegun,
    StatusReached,
)
from transship.engine.status import MigrationStatus
from transship.errors import CancelledError, PeerClosedError, UnknownOutcomeError
from transship.testing import CloseAfter, StallAfter
from transship.wire.returnpath import pong

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock


times = pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.soak)])


def _cancel_source(pair: Pair) -> None:
    pair.migration.cancel()


def _cancel_source_from_outside(pair: Pair) -> None:
    pair.source_scope.cancel()


def _cancel_destination(pair: Pair) -> None:
    pair.incoming.cancel()


def _cancel_destination_from_outside(pair: Pair) -> None:
    pair.destination_scope.cancel()


@pytest.mark.seed("S4", "S5", "S43", "S63")
@times
@pytest.mark.parametrize("cancel", [_cancel_source, _cancel_source_from_outside])
def test_source_cancelled_at_any_step_keeps_its_guest_or_completes(
    cancel: Callable[[Pair], None], times: int
) -> None:
    kept = moved = 0
    for pair in at_every_step(Pair, cancel, times):
        if pair.source.is_running:
            kept += 1
            assert isinstance(pair.source_error, CancelledError)
            assert pair.migration.status is MigrationStatus.CANCELLED
        else:
            moved += 1
            assert pair.source_error is None
            assert pair.destination.is_running
        assert pair.source_took_s < PARAMETERS.cleanup_timeout_s + 0.5
    assert kept > 100
    assert moved > 5


@times
def test_source_without_return_path_cancelled_at_any_step_keeps_its_guest_or_completes(
    times: int,
) -> None:
    for pair in at_every_step(lambda: Pair(near=OneWay, far=OneWay), _cancel_source, times):
        assert pair.source.is_running is isinstance(pair.source_error, CancelledError)
        assert pair.source.is_running is not pair.destination.is_running


@pytest.mark.parametrize("has_answers", [True, False])
async def test_source_points_to_the_destinations_words_only_where_somebody_answers(
    has_answers: bool,
) -> None:
    pair = (
        Pair(far=lambda end: CloseAfter(end, sent_bytes=len(pong(1).encode())))
        if has_answers
        else Pair(near=lambda end: CloseAfter(OneWay(end), sent_bytes=4000))
    )
    await pair.run()
    assert isinstance(pair.source_error, PeerClosedError)
    assert ("own output says why" in str(pair.source_error)) is has_answers


@times
@pytest.mark.parametrize("cancel", [_cancel_destination, _cancel_destination_from_outside])
def test_destination_cancelled_at_any_step_leaves_the_guest_to_one_side(
    cancel: Callable[[Pair], None], times: int
) -> None:
    kept = unknown = moved = 0
    for pair in at_every_step(Pair, cancel, times):
        kept += pair.source.is_running
        moved += pair.destination.is_running
        if not (pair.source.is_running or pair.destination.is_running):
            unknown += 1
            assert isinstance(pair.destination_error, UnknownOutcomeError)
            assert pair.destination.history[-1] == "keep_unconfirmed"
        assert pair.destination_took_s <= PARAMETERS.cleanup_timeout_s
    assert kept > 100
    assert unknown > 0
    assert moved > 0


_MOMENTS: Final = [
    StatusReached(SETUP),
    StatusReached(ACTIVE),
    PassBegun(1),
    HandoverBegins(),
    GuestPaused(),
    StatusReached(PRE_SWITCHOVER),
    StatusReached(DEVICE),
]


@pytest.mark.seed("S4", "S5", "S19", "S31", "S41", "S43", "S47", "S63")
@pytest.mark.parametrize("moment", _MOMENTS, ids=str)
async def test_source_that_is_cancelled_at_any_moment_runs_its_guest(
    moment: Notice, autojump_clock: MockClock
) -> None:
    pair = Pair(capabilities=PAUSES if moment == StatusReached(PRE_SWITCHOVER) else [])
    pair.migration.notifiers.add(at(moment, pair.migration.cancel))
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, CancelledError)
    assert pair.statuses[-2:] == [CANCELLING, CANCELLED]
    assert pair.migration.is_over
    was_paused = GuestPaused() in pair.source_notices
    assert pair.source.history == (["pause", "resume"] if was_paused else [])
    assert (GuestResumed() in pair.source_notices) is was_paused


@pytest.mark.seed("S4", "S19")
async def test_cancelling_again_changes_nothing() -> None:
    pair = Pair()
    pair.migration.notifiers.add(at(StatusReached(ACTIVE), pair.migration.cancel))
    pair.migration.notifiers.add(at(StatusReached(CANCELLING), pair.migration.cancel))
    pair.migration.notifiers.add(at(StatusReached(CANCELLED), pair.migration.cancel))
    await pair.run()
    pair.migration.cancel()
    assert pair.statuses == [SETUP, ACTIVE, CANCELLING, CANCELLED]


@pytest.mark.seed("S7", "S19", "S46")
async def test_cancelling_what_has_completed_changes_nothing() -> None:
    pair = Pair()
    pair.migration.notifiers.add(at(StatusReached(COMPLETED), pair.migration.cancel))
    await pair.run()
    pair.migration.cancel()
    assert pair.destination.is_running
    assert pair.migration.status is COMPLETED
    assert pair.source_error is None


@pytest.mark.seed("S43")
async def test_cancelling_breaks_a_write_that_is_blocked(autojump_clock: MockClock) -> None:
    pair = Pair(
        far=lambda end: StallAfter(end, received_bytes=3 * PAGE), destination_parameters=PATIENT
    )
    async with under_way(pair):
        await trio.sleep(5.0)
        assert pair.migration.status is ACTIVE
        pair.migration.cancel()
        cancelled_s = trio.current_time()
        await until(lambda: pair.migration.is_over)
        assert trio.current_time() - cancelled_s < 1.5
        pair.incoming.cancel()
    assert pair.source.is_running
