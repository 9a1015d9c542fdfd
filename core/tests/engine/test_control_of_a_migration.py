"""What an operator may do to a migration under way, and what the two sides tell each other."""

from __future__ import annotations

import dataclasses
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from engine_pair import (
    PAGE,
    PARAMETERS,
    PATIENT,
    Machine,
    OneWay,
    Pair,
    Watched,
    at_every_step,
    statuses_in,
    until,
)

from transship.abc.settings import Capability, Parameters
from transship.engine.custody import Custodian
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    HandoverBegins,
    Notice,
    PassBegun,
    StatusReached,
)
from transship.engine.status import MigrationStatus
from transship.errors import (
    BlockedError,
    CancelledError,
    LocalError,
    MigrationError,
    PeerClosedError,
    PeerFailedError,
    StalledError,
    UnknownOutcomeError,
)
from transship.testing import ChannelWrapper, CloseAfter, StallAfter
from transship.testing.memory import MemoryChannel
from transship.wire import encoder
from transship.wire.constants import CommandType
from transship.wire.events import Configuration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from trio.testing import MockClock

    from transship.abc import Channel
    from transship.buffers import Buffer

SETUP, ACTIVE, PRE_SWITCHOVER, DEVICE, COMPLETED, FAILED, CANCELLING, CANCELLED = (
    MigrationStatus.SETUP,
    MigrationStatus.ACTIVE,
    MigrationStatus.PRE_SWITCHOVER,
    MigrationStatus.DEVICE,
    MigrationStatus.COMPLETED,
    MigrationStatus.FAILED,
    MigrationStatus.CANCELLING,
    MigrationStatus.CANCELLED,
)
PAUSES: Final = [Capability.PAUSE_BEFORE_SWITCHOVER]
CONVERGES: Final = [Capability.AUTO_CONVERGE]


@asynccontextmanager
async def under_way(pair: Pair) -> AsyncIterator[Pair]:
    """A pair that runs while the body does, and to its end after it; checked like any other."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        yield pair


def quiet_pair(**arguments: Any) -> Pair:
    """A pair whose guest has written all that it will."""
    pair = Pair(**arguments)
    while pair.source.play():
        pass
    return pair


def change(pair: Pair, **changes: float) -> None:
    pair.migration.parameters = dataclasses.replace(
        pair.migration.parameters,
        **changes,  # type: ignore[arg-type]
    )


def at(notice: Notice, act: Callable[[], object]) -> Callable[[Notice], None]:
    """A notifier that does something when it is told one thing."""

    def notify(told: Notice) -> None:
        if told == notice:
            act()

    return notify


def sent_between(pair: Pair, start_s: float, end_s: float) -> int:
    assert isinstance(pair.near, Watched)
    return sum(length for at_s, length in pair.near.sent if start_s <= at_s < end_s)


class Slow(ChannelWrapper):
    """Carries so many pages a second."""

    def __init__(self, inner: Channel, pages_per_s: float = 10.0) -> None:
        super().__init__(inner)
        self._pages_per_s = pages_per_s

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await trio.sleep(sum(map(len, segments)) / PAGE / self._pages_per_s)
        await super().send_segments(segments)


# The statuses, and what is told in which order.


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


# Cancel.

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


class Silent(ChannelWrapper):
    """Receives nothing more from a time on, and does not say so."""

    def __init__(self, inner: Channel, after_s: float) -> None:
        super().__init__(inner)
        self._until_s = trio.current_time() + after_s

    async def receive_some_into(self, target: memoryview) -> int:
        count = await super().receive_some_into(target)
        if trio.current_time() > self._until_s:
            await trio.sleep_forever()
        return count


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


# Pause before the switchover.


async def test_source_that_pauses_before_the_switchover_waits_until_it_is_let_go_on(
    autojump_clock: MockClock,
) -> None:
    pair = quiet_pair(capabilities=PAUSES)
    async with under_way(pair):
        await trio.sleep(5.0)
        assert pair.migration.status is PRE_SWITCHOVER
        assert pair.source.history == ["pause"]
        assert pair.incoming.status is ACTIVE
        pair.migration.switch_over()
    assert pair.destination.is_running
    assert pair.statuses == [SETUP, ACTIVE, PRE_SWITCHOVER, DEVICE, COMPLETED]
    assert pair.source_notices[-6:] == [
        HandoverBegins(),
        GuestPaused(),
        StatusReached(PRE_SWITCHOVER),
        StatusReached(DEVICE),
        PassBegun(3),
        StatusReached(COMPLETED),
    ]
    downtime_s = pair.migration.statistics.downtime_s
    assert downtime_s == pytest.approx(5.0, abs=0.1)  # as in QEMU, waiting is downtime


async def test_source_that_is_let_go_on_as_soon_as_it_says_that_it_waits_goes_on(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(capabilities=PAUSES)
    pair.migration.notifiers.add(at(StatusReached(PRE_SWITCHOVER), pair.migration.switch_over))
    await pair.run()
    assert pair.destination.is_running
    assert pair.source_took_s < 1


async def test_source_that_does_not_wait_cannot_be_let_go_on() -> None:
    pair = Pair()
    refused: list[MigrationStatus] = []

    def go_on(notice: Notice) -> None:
        if isinstance(notice, StatusReached):
            with pytest.raises(LocalError, match="does not wait") as caught:
                pair.migration.switch_over()
            assert caught.value.expected == "pre-switchover"
            assert caught.value.found == notice.status.value
            refused.append(notice.status)

    with pytest.raises(LocalError, match="does not wait"):
        pair.migration.switch_over()
    pair.migration.notifiers.add(go_on)
    await pair.run()
    assert refused == [SETUP, ACTIVE, DEVICE, COMPLETED]


@pytest.mark.seed("S63")
async def test_waiting_source_that_is_cancelled_gives_its_guest_back_at_once(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(capabilities=PAUSES)
    async with under_way(pair):
        await trio.sleep(3.0)
        assert pair.source.history == ["pause"]
        pair.migration.cancel()
        await trio.sleep(0.1)
        assert pair.source.is_running
    assert isinstance(pair.source_error, CancelledError)
    assert pair.source_error.phase == "pre-switchover"
    assert pair.source_notices[-3:] == [
        StatusReached(CANCELLING),
        GuestResumed(),
        StatusReached(CANCELLED),
    ]


async def test_destination_bears_a_source_that_waits_for_hours(autojump_clock: MockClock) -> None:
    pair = Pair(capabilities=PAUSES)
    async with under_way(pair):
        await trio.sleep(3 * 3600.0)
        assert pair.migration.status is PRE_SWITCHOVER
        pair.migration.switch_over()
    assert pair.source_error is pair.destination_error is None
    assert pair.destination.is_running


async def test_guest_that_stood_still_waits_before_the_switchover_as_well(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(capabilities=PAUSES)
    await pair.source.pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run_unchecked)
        await trio.sleep(1.0)
        assert pair.migration.status is PRE_SWITCHOVER
        pair.migration.switch_over()
    assert pair.migration.status is COMPLETED
    assert GuestPaused() not in pair.source_notices


@pytest.mark.parametrize("how", ["closes", "is lost", "is cancelled", "ends"])
async def test_source_whose_peer_goes_while_it_waits_gives_its_guest_back(
    how: str, autojump_clock: MockClock
) -> None:
    pair = Pair(capabilities=PAUSES)
    async with under_way(pair):
        await trio.sleep(2.0)
        match how:
            case "closes":
                await pair.far.aclose()
            case "is lost":
                assert isinstance(pair.near, MemoryChannel)
                pair.near.lose_peer()
            case "is cancelled":
                pair.incoming.cancel()
            case _:
                pair.destination_scope.cancel()
        await trio.sleep(3.0)
        assert pair.source.is_running
    assert isinstance(pair.source_error, PeerClosedError | PeerFailedError)
    assert pair.source_error.phase == "pre-switchover"
    assert pair.source.history == ["pause", "resume"]
    assert pair.destination.history == ["discard"]


async def test_source_whose_peer_hangs_while_it_waits_gives_its_guest_back(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(
        capabilities=PAUSES,
        far=lambda end: Silent(end, after_s=5.0),
        destination_parameters=PATIENT,
    )
    async with under_way(pair):
        await trio.sleep(1.0)
        assert pair.migration.status is PRE_SWITCHOVER
        await trio.sleep(3 * PARAMETERS.stall_timeout_s)
        assert pair.source.is_running
        pair.incoming.cancel()
    assert isinstance(pair.source_error, StalledError)
    assert pair.source_error.phase == "pre-switchover"


# Auto-converge.

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


# The return path.


@pytest.mark.parametrize("way", ["two ways", "one way"])
async def test_return_path_that_is_asked_for_must_be_there(way: str) -> None:
    pair = Pair(near=OneWay if way == "one way" else _plain, capabilities=["return-path"])
    await pair.run()
    if way == "one way":
        assert pair.source.is_running
        assert pair.source.history == []
        assert pair.source.log.starts == 0
        assert isinstance(pair.source_error, BlockedError)
        assert "has no return path" in pair.source_error.cause
        assert (pair.source_error.phase, pair.source_error.source_may_resume) == ("setup", True)
    else:
        assert pair.destination.is_running


def _plain(channel: Channel) -> Channel:
    return channel


# A guest that somebody lets run while it is handed over.


@pytest.mark.parametrize("way", ["two ways", "one way"])
@pytest.mark.parametrize("moment", [GuestPaused(), StatusReached(DEVICE), PassBegun(3)], ids=str)
async def test_guest_that_somebody_resumes_during_the_hand_over_is_not_given_up(
    moment: Notice, way: str
) -> None:
    wrap = OneWay if way == "one way" else _plain
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


# Why the destination failed.


class Changed(ChannelWrapper):
    """Changes one byte on the way."""

    def __init__(self, inner: Channel, offset: int) -> None:
        super().__init__(inner)
        self._left = offset

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        data = bytearray().join(bytes(segment) for segment in segments)
        if 0 <= self._left < len(data):
            data[self._left] ^= 0x60
        self._left -= len(data)
        await super().send_segments((data,))


def _other_machine() -> Pair:
    pair = Pair()
    pair.destination.machine = "another"
    return pair


def _broken_section() -> Pair:
    pair = Pair()
    section = pair.destination_sections.find("register", 0)
    assert section is not None
    section.fails_in = "load"  # type: ignore[attr-defined]
    return pair


_HEAD: Final = len(
    encoder.stream_header()
    + encoder.configuration(Configuration(machine="fake"))
    + encoder.command(CommandType.OPEN_RETURN_PATH)
    + encoder.ping(1)
)


@pytest.mark.seed("S1", "S31", "S37", "S47", "S59", "S70")
@pytest.mark.parametrize(
    ("make", "cause", "section", "has_offset"),
    [
        (_other_machine, "the source is another machine", "configuration", True),
        (
            lambda: Pair(destination_lacks="register"),
            "the source has a section 'register' that nothing here loads",
            "register",
            True,
        ),
        (
            lambda: Pair(source_lacks="register"),
            "the source left sections out, or did not end them",
            None,
            True,
        ),
        (lambda: Pair(near=lambda end: Changed(end, _HEAD)), "unknown record type", None, True),
        (_broken_section, "ZeroDivisionError: load of the section is broken", "register", True),
        (
            lambda: Pair(destination_fails_in=["prepare"]),
            "OSError: prepare does not work here",
            None,
            False,
        ),
    ],
    ids=[
        "other machine",
        "missing section",
        "section left out",
        "wrong byte",
        "broken section",
        "disk full",
    ],
)
async def test_source_says_why_the_destination_failed(
    make: Callable[[], Pair], cause: str, section: str | None, has_offset: bool
) -> None:
    pair = make()
    await pair.run()
    ours, theirs = pair.source_error, pair.destination_error
    assert isinstance(ours, PeerFailedError)
    assert theirs is not None
    assert theirs.cause == cause
    assert ours.cause == f"the destination failed: {cause}"
    assert ours.section == theirs.section == section
    assert ours.offset == theirs.offset
    assert (ours.offset is not None) is has_offset
    assert (ours.expected, ours.found, ours.hint) == (theirs.expected, theirs.found, theirs.hint)
    assert ours.side == "source"
    assert ours.source_may_resume is True
    assert pair.source.is_running
    assert pair.migration.status is pair.incoming.status is FAILED


async def test_wrong_byte_is_told_with_its_place_and_what_is_there() -> None:
    pair = Pair(near=lambda end: Changed(end, _HEAD))
    await pair.run()
    assert pair.source_error is not None
    assert (pair.source_error.offset, pair.source_error.found) == (_HEAD, "0x61")


@pytest.mark.parametrize("how", ["asked to end", "cancelled from outside"])
async def test_source_is_told_that_the_destination_was_cancelled(
    how: str, autojump_clock: MockClock
) -> None:
    pair = Pair(near=Slow)
    async with under_way(pair):
        await trio.sleep(0.5)
        if how == "asked to end":
            pair.incoming.cancel()
        else:
            pair.destination_scope.cancel()
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.source_error.cause == (
        "the destination failed: the migration was cancelled on the destination"
    )
    assert isinstance(pair.destination_error, CancelledError)
    assert statuses_in(pair.destination_notices)[-2:] == [CANCELLING, CANCELLED]


async def test_destination_that_fails_while_the_source_waits_for_room_is_heard(
    autojump_clock: MockClock,
) -> None:
    """The channel holds two pages: the source is blocked in a send when the word comes."""
    pair = Pair(pages=64)
    section = pair.destination_sections.find("ram", 0)
    assert section is not None
    section.fails_in = "load"  # type: ignore[attr-defined]
    await pair.run()
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.source_error.section == "ram"
    assert "load of the section is broken" in pair.source_error.cause


# Interfered with at every step.


class Waiting(Pair):
    """A pair whose source waits before the switchover, and whose notifiers all take time.

    Somebody lets it go on soon after.
    """

    def __init__(self) -> None:
        super().__init__(pages=4, capabilities=PAUSES)
        self._waits = trio.Event()
        for attempt in (self.migration, self.incoming):
            attempt.notifiers.add(self._take_time)
        self.migration.notifiers.add(at(StatusReached(PRE_SWITCHOVER), self._waits.set))

    @staticmethod
    async def _take_time(notice: Notice) -> None:
        await trio.sleep(0.01)

    async def run_unchecked(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._let_go_on)
            await super().run_unchecked()
            nursery.cancel_scope.cancel()

    async def _let_go_on(self) -> None:
        await self._waits.wait()
        await trio.sleep(0.05)
        with suppress(LocalError):
            self.migration.switch_over()


def _lose_the_peer(pair: Pair) -> None:
    assert isinstance(pair.near, MemoryChannel)
    pair.near.lose_peer()


_INTERFERENCES: Final[dict[str, Callable[[Pair], None]]] = {
    "cancel the source": lambda pair: pair.migration.cancel(),
    "cancel the source from outside": lambda pair: pair.source_scope.cancel(),
    "cancel the destination": lambda pair: pair.incoming.cancel(),
    "lose the peer": _lose_the_peer,
}


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("what", _INTERFERENCES)
def test_interference_at_any_step_of_a_pair_that_waits_leaves_one_guest_at_most(
    what: str, times: int
) -> None:
    kept = elsewhere = 0
    for pair in at_every_step(Waiting, _INTERFERENCES[what], times):
        if pair.source.is_running:
            kept += 1
            assert pair.migration.status in (CANCELLED, FAILED)
        else:
            elsewhere += 1
            assert isinstance(pair.source_error, UnknownOutcomeError | None)
    assert kept > 100
    assert elsewhere > 3


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


def test_machine_of_these_tests_can_be_slowed_down() -> None:
    assert Machine.can_throttle


# Nothing to send for long.


async def test_pause_before_switchover_over_a_one_way_channel_may_last(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(near=OneWay, far=OneWay, capabilities=[Capability.PAUSE_BEFORE_SWITCHOVER])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await trio.sleep(60)
        pair.migration.switch_over()
    assert pair.destination_error is None
    assert pair.destination.is_running


async def test_slow_notifiers_do_not_break_a_migration(autojump_clock: MockClock) -> None:
    pair = Pair()

    async def slow(notice: object) -> None:
        if notice in (HandoverBegins(), GuestPaused(), StatusReached(MigrationStatus.DEVICE)):
            await trio.sleep(1000)

    pair.migration.notifiers.add(slow)
    pair.migration.notifiers.add(slow)
    await pair.run()
    assert pair.source_error is pair.destination_error is None


async def test_tiny_cap_does_not_stall_the_destination(autojump_clock: MockClock) -> None:
    pair = Pair(parameters=Parameters(max_bandwidth_bytes_per_s=50, downtime_limit_s=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await trio.sleep(300)
        failed = pair.migration.is_over
        pair.migration.cancel()
    assert not failed
