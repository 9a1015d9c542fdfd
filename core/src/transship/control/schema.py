"""QAPI's types: what each accepts from JSON, and what a refusal says.

A type's ``check`` turns a JSON value into the Python value that a command gets, or raises a
:class:`CommandError` that names the position: ``channels[0].addr.offset``. msgspec's own conversion
is not enough for that: its bounds end at 63 bits, and its unions have a single discriminator. How a
type is written as an annotation says :mod:`transship.control.qapi`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.control.errors import CommandError, generic
from transship.control.limits import QUOTED_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import msgspec


class Feature(enum.Enum):
    """What a client may want to know before it uses a command or a member."""

    DEPRECATED = "deprecated"
    UNSTABLE = "unstable"


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
    """A type with one kind of JSON value: text, a truth value, or nothing.

    Args:
        name: The builtin type's name in the schema.
        json_type: Its kind there.
        python_type: The only Python type that is accepted.
        replacement: What a command gets instead of the value.
    """

    name: str
    json_type: str
    python_type: type
    replacement: object = None

    def check(self, value: object, place: str) -> object:
        """The value itself, if it is of the one kind."""
        if type(value) is not self.python_type:
            raise wrong_type(value, place, _KINDS[self.python_type])
        return value if self.replacement is None else self.replacement


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
        if self.wraps and INT64_LOWEST <= value < 0:
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
class Array(Type):
    """A list; a command gets a Python list."""

    element: Type

    def check(self, value: object, place: str) -> list[object]:
        """The checked elements."""
        if not isinstance(value, list):
            raise wrong_type(value, place, "an array")
        check = self.element.check
        return [check(one, f"{place}[{index}]") for index, one in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Alternate(Type):
    """A value of one of several types, which differ in the kind of JSON value."""

    branches: tuple[Scalar, ...]

    def check(self, value: object, place: str) -> object:
        """What the branch of the value's kind says."""
        for branch in self.branches:
            if type(value) is branch.python_type:
                return branch.check(value, place)
        kinds = " or ".join(_KINDS[branch.python_type] for branch in self.branches)
        raise wrong_type(value, place, kinds)


class Composite(Type):
    """A type with members of its own: an object, or a union of objects."""

    def check(self, value: object, place: str) -> object:
        """The Python object made of the checked members."""
        if not isinstance(value, dict):
            raise wrong_type(value, place, "an object")
        return self.check_members(value, place)

    @abstractmethod
    def check_members(self, members: Mapping[str, object], place: str) -> object:
        """The same for an object that a union has taken its discriminator from."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object.

    Args:
        name: In JSON.
        attribute: In Python.
        type: Its type.
        is_required: Whether it must be there.
        features: Its features.
    """

    name: str
    attribute: str
    type: Type
    is_required: bool
    features: tuple[Feature, ...] = ()


class ObjectType(Composite):
    """An object with fixed members.

    Args:
        struct: The msgspec structure that a command gets.
        read_members: Finds the members; called at first need, since types may contain themselves.
    """

    def __init__(
        self, struct: type[msgspec.Struct], read_members: Callable[[], Sequence[Member]]
    ) -> None:
        self.struct = struct
        self._read_members = read_members
        self._members: dict[str, Member] | None = None

    @property
    def members(self) -> Mapping[str, Member]:
        """The members by their names in JSON, in the order of declaration."""
        if self._members is None:
            self._members = {member.name: member for member in self._read_members()}
        return self._members

    def check_members(self, members: Mapping[str, object], place: str) -> msgspec.Struct:
        """The structure, if every member is there, none is too many, and all are right."""
        values: dict[str, object] = {}
        for name, member in self.members.items():
            if name in members:
                values[member.attribute] = member.type.check(members[name], joined(place, name))
            elif member.is_required:
                raise generic(f"{named(joined(place, name))} is missing")
        for name in members:
            if name not in self.members:
                raise generic(f"{named(joined(place, name))} {self._why_not(name)}")
        return self.struct(**values)

    def _why_not(self, name: str) -> str:
        """Why there is no member of that name; ``lacking`` of the structure knows of some."""
        lacking: Mapping[str, str] = getattr(self.struct, "lacking", {})
        return f"is not available: {lacking[name]}" if name in lacking else "is unexpected"


@dataclass(frozen=True, eq=False, slots=True)
class Union(Composite):
    """One of several objects, told apart by a member; an object may itself be such a union.

    Args:
        name: What errors of ours call it.
        by: The discriminator's name.
        cases: The objects by the discriminator's values.
    """

    name: str
    by: str
    cases: Mapping[str, Composite]

    def check_members(self, members: Mapping[str, object], place: str) -> object:
        """The structure of the case that the discriminator names."""
        where = joined(place, self.by)
        if self.by not in members:
            raise generic(f"{named(where)} is missing")
        case = members[self.by]
        if not isinstance(case, str):
            raise wrong_type(case, where, "a string")
        if case not in self.cases:
            raise unknown_name(case, where, list(self.cases))
        rest = {name: value for name, value in members.items() if name != self.by}
        return self.cases[case].check_members(rest, place)


INT64_LOWEST: Final = -(1 << 63)

_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
    list: "an array",
    dict: "an object",
}


def joined(place: str, name: str) -> str:
    """The position of a member."""
    return f"{place}.{name}" if place else name


def quoted(value: object) -> str:
    """A value for a refusal, cut where it is long: a reply must not be as large as a request."""
    text = str(value)
    if len(text) > QUOTED_CHARACTERS:
        text = text[:QUOTED_CHARACTERS] + "…"
    return f"'{text}'"


def named(place: str) -> str:
    """A position for a refusal."""
    return f"parameter {quoted(place)}"


def wrong_type(value: object, place: str, expected: str) -> CommandError:
    """The refusal of a value of the wrong kind."""
    return generic(f"{named(place)} must be {expected}, not {_KINDS[type(value)]}")


def unknown_name(value: str, place: str, names: Sequence[str]) -> CommandError:
    """The refusal of a name that an enumeration does not have."""
    return generic(
        f"{named(place)} does not accept {quoted(value)}: it must be one of {', '.join(names)}"
    )
