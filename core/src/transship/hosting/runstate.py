"""What a guest's processors do, and why: QEMU's words, and which may follow which."""

from __future__ import annotations

from enum import Enum
from typing import Final

from transship.errors import LocalError


class RunState(Enum):
    """Where a guest is in its life; the values are the words that operators see."""

    PRELAUNCH = "prelaunch"
    """It has not run yet."""
    INMIGRATE = "inmigrate"
    """It waits for a migration, or is being loaded."""
    RUNNING = "running"
    PAUSED = "paused"
    """It stands still, because somebody wanted it to."""
    FINISH_MIGRATE = "finish-migrate"
    """It stands still for the hand-over."""
    POSTMIGRATE = "postmigrate"
    """It has been given up by this side."""


TRANSITIONS: Final[dict[RunState, frozenset[RunState]]] = {
    RunState.PRELAUNCH: frozenset({RunState.RUNNING, RunState.FINISH_MIGRATE}),
    RunState.INMIGRATE: frozenset({RunState.RUNNING, RunState.PAUSED}),
    RunState.RUNNING: frozenset({RunState.PAUSED, RunState.FINISH_MIGRATE}),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.FINISH_MIGRATE}),
    RunState.FINISH_MIGRATE: frozenset(
        {RunState.PRELAUNCH, RunState.RUNNING, RunState.PAUSED, RunState.POSTMIGRATE}
    ),
    RunState.POSTMIGRATE: frozenset({RunState.RUNNING}),
}


def check_transition(before: RunState, after: RunState) -> None:
    """Refuse a transition that is not in the table.

    Raises:
        LocalError: It is not.
    """
    if after not in TRANSITIONS[before]:
        raise LocalError(f"a guest that is {before.value!r} cannot become {after.value!r}")
