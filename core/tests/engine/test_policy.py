"""Decisions of the control loop."""

from __future__ import annotations

import pytest

from transship.abc import Pending
from transship.engine.pacing import Pacer
from transship.engine.policy import Decision, decide, threshold_bytes
from transship.engine.status import TRANSITIONS, MigrationStatus, check_transition
from transship.errors import LocalError


@pytest.mark.seed("S60")
def test_threshold_is_what_the_channel_carries_within_the_downtime_limit() -> None:
    assert threshold_bytes(1_000_000_000, 0.3) == 300_000_000


@pytest.mark.seed("S17", "S55")
@pytest.mark.parametrize(
    ("pending", "threshold", "exact", "decision"),
    [
        (1, 0, False, Decision.ITERATE),
        (1, 0, True, Decision.ITERATE),
        (100, 100, True, Decision.ITERATE),
        (99, 100, False, Decision.SYNC),
        (99, 100, True, Decision.SWITCH_OVER),
        (0, 0, False, Decision.SYNC),
        (0, 0, True, Decision.SWITCH_OVER),
    ],
)
def test_loop_switches_over_only_on_an_exact_figure_below_the_threshold(
    pending: int, threshold: int, exact: bool, decision: Decision
) -> None:
    assert decide(Pending(pending), threshold, exact=exact) is decision


def test_loop_does_not_switch_over_while_a_section_must_go_on() -> None:
    first_copy = Pending(1, must_go_on=True) + Pending(0)
    assert decide(first_copy, 1 << 40, exact=True) is Decision.ITERATE


@pytest.mark.seed("S61")
def test_pacer_keeps_to_its_cap_also_with_segments_larger_than_a_slice() -> None:
    pacer = Pacer(1_000_000, now_s=0.0)
    now_s = 0.0
    while now_s < 60:
        now_s += pacer.pause_s(now_s)
        pacer.tick(now_s)
        if pacer.budget_bytes() > 0:
            pacer.sent(1_000_000)
    assert pacer.sent_bytes <= 1_000_000 * 62


@pytest.mark.seed("S9", "S60")
def test_pacer_measures_the_last_whole_slice() -> None:
    pacer = Pacer(0, now_s=10.0)
    pacer.sent(500)
    assert not pacer.tick(10.05)
    assert pacer.bandwidth_bytes_per_s == 0
    assert pacer.tick(10.1)
    assert pacer.bandwidth_bytes_per_s == pytest.approx(5000)


@pytest.mark.seed("S16")
def test_pacer_without_a_cap_never_sleeps() -> None:
    pacer = Pacer(0, now_s=0.0)
    pacer.sent(1 << 40)
    assert pacer.pause_s(0.0) == 0


@pytest.mark.seed("S46", "S47")
def test_final_statuses_are_those_that_nothing_follows() -> None:
    final = {status for status in MigrationStatus if status.is_final}
    assert final == {
        MigrationStatus.COMPLETED,
        MigrationStatus.FAILED,
        MigrationStatus.CANCELLED,
    }
    assert set(TRANSITIONS) == set(MigrationStatus)


@pytest.mark.seed("S40")
def test_transition_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(LocalError, match="cannot become"):
        check_transition(MigrationStatus.COMPLETED, MigrationStatus.ACTIVE)


# A cap that is changed.


def spent(pacer: Pacer, start_s: float, end_s: float, segment_bytes: int) -> int:
    """Send segments as the cap allows, from one time to another. Returns how much was sent."""
    before, now_s = pacer.sent_bytes, start_s
    while now_s < end_s - 1e-6:
        pacer.tick(now_s)
        if pacer.budget_bytes() > 0:
            pacer.sent(segment_bytes)
            now_s += 1e-4
        else:
            now_s += max(pacer.pause_s(now_s), 1e-4)
    return pacer.sent_bytes - before


@pytest.mark.seed("S25")
@pytest.mark.parametrize("segment_bytes", [1_000, 200_000])
def test_cap_that_is_lowered_holds_from_the_next_slice_on(segment_bytes: int) -> None:
    pacer = Pacer(10_000_000, now_s=0.0)
    spent(pacer, 0.0, 5.0, segment_bytes)
    pacer.cap_bytes_per_s = 1_000_000
    slow = spent(pacer, 5.0, 9.0, segment_bytes)
    assert slow == pytest.approx(4_000_000, abs=2 * segment_bytes + 100_000)


@pytest.mark.seed("S25")
@pytest.mark.parametrize("cap", [1, 1_000, 1_000_000])
def test_cap_that_is_raised_holds_from_the_next_slice_on(cap: int) -> None:
    pacer = Pacer(cap, now_s=0.0)
    spent(pacer, 0.0, 3.0, 200_000)
    pacer.cap_bytes_per_s = 10_000_000
    assert spent(pacer, 3.0, 4.0, 200_000) == pytest.approx(10_000_000, rel=0.12)


@pytest.mark.seed("S25")
def test_what_was_sent_without_a_cap_is_not_owed_under_one() -> None:
    pacer = Pacer(0, now_s=0.0)
    for tenth in range(600):
        pacer.sent(100_000_000)
        pacer.tick(tenth / 10)
    pacer.cap_bytes_per_s = 1_000_000
    assert spent(pacer, 60.0, 61.0, 10_000) == pytest.approx(1_000_000, rel=0.12)


def test_smallest_cap_lets_something_through() -> None:
    pacer = Pacer(1, now_s=0.0)
    assert spent(pacer, 0.0, 10.0, 4096) == 4096


def test_bandwidth_of_a_cap_that_needs_several_slices_for_a_segment_is_the_cap() -> None:
    pacer = Pacer(10_000, now_s=0.0)
    spent(pacer, 0.0, 5.0, 4096)
    measured = []
    for step in range(500, 1000):
        spent(pacer, step / 100, (step + 1) / 100, 4096)
        measured.append(pacer.bandwidth_bytes_per_s)
    assert min(measured) > 8_000
    assert max(measured) < 12_000


def test_slices_under_another_cap_are_not_relied_on() -> None:
    pacer = Pacer(1000, now_s=0.0)
    now_s = 0.0
    for sent in (100, 100, 100, 1_000_000, 1_000_000):
        pacer.cap_bytes_per_s = 1000 if sent == 100 else 0
        pacer.sent(sent)
        now_s += 0.1
        pacer.tick(now_s)
    assert pacer.cautious_bandwidth_bytes_per_s == pytest.approx(10_000_000)
