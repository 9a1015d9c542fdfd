"""Auto-converge as decisions: when a guest is slowed down, and by how much."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, strategies as st

from transship.abc.settings import Parameters
from transship.engine.rates import Period
from transship.engine.throttle import Throttle

PAGE = 4096
PARAMETERS = Parameters()


def period(dirtied_pages: int, transferred_pages: int) -> Period:
    return Period(
        elapsed_s=1.5,
        transferred_bytes=transferred_pages * PAGE,
        dirtied_pages=dirtied_pages,
        page_size=PAGE,
    )


TOO_FAST = period(51, 100)
SLOW_ENOUGH = period(50, 100)


def judged(throttle: Throttle, *periods: Period, parameters: Parameters = PARAMETERS) -> list[int]:
    percents = []
    for one in periods:
        before = throttle.percent
        assert throttle.judge(one, 0, parameters) is (throttle.percent != before)
        percents.append(throttle.percent)
    return percents


@pytest.mark.seed("S52")
def test_guest_is_slowed_down_at_every_second_period_in_which_it_is_too_fast() -> None:
    assert judged(Throttle(), *[TOO_FAST] * 7) == [0, 20, 20, 30, 30, 40, 40]


def test_guest_that_is_slow_enough_is_left_alone() -> None:
    assert judged(Throttle(), *[SLOW_ENOUGH] * 5) == [0] * 5


def test_periods_in_which_it_is_too_fast_need_not_follow_each_other() -> None:
    assert judged(Throttle(), TOO_FAST, SLOW_ENOUGH, SLOW_ENOUGH, TOO_FAST) == [0, 0, 0, 20]


def test_guest_that_was_slowed_down_stays_slow_when_it_keeps_to_the_limit() -> None:
    throttle = Throttle()
    assert judged(throttle, TOO_FAST, TOO_FAST, *[SLOW_ENOUGH] * 4)[-1] == 20


def test_period_in_which_nothing_was_dirtied_is_never_too_fast() -> None:
    assert judged(Throttle(), *[period(0, 0)] * 4) == [0] * 4


def test_period_in_which_nothing_was_sent_is_too_fast_with_a_single_page() -> None:
    assert judged(Throttle(), *[period(1, 0)] * 2) == [0, 20]


def test_threshold_of_what_may_be_dirtied_is_the_operators() -> None:
    strict = dataclasses.replace(PARAMETERS, throttle_trigger_percent=10)
    assert judged(Throttle(), *[period(11, 100)] * 2, parameters=strict) == [0, 20]
    assert judged(Throttle(), *[period(10, 100)] * 2, parameters=strict) == [0, 0]


def test_first_step_growth_and_end_are_the_operators() -> None:
    own = Parameters(
        throttle_initial_percent=45, throttle_increment_percent=20, throttle_max_percent=80
    )
    assert judged(Throttle(), *[TOO_FAST] * 8, parameters=own) == [0, 45, 45, 65, 65, 80, 80, 80]


def test_first_step_is_never_beyond_the_end() -> None:
    own = Parameters(throttle_initial_percent=90, throttle_max_percent=50)
    assert judged(Throttle(), *[TOO_FAST] * 4, parameters=own) == [0, 50, 50, 50]


def test_change_of_the_end_while_throttled_holds_at_the_next_step() -> None:
    throttle = Throttle()
    judged(throttle, *[TOO_FAST] * 8)
    assert throttle.percent == 50
    lower = dataclasses.replace(PARAMETERS, throttle_max_percent=30)
    assert judged(throttle, TOO_FAST, TOO_FAST, parameters=lower) == [50, 30]


@pytest.mark.parametrize(
    ("threshold_pages", "percent"),
    [
        (0, 30),  # far away: the whole step
        (94, 26),  # of 80 % that it runs, int(80 * 94 / 101) = 74 would do: 6 less
        (101, 20),  # what it dirties fits as it is
        (500, 20),
    ],
)
def test_near_the_end_a_guest_is_slowed_down_by_no_more_than_is_needed(
    threshold_pages: int, percent: int
) -> None:
    throttle = Throttle()
    judged(throttle, TOO_FAST, TOO_FAST)
    own = dataclasses.replace(PARAMETERS, throttle_tailslow=True)
    dirty = period(101, 100)
    throttle.judge(dirty, threshold_pages * PAGE, own)
    throttle.judge(dirty, threshold_pages * PAGE, own)
    assert throttle.percent == percent


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=60),
    st.integers(1, 99),
    st.integers(1, 10),
    st.integers(1, 99),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_throttle_only_grows_and_never_stops_a_guest(
    history: list[tuple[int, int]],
    initial: int,
    increment: int,
    most: int,
    tailslow: bool,
    threshold_bytes: int,
) -> None:
    parameters = Parameters(
        throttle_initial_percent=initial,
        throttle_increment_percent=increment,
        throttle_max_percent=most,
        throttle_tailslow=tailslow,
    )
    throttle = Throttle()
    for dirtied, transferred in history:
        before = throttle.percent
        throttle.judge(period(dirtied, transferred), threshold_bytes, parameters)
        assert before <= throttle.percent <= most
        assert throttle.percent - before <= max(initial, increment)
