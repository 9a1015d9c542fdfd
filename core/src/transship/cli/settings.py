"""Capabilities and parameters as people write them, and as QMP wants them. Asks nobody."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError
from transship.units import parse_rate, parse_size, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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


_READERS: Final[Mapping[str, Callable[[str], int]]] = {
    "ms": _parse_milliseconds,
    "bytes/s": parse_rate,
    "bytes": parse_size,
}
"""How people write a value, by QMP's unit. A number alone is in that unit, as everywhere."""

_NAME: Final = "name"
"""Unit of what is a name, also where it looks like a number or a switch."""

_QEMUS_OWN: Final[Mapping[str, str]] = {
    "max-postcopy-bandwidth": "bytes/s",
    "mode": _NAME,
    "x-checkpoint-delay": "ms",
    "x-vcpu-dirty-limit-period": "ms",
    "zero-page-detection": _NAME,
}
"""Units of the parameters that a QEMU has and we do not."""


@cache
def _units() -> Mapping[str, str]:
    """Units of all parameters; ours are where they are defined, which is not loaded for help."""
    from transship.control.commands.parameters import PARAMETERS

    return {**_QEMUS_OWN, **{name: one.unit for name, one in PARAMETERS.items()}}


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


def check_encrypts(asked: Mapping[str, Value], creds: object) -> None:
    """Refuse to ask for what TLS does where there is none: whoever does so takes it for encrypted.

    Args:
        asked: Parameters that an operator sets.
        creds: What ``tls-creds`` is then.

    Raises:
        BlockedError: One of them is of TLS, and there are no credentials.
    """
    for name in ("tls-hostname", "tls-authz"):
        if asked.get(name) and not creds:
            raise BlockedError(
                f"parameter {name!r} has no effect without 'tls-creds'",
                hint="nothing would be encrypted: set tls-creds too",
            )


def _value(name: str, text: str) -> Value:
    unit = _units().get(name, "")
    if unit == _NAME:
        return text
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if (read := _READERS.get(unit)) is not None:
        try:
            return read(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return _SWITCHES.get(text.lower(), text)
