"""Values as the human monitor reads them: sizes with an implied unit, numbers, on or off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from transship.control.commands.parameters import PARAMETERS
from transship.control.errors import generic

if TYPE_CHECKING:
    from collections.abc import Mapping

_SIZE: Final = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?)([bBkKmMgGtTpPeE]?)")
_NUMBER: Final = re.compile(r"[0-9]+")
_POWERS: Final = "bkmgtpe"
_TOP: Final = (1 << 64) - 1
_YES_OR_NO: Final[Mapping[str, bool]] = {
    "on": True,
    "yes": True,
    "true": True,
    "off": False,
    "no": False,
    "false": False,
}

_IMPLIED: Final[Mapping[str, str]] = {"bytes/s": "m", "bytes": "b"}
"""The unit of a bare number: rates are in MiB a second, whatever else is in bytes."""


def size(text: str, implied: str) -> int:
    """A size in bytes, such as ``64M``; every unit is a power of 1024.

    Args:
        text: As typed.
        implied: The unit of a bare number.

    Raises:
        CommandError: It is none, or has more than 64 bits.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise generic(f"Invalid size {text}")
    number, unit = found.groups()
    scale = 1024 ** _POWERS.index((unit or implied).lower())
    value = int(number, 16) * scale if number[:2].lower() == "0x" else int(float(number) * scale)
    if value > _TOP:
        raise generic(f"Invalid size {text}")
    return value


def number(text: str) -> int:
    """A whole number, not negative.

    Raises:
        CommandError: It is none.
    """
    if not _NUMBER.fullmatch(text):
        raise generic(f"{text!r} is not a whole number")
    return int(text)


def parameter(name: str, text: str) -> int | bool | str:
    """The value of a parameter, in its own unit.

    Raises:
        CommandError: There is no such parameter, or the text is no value of it.
    """
    if name not in PARAMETERS:
        raise generic(f"invalid parameter value: {name}")
    unit = PARAMETERS[name].unit
    if unit in _IMPLIED:
        return size(text, _IMPLIED[unit])
    if unit == "name":
        return text
    if unit == "":
        if text not in _YES_OR_NO:
            raise generic(f"parameter {name!r} expects 'on' or 'off'")
        return _YES_OR_NO[text]
    return number(text)
