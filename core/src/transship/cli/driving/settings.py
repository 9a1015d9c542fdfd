"""Capabilities and parameters as people write them, and as QMP wants them. Asks nobody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from transship.units import parse_rate, parse_size, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Value = bool | int | str

MAX_BANDWIDTH: Final = "max-bandwidth"
DOWNTIME_LIMIT: Final = "downtime-limit"

_SWITCHES: Final = {"on": True, "true": True, "off": False, "false": False}


def milliseconds(seconds: float) -> int:
    """Round a time to QMP's unit.

    Raises:
        ValueError: Nothing would remain of it.
    """
    rounded = round(seconds * 1000)
    if seconds and not rounded:
        raise ValueError(f"{seconds:g} s is less than a millisecond")
    return rounded


def _parse_milliseconds(text: str) -> int:
    return milliseconds(parse_time(text))


_UNITS: Final[dict[str, Callable[[str], int]]] = {
    DOWNTIME_LIMIT: _parse_milliseconds,
    "announce-initial": _parse_milliseconds,
    "announce-max": _parse_milliseconds,
    "announce-step": _parse_milliseconds,
    "x-checkpoint-delay": _parse_milliseconds,
    "x-vcpu-dirty-limit-period": _parse_milliseconds,
    MAX_BANDWIDTH: parse_rate,
    "avail-switchover-bandwidth": parse_rate,
    "max-postcopy-bandwidth": parse_rate,
    "xbzrle-cache-size": parse_size,
}
"""Parameters that are a time, a rate or a size. A number alone is in QMP's unit, as everywhere."""

_WORDS: Final = frozenset(
    {"mode", "multifd-compression", "tls-authz", "tls-creds", "tls-hostname", "zero-page-detection"}
)
"""Parameters that are text, also where it looks like a number or a switch."""


def parse_parameters(settings: Iterable[str]) -> dict[str, Value]:
    """Read ``NAME=VALUE``, several times.

    Raises:
        ValueError: One is not of this form, is there twice, or has a value that is none.
    """
    parsed: dict[str, Value] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"{setting!r} sets nothing; write NAME=VALUE")
        if name in parsed:
            raise ValueError(f"{name} is set twice")
        parsed[name] = _value(name, value)
    return parsed


def parse_capabilities(settings: Iterable[str]) -> dict[str, bool]:
    """Read ``NAME``, ``NAME=on`` or ``NAME=off``, several times.

    Raises:
        ValueError: One is not of this form, or is there twice.
    """
    parsed: dict[str, bool] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        state = _SWITCHES.get(value.lower()) if equals else True
        if not name or state is None:
            raise ValueError(f"{setting!r} switches nothing; write NAME, NAME=on or NAME=off")
        if name in parsed:
            raise ValueError(f"{name} is switched twice")
        parsed[name] = state
    return parsed


def _value(name: str, text: str) -> Value:
    if name in _WORDS:
        return text
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if name in _UNITS:
        try:
            return _UNITS[name](text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return _SWITCHES.get(text.lower(), text)
