"""A peer, a guest or a notifier that takes too long, on a virtual clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from engine_channels import Deaf, saying
from engine_machine import PAGE, Machine, sections_of
from engine_pair import PARAMETERS, PATIENT, Pair, settings

from transship.engine.migration import Migration
from transship.engine.notifiers import GuestPaused, HandoverBegins, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import ConnectError, StalledError, UnknownOutcomeError
from transship.testing import StallAfter, memory_channel_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from transship.abc import Channel


async def test_destination_that_never_answers_the_first_question_is_given_up(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(far=saying(lambda number, message: b""), destination_parameters=PATIENT)
    await pair.run()
    assert pair.source.is_running
    assert pair.source.history == []
    assert isinstance(pair.source_error, StalledError)
    assert pair.source_took_s == pytest.approx(PARAMETERS.stall_timeout_s, abs=1.5)


async def test_destination_that_never_says_it_has_everything_is_given_up(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(
        far=saying(lambda number, message: message if number == 0 else b""),
        destination_parameters=PATIENT,
    )
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, StalledError)
    assert pair.source_error.phase == "device"
    assert pair.source_took_s == pytest.approx(PARAMETERS.handover_timeout_s, abs=1.5)
    assert isinstance(pair.destination_error, UnknownOutcomeError)


async def test_last_word_that_never_comes_leaves_the_outcome_unknown(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(far=saying(lambda number, message: message if number < 2 else b""))
    await pair.run()
    assert pair.destination.is_running
    assert isinstance(pair.source_error, UnknownOutcomeError)
    assert pair.source_took_s <= PARAMETERS.stall_timeout_s + 1.5


@pytest.mark.seed("S59")
async def test_destination_that_stops_reading_is_given_up(autojump_clock: MockClock) -> None:
    pair = Pair(
        far=lambda end: StallAfter(end, received_bytes=3 * PAGE), destination_parameters=PATIENT
    )
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, StalledError)
    assert "within 30 s" in pair.source_error.cause
    assert pair.source_took_s == pytest.approx(PARAMETERS.stall_timeout_s, abs=1.5)


@pytest.mark.parametrize("sent_bytes", [0, 3, 3 * PAGE])
async def test_source_that_stops_sending_is_given_up(
    sent_bytes: int, autojump_clock: MockClock
) -> None:
    pair = Pair(near=lambda end: StallAfter(end, sent_bytes=sent_bytes))
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.destination_error, StalledError)
    assert pair.destination_error.offset is not None
    assert pair.destination_error.offset <= sent_bytes
    assert pair.destination_took_s == pytest.approx(PARAMETERS.stall_timeout_s, abs=1.5)


@pytest.mark.seed("S1", "S42")
async def test_connection_that_never_comes_about_is_given_up(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def never() -> AsyncIterator[Channel]:
        await trio.sleep(1000)
        yield memory_channel_pair()[0]

    guest = Machine(is_running=True)
    migration = Migration(guest, sections_of(guest), never(), settings())
    with pytest.raises(ConnectError, match="no connection within 30 s") as caught:
        await migration.run()
    assert caught.value.phase == "setup"
    assert guest.is_running
    assert guest.history == []


async def test_channel_that_does_not_close_delays_nobody(autojump_clock: MockClock) -> None:
    pair = Pair(near=Deaf, far=Deaf)
    await pair.run()
    assert pair.destination.is_running
    assert pair.source_took_s < 3


async def test_guest_that_does_not_pause_in_time_fails_the_migration(
    autojump_clock: MockClock,
) -> None:
    pair = Pair()

    async def never() -> None:
        await trio.sleep(1000)

    pair.source.pause = never  # type: ignore[method-assign]
    await pair.run()
    assert isinstance(pair.source_error, StalledError)
    assert "did not pause within 10 s" in pair.source_error.cause
    assert not pair.destination.is_running


async def test_slow_notifiers_do_not_break_a_migration(autojump_clock: MockClock) -> None:
    pair = Pair()

    async def slow(notice: object) -> None:
        if notice in (HandoverBegins(), GuestPaused(), StatusReached(MigrationStatus.DEVICE)):
            await trio.sleep(1000)

    pair.migration.notifiers.add(slow)
    pair.migration.notifiers.add(slow)
    await pair.run()
    assert pair.source_error is pair.destination_error is None
