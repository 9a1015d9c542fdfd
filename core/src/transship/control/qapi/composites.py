"""QAPI's types that have members: objects, and unions of objects."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.control.errors import generic
from transship.control.qapi.refusals import joined, named, unknown_name, wrong_type
from transship.control.qapi.scalars import Type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import msgspec


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
    """

    name: str
    attribute: str
    type: Type
    is_required: bool


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
