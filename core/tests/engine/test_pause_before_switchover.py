"""A source that waits before the switchover, until it is told to go on or something happens."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_channels import OneWay
from engine_orders import (
    ACTIVE,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    DEVICE,
    FAILED,
    PAUSES,
    PRE_SWITCHOVER,
    SETUP,
    at,
    quiet_pair,
    under_way,
)
from engine_pair import PARAMETERS, PATIENT, Pair, at_every_step

from transship.abc.settings import Capability
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    HandoverBegins,
    Notice,
    PassBegun,
    StatusReached,
)
from transship.errors import (
    CancelledError,
    LocalError,
    PeerClosedError,
    PeerFailedError,
    StalledError,
    UnknownOutcomeError,
)
from transship.testing import ChannelWrapper
from transship.testing.memory import MemoryChannel

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from transship.abc import Channel
    from transship.engine.status import MigrationStatus


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
