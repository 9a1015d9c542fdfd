"""The life of a guest as a table: which run state may follow which."""

from __future__ import annotations

import pytest

from transship.errors import LocalError
from transship.hosting.runstate import TRANSITIONS, RunState, check_transition


def test_words_are_those_of_qemu() -> None:
    assert {state.value for state in RunState} == {
        "prelaunch",
        "inmigrate",
        "running",
        "paused",
        "finish-migrate",
        "postmigrate",
    }


def test_table_knows_every_run_state_and_none_follows_itself() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert all(state not in after for state, after in TRANSITIONS.items())


def test_guest_is_born_once() -> None:
    assert not any(RunState.INMIGRATE in after for after in TRANSITIONS.values())
    unborn = {state for state, after in TRANSITIONS.items() if RunState.PRELAUNCH in after}
    assert unborn == {RunState.FINISH_MIGRATE}  # it had not run, and was not given up after all


def test_every_run_state_can_be_left_and_reached() -> None:
    assert all(TRANSITIONS.values())
    reached = frozenset().union(*TRANSITIONS.values())
    assert reached == set(RunState) - {RunState.INMIGRATE}


@pytest.mark.seed("S56")
def test_guest_is_handed_over_from_wherever_it_is_ours() -> None:
    before = {state for state, after in TRANSITIONS.items() if RunState.FINISH_MIGRATE in after}
    assert before == {RunState.PRELAUNCH, RunState.PAUSED, RunState.RUNNING}


@pytest.mark.seed("S62")
def test_guest_is_given_up_only_at_the_hand_over() -> None:
    before = {state for state, after in TRANSITIONS.items() if RunState.POSTMIGRATE in after}
    assert before == {RunState.FINISH_MIGRATE}


@pytest.mark.parametrize("before", RunState)
@pytest.mark.parametrize("after", RunState)
def test_transition_that_is_not_in_the_table_is_refused(before: RunState, after: RunState) -> None:
    if after in TRANSITIONS[before]:
        check_transition(before, after)
    else:
        with pytest.raises(LocalError, match=f"{before.value!r} cannot become {after.value!r}"):
            check_transition(before, after)
