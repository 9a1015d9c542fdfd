"""A processor that is slowed down: the share of its time that is withheld is really withheld."""

from __future__ import annotations

import time

import pytest

from transship.guests.synthetic import SyntheticGuest
from transship.guests.ticker import Ticker

MS = 1_000_000


class Work:
    """What a ticker calls: takes its time, and notes how much."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self.calls = 0
        self.worked_s = 0.0

    def __call__(self) -> None:
        began_s = time.monotonic()
        if self._takes_s:
            time.sleep(self._takes_s)
        self.calls += 1
        self.worked_s += time.monotonic() - began_s


def run_for(ticker: Ticker, period_ns: int, seconds: float) -> float:
    """Returns how long it really ran."""
    began_s = time.monotonic()
    ticker.start(period_ns)
    time.sleep(seconds)
    ticker.stop()
    return time.monotonic() - began_s


@pytest.mark.parametrize("percent", [50, 80, 95])
def test_idle_processor_ticks_as_much_more_slowly_as_it_is_told(percent: int) -> None:
    work = Work(0.0)
    ticker = Ticker(work)
    ticker.withheld_percent = percent
    ran_s = run_for(ticker, 5 * MS, 1.0)
    assert work.calls <= ran_s * 200 * (100 - percent) / 100 + 2


def test_processor_that_cannot_keep_up_is_slowed_down_as_well() -> None:
    """Ten milliseconds of work are due each millisecond: it works all the time, unless kept off."""
    work = Work(0.010)
    ticker = Ticker(work)
    ticker.withheld_percent = 80
    ran_s = run_for(ticker, MS, 1.0)
    assert ticker.failure is None
    assert work.calls >= 2
    assert work.worked_s <= ran_s * 0.2 + 2 * 0.010 + 0.05


def test_processor_that_is_let_go_makes_up_for_nothing() -> None:
    work = Work(0.0)
    ticker = Ticker(work)
    ticker.withheld_percent = 95
    run_for(ticker, 10 * MS, 0.5)
    before = work.calls
    ticker.withheld_percent = 0
    ran_s = run_for(ticker, 10 * MS, 0.5)
    assert work.calls - before <= ran_s * 100 + 12


def test_processor_that_is_almost_stopped_can_be_stopped_at_once() -> None:
    ticker = Ticker(Work(0.0))
    ticker.withheld_percent = 99
    ticker.start(50 * MS)
    time.sleep(0.05)
    began_s = time.monotonic()
    ticker.stop()
    assert time.monotonic() - began_s < 1.0


async def test_guest_can_be_slowed_down_and_let_go() -> None:
    with SyntheticGuest(1 << 20, tick_s=0.002) as guest:
        assert guest.can_throttle
        guest.throttle(90)
        await guest.resume()
        time.sleep(0.5)  # noqa: ASYNC251 - nothing else runs here
        await guest.pause()
        slow = guest.counter
        assert slow <= 60
        guest.throttle(0)
        await guest.resume()
        time.sleep(0.5)  # noqa: ASYNC251
        await guest.pause()
        assert guest.counter - slow > slow
        assert guest.verify().ok
