"""Who is told what happens: in order, with an end to every wait, and at nobody's cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from engine_channels import connected
from engine_machine import Machine, sections_of
from engine_pair import PATIENT, Pair, settings, statuses_in

from transship.engine.migration import Migration
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    HandoverBegins,
    Notice,
    Notifiers,
    PassBegun,
    StatusReached,
)
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, CancelledError
from transship.testing import memory_channel_pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

SETUP = StatusReached(MigrationStatus.SETUP)
ACTIVE = StatusReached(MigrationStatus.ACTIVE)


async def tell(notifiers: Notifiers, notice: Notice = ACTIVE, *, may_refuse: bool = False) -> None:
    await notifiers.tell(notice, timeout_s=10.0, may_refuse=may_refuse)


def noting(told: list[str], name: str) -> Callable[[Notice], None]:
    return lambda notice: told.append(name)


def awaiting(told: list[str], name: str, seconds: float) -> Callable[[Notice], Awaitable[None]]:
    async def notify(notice: Notice) -> None:
        await trio.sleep(seconds)
        told.append(name)

    return notify


@pytest.mark.seed("S44")
async def test_everybody_is_told_in_the_order_of_coming_and_async_ones_are_waited_for(
    autojump_clock: MockClock,
) -> None:
    told: list[str] = []
    notifiers = Notifiers()
    notifiers.add(noting(told, "first"))
    notifiers.add(awaiting(told, "second", 3.0))
    notifiers.add(noting(told, "third"))
    started_s = trio.current_time()
    await tell(notifiers)
    assert told == ["first", "second", "third"]
    assert trio.current_time() - started_s == pytest.approx(3.0)


async def test_those_of_the_host_are_told_after_those_of_the_migration() -> None:
    told: list[str] = []
    host = Notifiers()
    migration = Notifiers(then=host)
    host.add(noting(told, "host"))
    migration.add(noting(told, "migration"))
    await tell(migration)
    await tell(host)
    assert told == ["migration", "host", "host"]


@pytest.mark.seed("S44")
async def test_notifier_that_was_removed_is_told_no_more_and_the_others_are() -> None:
    told: list[str] = []
    notifiers = Notifiers()
    remove = notifiers.add(noting(told, "removed"))
    notifiers.add(noting(told, "stays"))
    remove()
    remove()
    await tell(notifiers)
    assert told == ["stays"]


@pytest.mark.seed("S44")
async def test_removing_takes_away_one_registration_of_a_notifier_that_has_two() -> None:
    told: list[Notice] = []
    notifiers = Notifiers()
    remove = notifiers.add(told.append)
    notifiers.add(told.append)
    remove()
    await tell(notifiers)
    assert told == [ACTIVE]


async def test_notifier_that_removes_itself_takes_nobodys_turn_away() -> None:
    told: list[str] = []
    notifiers = Notifiers()

    def once(notice: Notice) -> None:
        told.append("once")
        remove()

    remove = notifiers.add(once)
    notifiers.add(noting(told, "always"))
    await tell(notifiers)
    await tell(notifiers)
    assert told == ["once", "always", "always"]


async def test_notifier_that_fails_is_logged_by_name_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    def observe(notice: Notice) -> None:
        raise RuntimeError("no")

    async def observe_later(notice: Notice) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("no, again")

    notifiers = Notifiers()
    notifiers.add(observe)
    notifiers.add(observe_later, name="the billing")
    notifiers.add(noting(told, "last"))
    await tell(notifiers)
    assert told == ["last"]
    first, second = caplog.records
    assert "observe failed at StatusReached" in first.getMessage()
    assert "notifier the billing failed" in second.getMessage()
    assert "no, again" in caplog.text


async def test_async_notifier_that_takes_too_long_is_cut_short_and_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    notifiers = Notifiers()
    notifiers.add(awaiting(told, "never", 1000.0), name="the slow one")
    notifiers.add(noting(told, "last"))
    started_s = trio.current_time()
    await tell(notifiers)
    assert told == ["last"]
    assert trio.current_time() - started_s == pytest.approx(10.0)
    assert "notifier the slow one failed" in caplog.text


async def test_telling_that_is_cancelled_ends_with_the_notifier_whose_turn_it_is() -> None:
    told: list[str] = []
    notifiers = Notifiers()
    notifiers.add(noting(told, "first"))
    notifiers.add(awaiting(told, "second", 1000.0))
    notifiers.add(noting(told, "third"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await tell(notifiers)
    assert scope.cancelled_caught
    assert told == ["first"]


async def test_refusal_counts_only_where_one_may_refuse(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(notice: Notice) -> None:
        raise BlockedError("the other host is not ready")

    told: list[str] = []
    notifiers = Notifiers()
    notifiers.add(refuse)
    notifiers.add(noting(told, "after"))
    await tell(notifiers)
    assert "the other host is not ready" in caplog.text
    assert told == ["after"]
    with pytest.raises(BlockedError, match="the other host is not ready"):
        await tell(notifiers, SETUP, may_refuse=True)
    assert told == ["after"]


async def test_refusal_by_a_task_of_a_notifier_is_a_refusal() -> None:
    async def prepare(notice: Notice) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_preparing)
            nursery.start_soon(trio.sleep_forever)

    async def fail_preparing() -> None:
        raise BlockedError("the other host is not ready")

    notifiers = Notifiers()
    notifiers.add(prepare)
    with pytest.raises(BlockedError, match="the other host is not ready"):
        await tell(notifiers, SETUP, may_refuse=True)


# In a migration.


class At:
    """Does something when it is told one thing, which comes once."""

    def __init__(self, notice: Notice, act: Callable[[], Awaitable[None] | None]) -> None:
        self._notice = notice
        self._act = act
        self.count = 0

    def __call__(self, notice: Notice) -> Awaitable[None] | None:
        if notice != self._notice:
            return None
        self.count += 1
        return self._act()


def refuse() -> None:
    raise BlockedError("the other host is not ready")


@pytest.mark.seed("S44")
async def test_hook_that_refuses_at_setup_leaves_the_guest_untouched() -> None:
    pair = Pair()
    pair.migration.notifiers.add(At(SETUP, refuse))
    await pair.run_source_alone()
    assert isinstance(pair.source_error, BlockedError)
    assert (pair.source_error.phase, pair.source_error.source_may_resume) == ("setup", True)
    assert pair.source.history == []
    assert pair.statuses == [MigrationStatus.SETUP, MigrationStatus.FAILED]


async def test_hook_that_refuses_a_guest_which_is_to_come_ends_the_waiting() -> None:
    pair = Pair()
    pair.incoming.notifiers.add(At(SETUP, refuse))
    with pytest.raises(BlockedError, match="the other host is not ready"):
        await pair.incoming.run()
    assert pair.incoming.address is None
    assert pair.incoming.status is MigrationStatus.FAILED


LATE = [
    *(
        StatusReached(status)
        for status in MigrationStatus
        if status.value in ("active", "device", "completed")
    ),
    HandoverBegins(),
    GuestPaused(),
    PassBegun(1),
]


@pytest.mark.parametrize("notice", LATE, ids=str)
async def test_source_goes_on_whatever_a_notifier_raises_after_setup(
    notice: Notice, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair()
    reached = At(notice, refuse)
    pair.migration.notifiers.add(reached)
    await pair.run()
    assert reached.count == 1
    assert pair.source_error is None
    assert pair.migration.status is MigrationStatus.COMPLETED
    assert pair.destination.is_running
    assert "the other host is not ready" in caplog.text


@pytest.mark.parametrize(
    "notice",
    [
        ACTIVE,
        StatusReached(MigrationStatus.DEVICE),
        GuestResumed(),
        StatusReached(MigrationStatus.COMPLETED),
    ],
    ids=str,
)
async def test_destination_goes_on_whatever_a_notifier_raises_after_setup(
    notice: Notice, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair()
    reached = At(notice, refuse)
    pair.incoming.notifiers.add(reached)
    await pair.run()
    assert reached.count == 1
    assert pair.source_error is pair.destination_error is None
    assert pair.destination.is_running
    assert "the other host is not ready" in caplog.text


async def test_notifier_that_never_returns_delays_every_step_and_fails_none(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(destination_parameters=PATIENT)
    pair.migration.notifiers.add(awaiting([], "never", 1e9))
    await pair.run()
    assert pair.destination.is_running
    assert pair.source_error is pair.destination_error is None
    assert pair.source_took_s == pytest.approx(5.0 * len(pair.source_notices), abs=1.0)


async def test_cancelling_does_not_wait_for_the_notifier_whose_turn_it_is(
    autojump_clock: MockClock,
) -> None:
    pair = Pair()
    waits = trio.Event()

    async def wait() -> None:
        waits.set()
        await trio.sleep(9.0)

    pair.migration.notifiers.add(At(ACTIVE, wait))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await waits.wait()
        pair.migration.cancel()
    assert isinstance(pair.source_error, CancelledError)
    assert pair.source_took_s < 1.5
    assert pair.source.is_running


@pytest.mark.seed("S3", "S4", "S5", "S40", "S44", "S68")
async def test_every_change_of_status_is_told_after_it_has_happened() -> None:
    seen: list[tuple[MigrationStatus, MigrationStatus]] = []
    near, _ = memory_channel_pair()
    guest = Machine(is_running=True)
    migration = Migration(guest, sections_of(guest), connected(near), settings())

    def look(notice: Notice) -> None:
        assert isinstance(notice, StatusReached)
        seen.append((notice.status, migration.status))

    migration.notifiers.add(look)
    migration.cancel()
    with pytest.raises(CancelledError):
        await migration.run()
    assert all(told is held for told, held in seen)
    assert [told for told, _ in seen] == [
        MigrationStatus.SETUP,
        MigrationStatus.CANCELLING,
        MigrationStatus.CANCELLED,
    ]


def test_notices_are_values() -> None:
    assert StatusReached(MigrationStatus.SETUP) == SETUP
    assert PassBegun(1) != PassBegun(2)
    assert statuses_in([SETUP, PassBegun(1), ACTIVE]) == [
        MigrationStatus.SETUP,
        MigrationStatus.ACTIVE,
    ]
