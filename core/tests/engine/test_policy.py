"""Decisions of the control loop."""

from __future__ import annotations

import pytest

from transship.engine.pacing import Pacer
from transship.engine.policy import Decision, decide, threshold_bytes
from transship.engine.status import TRANSITIONS, MigrationStatus, check_transition
from transship.errors import LocalError


def test_threshold_is_what_the_channel_carries_within_the_downtime_limit() -> None:
    assert threshold_bytes(1_000_000_000, 0.3) == 300_000_000


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
    assert decide(pending, threshold, exact=exact) is decision


def test_pacer_keeps_to_its_cap_also_with_segments_larger_than_a_slice() -> None:
    pacer = Pacer(1_000_000, now_s=0.0)
    now_s = 0.0
    while now_s < 60:
        now_s += pacer.pause_s(now_s)
        pacer.tick(now_s)
        if pacer.budget_bytes() > 0:
            pacer.sent(1_000_000)
    assert pacer.sent_bytes <= 1_000_000 * 62


def test_pacer_measures_the_last_whole_slice() -> None:
    pacer = Pacer(0, now_s=10.0)
    pacer.sent(500)
    assert not pacer.tick(10.05)
    assert pacer.bandwidth_bytes_per_s == 0
    assert pacer.tick(10.1)
    assert pacer.bandwidth_bytes_per_s == pytest.approx(5000)


def test_pacer_without_a_cap_never_sleeps() -> None:
    pacer = Pacer(0, now_s=0.0)
    pacer.sent(1 << 40)
    assert pacer.pause_s(0.0) == 0


def test_final_statuses_are_those_that_nothing_follows() -> None:
    final = {status for status in MigrationStatus if status.is_final}
    assert final == {
        MigrationStatus.COMPLETED,
        MigrationStatus.FAILED,
        MigrationStatus.CANCELLED,
    }
    assert set(TRANSITIONS) == set(MigrationStatus)


def test_transition_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(LocalError, match="cannot become"):
        check_transition(MigrationStatus.COMPLETED, MigrationStatus.ACTIVE)
