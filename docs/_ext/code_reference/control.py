"""QMP as it is served: commands, their objects, parameters, capabilities and events."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, TypeAlias

from transship.abc import settings
from transship.abc.settings import Capability
from transship.control.commands.capabilities import LACKING, MigrationCapability
from transship.control.commands.parameters import (
    PARAMETERS,
    Choice,
    MigrationParameters,
    Parameter,
    default_of,
)
from transship.control.qapi.composites import Composite, Member, ObjectType, Union
from transship.control.qapi.scalars import (
    Anything,
    Array,
    Enumeration,
    Integer,
    Names,
    Number,
    Scalar,
    TextOrNull,
    Type,
)
from transship.control.registry import CommandTable
from transship.control.server import protocol
from transship.control.service import all_commands

from .docstrings import below_assignments, first_sentence, plain, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transship.control.registry import Command

_Described: TypeAlias = ObjectType | Enumeration | Names | Union

_TABLE: Final = CommandTable.joined(protocol.TABLE, all_commands())


def commands() -> str:
    """Every command: what it takes, what it gives, what it does."""
    rows = [
        [
            f"`{command.name}`" + _notes(command),
            _taken(command.arguments) if command.arguments else "",
            _name(command.returns) if command.returns else "",
            first_sentence(command.handler),
        ]
        for command in sorted(_TABLE.commands(), key=lambda one: one.name)
    ]
    return table(["command", "takes", "gives", "does"], rows)


def objects() -> str:
    """Every object that commands take or give in a member, under a heading of its own."""
    return "\n\n".join(
        f"### {name}\n\n{_described(type_)}" for name, type_ in sorted(_objects().items())
    )


def parameters() -> str:
    """Every parameter with unit, default and range."""
    rows = [
        [
            f"`{name}`",
            parameter.unit,
            f"`{str(default_of(name)).lower()}`",
            _range(parameter),
            parameter.meaning,
        ]
        for name, parameter in PARAMETERS.items()
    ]
    return table(["parameter", "unit", "default", "range", "meaning"], rows)


def lacking_parameters() -> str:
    """Parameters of QEMU's that are refused, and why."""
    rows = [[f"`{name}`", why] for name, why in MigrationParameters.lacking.items()]
    return table(["parameter", "why it is refused"], rows)


def capabilities() -> str:
    """Every capability: whether it can be switched on, and what it means, or why not."""
    below = below_assignments(settings, "Capability")
    meanings = {one.value: " ".join(below[one.name].split()) for one in Capability}
    rows = [
        [
            f"`{one.value}`",
            "no" if one in LACKING else "yes",
            LACKING.get(one) or meanings[one.value],
        ]
        for one in MigrationCapability
    ]
    return table(["capability", "available", "meaning, or why not"], rows)


def events() -> str:
    """Every event with its data."""
    rows = [
        [f"`{event.name}`", _members(event.data) if event.data else ""]
        for event in sorted(_TABLE.events(), key=lambda one: one.name)
    ]
    return table(["event", "data"], rows)


def _notes(command: Command) -> str:
    notes = [feature.value for feature in command.features]
    notes += ["out of band"] if command.allows_oob else []
    return f" ({', '.join(notes)})" if notes else ""


def _taken(type_: Composite) -> str:
    return _members(type_) if isinstance(type_, ObjectType) else _name(type_)


def _members(type_: ObjectType) -> str:
    return ", ".join(_member(member) for member in type_.members.values())


def _member(member: Member) -> str:
    return f"`{member.name}{'' if member.is_required else '?'}`: {_name(member.type)}"


def _name(type_: Type) -> str:
    match type_:
        case Scalar():
            return type_.name
        case Integer():
            return type_.c_type
        case Number():
            return "number"
        case Anything():
            return "any"
        case Array():
            return f"list of {_name(type_.element)}"
        case Enumeration():
            return type_.members.__name__
        case Names():
            return type_.title
        case TextOrNull():
            return "str or null"
        case Union():
            return type_.name
        case ObjectType():
            return type_.struct.__name__
    raise TypeError(f"no name for {type_!r}")


def _described(type_: _Described) -> str:
    match type_:
        case Enumeration():
            values = ", ".join(f"`{one.value}`" for one in type_.members)
            return f"{plain(inspect.getdoc(type_.members) or '')}\n\nOne of {values}."
        case Names():
            values = ", ".join(f"`{name}`" for name in type_.known())
            return f"What is installed: {values}; with another plugin, more."
        case Union():
            rows = [[f"`{case}`", _name(branch)] for case, branch in type_.cases.items()]
            return f"Told apart by `{type_.by}`:\n\n" + table([f"`{type_.by}`", "object"], rows)
    rows = [
        [f"`{member.name}`" + ("" if member.is_required else " (optional)"), _name(member.type)]
        for member in type_.members.values()
    ]
    members = table(["member", "type"], rows)
    return "\n\n".join(filter(None, [plain(_own_docstring(type_.struct)), members]))


def _own_docstring(kind: type) -> str:
    """What a class says of itself: one that is generated would inherit what its base says."""
    return inspect.cleandoc(vars(kind).get("__doc__") or "")


def _objects() -> dict[str, _Described]:
    """What is named by commands and not described by their own rows."""
    found: dict[str, _Described] = {}
    arguments = [one.arguments for one in _TABLE.commands() if one.arguments]
    data = [event.data for event in _TABLE.events() if event.data]
    for type_ in (*arguments, *data):
        if isinstance(type_, ObjectType):
            _collect((member.type for member in type_.members.values()), found)
        else:
            _collect([type_], found)
    _collect((one.returns for one in _TABLE.commands() if one.returns), found)
    return found


def _collect(types: Iterable[Type], found: dict[str, _Described]) -> None:
    for type_ in types:
        if isinstance(type_, Array):
            _collect([type_.element], found)
        elif isinstance(type_, _Described) and _name(type_) not in found:
            found[_name(type_)] = type_
            _collect(_parts(type_), found)


def _parts(type_: _Described) -> Iterator[Type]:
    match type_:
        case ObjectType():
            yield from (member.type for member in type_.members.values())
        case Union():
            yield from type_.cases.values()


def _range(parameter: Parameter | Choice) -> str:
    if isinstance(parameter, Choice) or parameter.unit == "":
        return ""
    return f"{parameter.least} to {_number(parameter.most)}"


def _number(number: int) -> str:
    return "2^64-1" if number == (1 << 64) - 1 else str(number)
