"""The tables of the statuses' and the run states' transitions."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from transship.engine.status import TRANSITIONS
from transship.hosting import runstate

from .docstrings import table

if TYPE_CHECKING:
    from collections.abc import Mapping

E = TypeVar("E", bound=Enum)


def text() -> str:
    """Which status may follow which."""
    return _table("status", TRANSITIONS)


def run_states() -> str:
    """Which run state may follow which."""
    return _table("run state", runstate.TRANSITIONS)


def _table(kind: str, transitions: Mapping[E, frozenset[E]]) -> str:
    rows = []
    for state, followers in transitions.items():
        names = [f"`{after.value}`" for after in type(state) if after in followers]
        rows.append([f"`{state.value}`", ", ".join(names) or "nothing: it is final"])
    return table([kind, "may be followed by"], rows)
