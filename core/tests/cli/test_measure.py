"""Measurements do not jump where the migration does not."""

from __future__ import annotations

import pytest

from transship.cli.progress.measure import Look, Measurements, Meter

MIB = 1 << 20


def look(at_s: float, **facts: float) -> Look:
    return Look(at_s, **{"status": "active", "total_bytes": 100 * MIB, **facts})  # type: ignore[arg-type]


def measured(*looks: Look) -> Measurements:
    meter = Meter()
    return [meter.measure(one) for one in looks][-1]


def test_first_look_has_the_rate_of_the_peer() -> None:
    now = measured(look(0.0, send_rate_bytes_per_s=7.0, passes=1))
    assert now.send_rate_bytes_per_s == 7
    assert measured(look(0.0, passes=1)).send_rate_bytes_per_s is None


def test_rates_are_measured_over_the_last_seconds() -> None:
    looks = [
        look(t / 5, transferred_bytes=t * MIB, remaining_bytes=(99 - 2 * t) * MIB, passes=1)
        for t in range(40)
    ]
    now = measured(*looks)
    assert now.send_rate_bytes_per_s == pytest.approx(5 * MIB)
    assert now.pass_rate_bytes_per_s == pytest.approx(10 * MIB)


def test_send_rate_after_the_first_pass_is_not_that_of_the_first_pass() -> None:
    # Memory that holds nothing is passed quickly and without bytes.
    first = [look(t / 5, transferred_bytes=t, passes=1) for t in range(10)]
    later = [look(2 + t / 5, transferred_bytes=10 + t * MIB, passes=2) for t in range(5)]
    assert measured(*first, *later).send_rate_bytes_per_s == pytest.approx(5 * MIB)


def test_time_in_which_nothing_is_sent_is_counted() -> None:
    assert measured(look(0.0), look(1.0, transferred_bytes=1)).idle_s == 0
    assert measured(look(0.0, transferred_bytes=1), look(7.0, transferred_bytes=1)).idle_s == 7


def test_what_a_pass_has_to_send_does_not_shrink_within_it() -> None:
    looks = [
        look(10.0, passes=2, remaining_bytes=40 * MIB),
        look(15.0, passes=2, remaining_bytes=10 * MIB),
    ]
    assert measured(*looks).left_bytes == 40 * MIB
    assert measured(*looks, look(17.0, passes=3, remaining_bytes=20 * MIB)).left_bytes == 20 * MIB


def test_passes_shorter_than_looks_do_not_flicker() -> None:
    lefts = [40, 10, 39, 9, 40, 11]
    looks = [
        look(10 + n / 5, passes=2 + n, remaining_bytes=left * MIB) for n, left in enumerate(lefts)
    ]
    assert measured(*looks).left_bytes == 40 * MIB


def test_dirty_rate_of_the_first_pass_is_unknown_whatever_the_peer_says() -> None:
    assert measured(look(0.0, passes=1, dirty_rate_bytes_per_s=0)).dirty_rate_bytes_per_s is None


def test_dirty_rate_that_the_peer_does_not_know_is_unknown() -> None:
    assert measured(look(0.0, passes=2, dirty_rate_bytes_per_s=0)).dirty_rate_bytes_per_s is None


def test_passes_that_do_not_become_smaller_correct_a_rate_that_is_too_low() -> None:
    looks = [
        look(
            10 + n,
            passes=2 + n,
            remaining_bytes=40 * MIB,
            transferred_bytes=40 * MIB * n,
            dirty_rate_bytes_per_s=MIB,
        )
        for n in range(4)
    ]
    assert measured(*looks[:2]).dirty_rate_bytes_per_s == MIB
    assert measured(*looks).dirty_rate_bytes_per_s == pytest.approx(40 * MIB)


def test_first_pass_is_between_nothing_and_all() -> None:
    assert measured(look(0.0, total_bytes=0)).first_pass == 0
    assert measured(look(0.0, passes=1, remaining_bytes=25 * MIB)).first_pass == 0.75
    assert measured(look(0.0, passes=1, remaining_bytes=125 * MIB)).first_pass == 0
    assert measured(look(0.0, passes=2, remaining_bytes=25 * MIB)).first_pass == 1
