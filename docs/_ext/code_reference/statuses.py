"""The table of the statuses' transitions."""

from __future__ import annotations

from transship.engine.status import TRANSITIONS, MigrationStatus

from .docstrings import table


def text() -> str:
    """Which status may follow which."""
    rows = []
    for status in MigrationStatus:
        followers = [
            f"`{after.value}`" for after in MigrationStatus if after in TRANSITIONS[status]
        ]
        rows.append([f"`{status.value}`", ", ".join(followers) or "nothing: it is final"])
    return table(["status", "may be followed by"], rows)
