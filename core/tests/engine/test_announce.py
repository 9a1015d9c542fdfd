"""Telling the network where a guest is: when, how often, and that its failing harms nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc.settings import Parameters
from transship.engine.announce import announce, pauses_s
from transship.testing import FakeGuest

if TYPE_CHECKING:
    from trio.testing import MockClock


class Announcer(FakeGuest):
    """Notes when it announces itself.

    Args:
        fails_at: The number of the announcement that fails, from 1 on.
    """

    def __init__(self, fails_at: int = 0) -> None:
        super().__init__({})
        self.at_s: list[float] = []
        self._fails_at = fails_at
        self._began_s = trio.current_time()

    def announce(self) -> None:
        self.at_s.append(trio.current_time() - self._began_s)
        if len(self.at_s) == self._fails_at:
            raise OSError("the cable is out")


@pytest.mark.seed("S38")
async def test_guest_announces_itself_at_once_and_then_at_growing_pauses(
    autojump_clock: MockClock,
) -> None:
    guest = Announcer()
    await announce(guest, Parameters())
    assert guest.at_s == pytest.approx([0.0, 0.05, 0.2, 0.45, 0.8])


async def test_pauses_grow_no_more_than_they_may(autojump_clock: MockClock) -> None:
    parameters = Parameters(
        announce_initial_s=1.0, announce_step_s=2.0, announce_max_s=4.0, announce_rounds=6
    )
    assert list(pauses_s(parameters)) == [1.0, 3.0, 4.0, 4.0, 4.0]
    guest = Announcer()
    await announce(guest, parameters)
    assert guest.at_s == pytest.approx([0.0, 1.0, 4.0, 8.0, 12.0, 16.0])


@pytest.mark.parametrize("rounds", [0, 1, 2])
async def test_guest_announces_itself_as_often_as_is_asked_for(
    rounds: int, autojump_clock: MockClock
) -> None:
    guest = Announcer()
    await announce(guest, Parameters(announce_rounds=rounds))
    assert len(guest.at_s) == rounds


@pytest.mark.parametrize("fails_at", [1, 3])
async def test_guest_that_fails_to_announce_itself_is_logged_and_asked_no_more(
    fails_at: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    guest = Announcer(fails_at)
    await announce(guest, Parameters())
    assert len(guest.at_s) == fails_at
    assert "could not announce itself" in caplog.text
    assert "the cable is out" in caplog.text


async def test_announcing_that_is_cancelled_ends_at_once(autojump_clock: MockClock) -> None:
    guest = Announcer()
    with trio.move_on_after(0.3) as scope:
        await announce(guest, Parameters())
    assert scope.cancelled_caught
    assert len(guest.at_s) == 3
