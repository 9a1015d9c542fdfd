"""Why the destination failed, as it tells the source: a few facts as JSON, read with suspicion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from transship.wire.constants import ReturnType
from transship.wire.limits import REASON_BYTES
from transship.wire.returnpath import ReturnMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.errors import MigrationError

_FACTS: Final = ("kind", "cause", "phase", "section", "offset", "expected", "found", "hint")
_FACT_CHARACTERS: Final = 400
"""Of one fact; in UTF-8 and escaped one always fits the message, and all of them nearly always."""

_NUMBERS: Final = range(1 << 64)
"""What a number may be: an offset in a stream."""


def reason(error: MigrationError) -> ReturnMessage:
    """The facts of an error as a message; long ones are cut."""
    known = error.facts()
    facts = {name: _cut(known[name]) for name in _FACTS if known.get(name) is not None}
    payload = _encode(facts)
    if len(payload) > REASON_BYTES:
        payload = _encode({"cause": facts["cause"]})
    return ReturnMessage(ReturnType.REASON, payload)


def read_reason(message: ReturnMessage) -> Mapping[str, str | int]:
    """The facts in such a message: known names only, printable, of bounded length.

    Returns:
        At least a ``cause``; nothing at all if the message holds no such thing.
    """
    try:
        facts = json.loads(message.payload)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(facts, dict) or not isinstance(facts.get("cause"), str):
        return {}
    return {
        name: _cut(value)
        for name, value in facts.items()
        if name in _FACTS and (isinstance(value, str) or _is_number(value))
    }


def _encode(facts: Mapping[str, str | int]) -> bytes:
    return json.dumps(facts, ensure_ascii=False).encode()


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _NUMBERS


def _cut(fact: str | int | bool | None) -> str | int:
    if isinstance(fact, int):
        return int(fact)
    printable = "".join(c if c.isprintable() else "?" for c in str(fact)[:_FACT_CHARACTERS])
    return printable if len(str(fact)) <= _FACT_CHARACTERS else f"{printable}..."
