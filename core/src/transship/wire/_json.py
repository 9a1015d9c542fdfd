"""JSON as the stream's description has it: keys in order, some of them twice.

Text in the form that QEMU writes comes back byte for byte from :func:`serialise`. Only whole
numbers are read; QEMU writes no others.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, TypeAlias

from transship.wire.limits import DESCRIPTION_DEPTH, DESCRIPTION_VALUES

if TYPE_CHECKING:
    from collections.abc import Sequence

Value: TypeAlias = "str | int | bool | Object | Sequence[Value] | None"


class Object(tuple[tuple[str, "Value"], ...]):
    """A JSON object: pairs of key and value. Reading a key gives its first value."""

    __slots__ = ()

    def get(self, key: str) -> Value:
        """The value under a key; None if there is none."""
        return next((value for name, value in self if name == key), None)

    def text(self, key: str) -> str:
        """The text under a key.

        Raises:
            ValueError: There is none.
        """
        value = self.get(key)
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"{key!r} is no text: {value!r}")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        """The number under a key, from 0 and of 32 bits; ``default`` if it is absent.

        Raises:
            ValueError: There is none.
        """
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
            raise ValueError(f"{key!r} is no number from 0, or too large: {value!r}")
        return value

    def objects(self, key: str) -> list[Object]:
        """The objects in the list under a key; none if it is absent.

        Raises:
            ValueError: Something else is there.
        """
        values = self.get(key)
        if values is None:
            return []
        if not isinstance(values, list):
            raise ValueError(f"{key!r} is no list")
        objects = [value for value in values if isinstance(value, Object)]
        if len(objects) != len(values):
            raise ValueError(f"something in {key!r} is no object")
        return objects


def serialise(value: Value) -> str:
    """The JSON text, with ``", "`` and ``": "`` between things."""
    if isinstance(value, Object):
        pairs = (f"{json.dumps(key)}: {serialise(one)}" for key, one in value)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(serialise, value)) + "]"
    return json.dumps(value)


def parse(text: str) -> Value:
    """Read a JSON text.

    Raises:
        ValueError: It is none, or it is too large or too deep.
    """
    _check_limits(text)
    value: Value = _DECODER.decode(text)
    return value


def _check_limits(text: str) -> None:
    """Refuse what would cost too much memory or recursion, before anything is built."""
    if sum(map(text.count, ",[{")) >= DESCRIPTION_VALUES:
        raise ValueError(f"more than {DESCRIPTION_VALUES} values")
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DESCRIPTION_DEPTH:
            raise ValueError(f"nested more than {DESCRIPTION_DEPTH} deep")


def _integer(digits: str) -> int:
    if len(digits) > 20 or digits == "-0":
        raise ValueError(f"no number that QEMU writes: {digits[:20]}")
    return int(digits)


def _no_integer(digits: str) -> int:
    raise ValueError(f"no whole number: {digits[:20]}")


# Also matches a string without end: a pattern that fails there would be tried from each quote.
_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=Object,
    parse_int=_integer,
    parse_float=_no_integer,
    parse_constant=_no_integer,
)
