"""Periods between synchronisations: what is counted in which, and when one is long enough."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from transship.abc import LiveCounters
from transship.engine.rates import Period, PeriodMeter

PAGE = 4096


def counters(dirtied_pages: int, sent_bytes: int = 0) -> LiveCounters:
    return LiveCounters(dirtied_pages=dirtied_pages, sent_bytes=sent_bytes, page_size=PAGE)


@pytest.mark.seed("S29")
def test_period_says_what_was_dirtied_and_sent_in_it_and_how_fast() -> None:
    meter = PeriodMeter(100.0)
    period = meter.synced(102.0, counters(30, 50_000), {})
    assert period is not None
    assert (period.elapsed_s, period.transferred_bytes) == (2.0, 50_000)
    assert (period.dirtied_pages, period.dirtied_bytes) == (30, 30 * PAGE)
    assert period.dirtied_pages_per_s == pytest.approx(15.0)


@pytest.mark.parametrize(("elapsed_s", "is_period"), [(0.5, False), (1.0, False), (1.001, True)])
def test_period_lasts_longer_than_a_second(elapsed_s: float, is_period: bool) -> None:
    meter = PeriodMeter(0.0)
    assert (meter.synced(elapsed_s, counters(1), {}) is not None) is is_period


def test_synchronisations_within_a_second_count_for_the_period_they_are_in() -> None:
    meter = PeriodMeter(0.0)
    assert meter.synced(0.4, counters(10, 1000), {}) is None
    assert meter.synced(0.8, counters(20, 2000), {}) is None
    period = meter.synced(1.6, counters(24, 3000), {})
    assert period is not None
    assert (period.dirtied_pages, period.transferred_bytes) == (24, 3000)
    following = meter.synced(3.6, counters(25, 3500), {})
    assert following is not None
    assert (following.dirtied_pages, following.transferred_bytes) == (1, 500)
    assert following.elapsed_s == pytest.approx(2.0)


def test_growth_of_any_counter_that_is_reported_can_be_asked_for() -> None:
    meter = PeriodMeter(0.0)
    meter.synced(2.0, counters(0), {"ram": {"xbzrle_cache_miss": 7}})
    period = meter.synced(4.0, counters(0), {"ram": {"xbzrle_cache_miss": 19}})
    assert period is not None
    assert period.grown("ram", "xbzrle_cache_miss") == 12
    assert period.grown("ram", "unheard of") == 0
    assert period.grown("block", "xbzrle_cache_miss") == 0


@pytest.mark.seed("S13")
def test_before_the_first_period_nothing_is_known() -> None:
    nothing = Period()
    assert nothing.dirtied_pages_per_s == 0.0
    assert nothing.dirtied_bytes == 0
    assert nothing.grown("ram", "normal") == 0


@given(
    st.lists(
        st.tuples(st.floats(0.01, 5.0), st.integers(0, 1 << 20), st.integers(0, 1 << 30)),
        max_size=40,
    )
)
def test_no_page_and_no_byte_is_counted_twice_or_lost(
    steps: list[tuple[float, int, int]],
) -> None:
    meter = PeriodMeter(0.0)
    now_s, pages, sent, counted_pages, counted_bytes, counted_s = 0.0, 0, 0, 0, 0, 0.0
    last = (0.0, 0, 0)
    for elapsed_s, dirtied, transferred in steps:
        now_s, pages, sent = now_s + elapsed_s, pages + dirtied, sent + transferred
        period = meter.synced(now_s, counters(pages, sent), {})
        if period is not None:
            counted_pages += period.dirtied_pages
            counted_bytes += period.transferred_bytes
            counted_s += period.elapsed_s
            last = (now_s, pages, sent)
            assert period.elapsed_s > 1.0
    assert (counted_pages, counted_bytes) == last[1:]
    assert counted_s == pytest.approx(last[0])
