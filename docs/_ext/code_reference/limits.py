"""The limits of a stream, with their reasons."""

from __future__ import annotations

from typing import Final

from transship.units import format_size
from transship.wire import limits

from .docstrings import below_assignments, table

UNITS: Final = frozenset({"KIB", "MIB", "TIB"})
"""Numbers with which the others are written; they limit nothing."""


def reasons() -> dict[str, str]:
    """Each limit, and what it bounds and why."""
    return {name: reason for name, reason in below_assignments(limits).items() if name not in UNITS}


def text() -> str:
    """All limits as one table."""
    rows = [
        [f"`{name}`", _value(name, getattr(limits, name)), " ".join(reason.split())]
        for name, reason in reasons().items()
    ]
    return table(["limit", "value", "what it bounds, and why"], rows)


def _value(name: str, value: int) -> str:
    if name.endswith("_BYTES") and value % limits.KIB == 0:
        return format_size(value).replace(".00", "").replace(".0 ", " ")
    unit = " bytes" if name.endswith("_BYTES") else ""
    return f"{value:,}{unit}".replace(",", " ")
