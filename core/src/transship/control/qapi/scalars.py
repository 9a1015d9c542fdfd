"""QAPI's types without members: what each accepts from JSON.

A type's ``check`` turns a JSON value into the Python value that a command gets, or raises a
:class:`CommandError` that names the position: ``channels[0].addr.offset``. msgspec's own conversion
is not enough for that: its bounds end at 63 bits, and its unions have a single discriminator. How a
type is written as an annotation says :mod:`transship.control.qapi.declaring`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.control.errors import generic
from transship.control.qapi.refusals import KINDS, named, quoted, unknown_name, wrong_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_INT64_LOWEST: Final = -(1 << 63)


class Feature(enum.Enum):
    """What a client may want to know before it uses a command."""

    DEPRECATED = "deprecated"


class Type(ABC):
    """One type of QAPI."""

    @abstractmethod
    def check(self, value: object, place: str) -> object:
        """The Python value of a JSON value.

        Args:
            value: What the client sent, as Python's JSON has it.
            place: Where, for the refusal.

        Raises:
            CommandError: The value is not of this type.
        """


@dataclass(frozen=True, slots=True)
class Scalar(Type):
    """A type with one kind of JSON value: text, or a truth value.

    Args:
        name: The builtin type's name in the schema.
        json_type: Its kind there.
        python_type: The only Python type that is accepted.
    """

    name: str
    json_type: str
    python_type: type

    def check(self, value: object, place: str) -> object:
        """The value itself, if it is of the one kind."""
        if type(value) is not self.python_type:
            raise wrong_type(value, place, KINDS[self.python_type])
        return value


@dataclass(frozen=True, slots=True)
class Integer(Type):
    """A whole number of a C type. ``1.0`` is none, and neither is ``true``.

    Args:
        c_type: Name for the refusal.
        lowest: Smallest value.
        highest: Largest value.
        wraps: Whether negative numbers of 64 bits mean what they mean in C: -1 is the largest
            value. So it is for ``uint64`` and ``size`` at QEMU; clients write -1 for "no limit".
    """

    c_type: str
    lowest: int
    highest: int
    wraps: bool = False

    def check(self, value: object, place: str) -> int:
        """The number, if the C type holds it."""
        if type(value) is not int:
            raise wrong_type(value, place, f"an integer ({self.c_type})")
        if self.wraps and _INT64_LOWEST <= value < 0:
            value += 1 << 64
        if not self.lowest <= value <= self.highest:
            raise generic(
                f"{named(place)} is out of range: {self.c_type} goes from {self.lowest} "
                f"to {self.highest}, found {quoted(value)}"
            )
        return value


@dataclass(frozen=True, slots=True)
class Number(Type):
    """Any JSON number; a command gets a float."""

    def check(self, value: object, place: str) -> float:
        """The number as a float."""
        if type(value) not in (int, float):
            raise wrong_type(value, place, "a number")
        return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class TextOrNull(Type):
    """Text, or ``null``, which a command gets as no text."""

    def check(self, value: object, place: str) -> str:
        """The text."""
        if value is None:
            return ""
        if not isinstance(value, str):
            raise wrong_type(value, place, "a string or null")
        return value


@dataclass(frozen=True, slots=True)
class Anything(Type):
    """Any JSON value, as it is."""

    def check(self, value: object, place: str) -> object:
        """The value itself."""
        return value


@dataclass(frozen=True, slots=True)
class Enumeration(Type):
    """One of a few names; a command gets the member of the Python enumeration.

    Args:
        members: The enumeration; its values are the names in JSON.
    """

    members: type[enum.Enum]

    def check(self, value: object, place: str) -> enum.Enum:
        """The member of that name."""
        if not isinstance(value, str):
            raise wrong_type(value, place, "a string")
        try:
            return self.members(value)
        except ValueError:
            raise unknown_name(value, place, [str(one.value) for one in self.members]) from None


@dataclass(frozen=True, slots=True)
class Names(Type):
    """Text: one of the names of what is installed, which is not known before somebody asks.

    A command that gets another name says best what would provide it.

    Args:
        title: What they are the names of.
        known: The names that there are.
    """

    title: str
    known: Callable[[], Sequence[str]]

    def check(self, value: object, place: str) -> str:
        """The name, whether there is such a thing or not."""
        if not isinstance(value, str):
            raise wrong_type(value, place, "a string")
        return value


@dataclass(frozen=True, slots=True)
class Array(Type):
    """A list; a command gets a Python list."""

    element: Type

    def check(self, value: object, place: str) -> list[object]:
        """The checked elements."""
        if not isinstance(value, list):
            raise wrong_type(value, place, "an array")
        check = self.element.check
        return [check(one, f"{place}[{index}]") for index, one in enumerate(value)]
