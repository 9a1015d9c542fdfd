"""The grammar of a stream: which record may follow which."""

from __future__ import annotations

from typing import get_args

from transship.wire.events import Event
from transship.wire.grammar import GRAMMAR

from .docstrings import first_sentence, table


def events() -> list[type]:
    """Everything that can appear in a stream."""
    return list(get_args(Event))


def text() -> str:
    """The records, and for each place in a stream what may come there."""
    records = [[f"`{event.__name__}`", first_sentence(event)] for event in events()]
    rows = []
    for place, followers in GRAMMAR.items():
        for event, after in followers.items():
            rows.append([place.value, f"`{event.__name__}`", after.value])
        if not followers:
            rows.append([place.value, "nothing", ""])
    return "\n\n".join(
        [
            "## Records",
            table(["record", "what it is"], records),
            "## Order",
            table(["place", "what may come", "where that leads"], rows),
        ]
    )
