"""Both sides of a migration in one process: whatever breaks, and whenever, one guest at most runs.

Everything happens in one thread and on a virtual clock, so that a test can interfere at every
single step of the event loop, and hours of waiting cost nothing.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_channels import OneWay, Watched, connected, listening, unchanged
from engine_machine import Machine, PlainRAM, Register, sections_of
from engine_orders import DEVICE, at, quiet_pair
from engine_pair import Pair, settings

from transship.engine.incoming import IncomingMigration
from transship.engine.migration import Migration
from transship.engine.notifiers import GuestPaused, Notice, PassBegun, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import (
    BlockedError,
    LocalError,
    NotStartedError,
    PeerFailedError,
    RemoteError,
    StreamError,
    UnknownOutcomeError,
)
from transship.testing import CloseAfter, StallAfter, memory_channel_pair
from transship.wire.returnpath import pong

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

    from transship.abc import Channel


# A good passage.


@pytest.mark.seed("S7", "S36", "S38", "S56", "S58")
async def test_guest_moves_and_runs_on_where_it_stopped() -> None:
    pair = Pair()
    await pair.run()
    assert pair.destination.is_running
    assert pair.source.history == ["pause"]
    assert pair.destination.history == ["prepare", "commit", "resume"]
    assert pair.migration.status is pair.incoming.status is MigrationStatus.COMPLETED
    assert pair.migration.is_confirmed
    assert not pair.migration.owns_guest
    assert pair.migration.statistics.downtime_s is not None


@pytest.mark.seed("S38")
async def test_guest_that_stood_still_arrives_standing_still() -> None:
    pair = Pair()
    pair.source.play()
    pair.source.play()
    await pair.source.pause()
    await pair.run_unchecked()
    pair.check_arrived_whole()
    assert not pair.destination.is_running
    assert pair.destination.history == ["prepare", "commit"]


async def test_guest_moves_unconfirmed_where_the_channel_has_no_return_path() -> None:
    pair = Pair(near=OneWay, far=OneWay)
    await pair.run()
    assert pair.destination.is_running
    assert pair.migration.status is MigrationStatus.COMPLETED
    assert not pair.migration.is_confirmed


async def test_devices_too_large_for_a_package_arrive_and_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transship.engine.source.PACKAGE_BYTES", 16)
    pair = Pair()
    await pair.run()
    assert pair.source_error is None
    assert pair.destination_error is None
    assert pair.destination.is_running


@pytest.mark.seed("S44")
async def test_notifier_that_fails_is_named_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def observe(status: object) -> None:
        raise RuntimeError("no")

    near_end, far_end = memory_channel_pair(1 << 20)
    guest, there = Machine(is_running=True), Machine(is_running=False)
    migration = Migration(guest, sections_of(guest), connected(near_end), settings())
    migration.notifiers.add(observe)
    incoming = IncomingMigration(there, sections_of(there), listening(far_end), settings())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(migration.run)
        nursery.start_soon(incoming.run)
    assert there.is_running
    assert "observe failed" in caplog.text


async def test_transport_with_tasks_of_its_own_is_entered_and_left() -> None:
    near_end, far_end = memory_channel_pair(1 << 20)

    @asynccontextmanager
    async def with_a_task() -> AsyncIterator[Channel]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield near_end
            nursery.cancel_scope.cancel()

    guest, there = Machine(is_running=True), Machine(is_running=False)
    migration = Migration(guest, sections_of(guest), with_a_task(), settings())
    incoming = IncomingMigration(there, sections_of(there), listening(far_end), settings())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(migration.run)
        nursery.start_soon(incoming.run)
    assert there.is_running
    assert not guest.is_running


# A channel that breaks.


_CUTS: Final[dict[str, Callable[[int], Pair]]] = {
    "source sends": lambda at: Pair(near=lambda end: CloseAfter(end, sent_bytes=at)),
    "source receives": lambda at: Pair(near=lambda end: CloseAfter(end, received_bytes=at)),
    "destination receives": lambda at: Pair(far=lambda end: CloseAfter(end, received_bytes=at)),
    "destination sends": lambda at: Pair(far=lambda end: CloseAfter(end, sent_bytes=at)),
}


@pytest.mark.seed("S59", "S63")
@pytest.mark.parametrize("where", _CUTS)
async def test_channel_closed_anywhere_leaves_the_guest_to_one_side(
    where: str, autojump_clock: MockClock
) -> None:
    whole = Pair(near=Watched, far=Watched)
    await whole.run()
    watched = whole.near if where in ("source sends", "destination receives") else whole.far
    assert isinstance(watched, Watched)
    ends = list(accumulate(length for _, length in watched.sent))
    for cut in sorted({place for end in [0, *ends] for place in (end - 1, end, end + 1)} - {-1}):
        await _CUTS[where](cut).run()


# Parts that fail.


@pytest.mark.seed("S1", "S41", "S59")
@pytest.mark.parametrize("hook", ["begin", "iterate", "pending", "complete"])
async def test_live_section_that_fails_in_any_hook_is_named_and_the_guest_stays(hook: str) -> None:
    pair = Pair()
    pair.ram.fails_in = hook
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, LocalError)
    assert pair.source_error.section == "ram"
    assert f"{hook} of the section is broken" in str(pair.source_error)
    assert isinstance(pair.source_error.__cause__, ZeroDivisionError)


async def test_device_section_that_fails_is_named_and_the_guest_stays() -> None:
    pair = Pair()
    section = pair.source_sections.find("register", 0)
    assert isinstance(section, Register)
    section.fails_in = "complete"
    await pair.run()
    assert pair.source.is_running
    assert pair.source_error is not None
    assert (pair.source_error.section, pair.source_error.phase) == ("register", "device")


@pytest.mark.seed("S70")
@pytest.mark.parametrize("idstr", ["ram", "register"])
async def test_section_that_fails_to_load_is_named_and_the_source_hears_of_it(idstr: str) -> None:
    pair = Pair()
    section = pair.destination_sections.find(idstr, 0)
    assert isinstance(section, PlainRAM | Register)
    section.fails_in = "load"
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert isinstance(pair.destination_error, LocalError)
    assert pair.destination_error.section == idstr
    assert pair.destination_error.offset is not None
    assert pair.destination.history == ["discard"]


@pytest.mark.seed("S41")
async def test_section_that_cannot_be_cancelled_does_not_keep_the_guest_from_going_on() -> None:
    pair = Pair(destination_fails_in=["prepare"])
    pair.ram.fails_in = "cancel"
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert "section 'ram' could not be cancelled" in str(pair.source_error)


@pytest.mark.seed("S57")
async def test_guest_that_cannot_be_paused_stays() -> None:
    pair = Pair(source_fails_in=["pause"])
    await pair.run()
    assert pair.source.is_running
    assert "pause does not work here" in str(pair.source_error)


async def test_guest_that_cannot_be_resumed_after_a_failure_is_reported_with_the_failure() -> None:
    pair = Pair(source_fails_in=["resume"], destination_fails_in=["prepare"])
    await pair.run_unchecked()
    assert isinstance(pair.source_error, PeerFailedError)
    assert "the guest could not be resumed: resume does not work" in str(pair.source_error)
    assert not pair.destination.is_running


async def test_destination_that_cannot_make_it_last_leaves_the_guest_to_the_source() -> None:
    pair = Pair(destination_fails_in=["prepare"])
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.destination.history == ["discard"]


@pytest.mark.seed("S71")
@pytest.mark.parametrize("method", ["commit", "resume"])
async def test_guest_that_arrived_and_cannot_be_started_stays_paused_there(method: str) -> None:
    pair = Pair(destination_fails_in=[method])
    await pair.run()
    assert not pair.source.is_running
    assert isinstance(pair.destination_error, NotStartedError)
    assert isinstance(pair.source_error, UnknownOutcomeError)
    for error in (pair.source_error, pair.destination_error):
        assert error.hint == "it is at the destination, and was not started"


async def test_destination_that_cannot_forget_what_it_loaded_says_so() -> None:
    pair = Pair(destination_fails_in=["prepare", "discard"])
    await pair.run()
    assert pair.source.is_running
    assert "could not be discarded" in str(pair.destination_error)


async def test_guest_that_cannot_be_put_away_unconfirmed_is_reported_as_unknown() -> None:
    pair = Pair(
        far=lambda end: CloseAfter(end, sent_bytes=2 * len(pong(1).encode())),
        destination_fails_in=["keep_unconfirmed"],
    )
    await pair.run()
    assert isinstance(pair.destination_error, UnknownOutcomeError)
    assert "keep_unconfirmed does not work here" in str(pair.destination_error)


# Machines that do not fit.


async def test_other_machine_is_refused_before_any_page() -> None:
    pair = Pair()
    pair.destination.machine = "another"
    await pair.run()
    assert pair.source.history == []
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.source_error.cause == "the destination failed: the source is another machine"
    assert pair.source_error.expected == "machine type 'another'"
    assert isinstance(pair.destination_error, RemoteError)
    assert pair.destination_error.found == "'fake'"


async def test_section_that_is_missing_on_the_destination_is_refused() -> None:
    pair = Pair(destination_lacks="register")
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert isinstance(pair.destination_error, StreamError)
    assert "'register'" in str(pair.destination_error.found)


async def test_section_that_the_source_left_out_is_refused() -> None:
    pair = Pair(source_lacks="register")
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.destination_error, StreamError)
    assert pair.destination_error.expected == "register"


async def test_ram_that_no_section_carries_is_refused_before_connecting() -> None:
    pair = Pair(source_lacks="ram", near=lambda end: StallAfter(end, sent_bytes=0))
    await pair.run_source_alone()
    assert pair.source.history == []
    assert isinstance(pair.source_error, BlockedError)


@pytest.mark.parametrize("version", [1, 3])
async def test_section_of_another_version_is_refused(version: int) -> None:
    pair = Pair()
    section = pair.source_sections.find("register", 0)
    assert section is not None
    section.version_id = version
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.destination_error, StreamError)
    assert (pair.destination_error.section, pair.destination_error.found) == (
        "register",
        str(version),
    )


# A guest that somebody lets run while it is handed over.


@pytest.mark.parametrize("way", ["two ways", "one way"])
@pytest.mark.parametrize("moment", [GuestPaused(), StatusReached(DEVICE), PassBegun(3)], ids=str)
async def test_guest_that_somebody_resumes_during_the_hand_over_is_not_given_up(
    moment: Notice, way: str
) -> None:
    wrap = OneWay if way == "one way" else unchanged
    pair = quiet_pair(near=wrap, far=wrap)

    def resume() -> None:
        pair.source._is_running = True

    pair.migration.notifiers.add(at(moment, resume))
    await pair.run()
    assert pair.source.is_running
    assert pair.migration.owns_guest
    assert isinstance(pair.source_error, LocalError)
    assert "somebody let the guest run" in pair.source_error.cause
    assert not pair.destination.is_running
