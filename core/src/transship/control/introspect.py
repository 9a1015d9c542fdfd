"""The schema that clients ask for: every command and event, and the types that these name.

The form is that of ``query-qmp-schema``; its own types are declared here like any other. Types have
numbers instead of names, as at QEMU: a client is to follow the references, not to know the names.
"""

from __future__ import annotations

import enum
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from msgspec import UNSET, UnsetType

from transship.control.qapi.composites import ObjectType, Union
from transship.control.qapi.declaring import NULL, STR, AnyJson, Object, OneOf
from transship.control.qapi.scalars import (
    Anything,
    Array,
    Enumeration,
    Integer,
    Names,
    Number,
    Scalar,
    TextOrNull,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.control.qapi.composites import Member
    from transship.control.qapi.scalars import Type
    from transship.control.registry import Command, CommandTable, Event


class JsonType(enum.Enum):
    """The kinds of JSON value that a builtin type may have."""

    STRING = "string"
    NUMBER = "number"
    INT = "int"
    BOOLEAN = "boolean"
    NULL = "null"
    OBJECT = "object"
    ARRAY = "array"
    VALUE = "value"


class EnumMember(Object):
    name: str


class ObjectMember(Object):
    """A member of an object; optional if it has a ``default``, which is always ``null``."""

    name: str
    type: str
    default: AnyJson | UnsetType = UNSET


class Variant(Object):
    case: str
    type: str


class BuiltinInfo(Object, tag_field="meta-type", tag="builtin"):
    name: str
    json_type: JsonType


class EnumInfo(Object, tag_field="meta-type", tag="enum"):
    """An enumeration; ``values`` repeats the names for clients from before 6.2."""

    name: str
    members: list[EnumMember]
    values: list[str]


class ArrayInfo(Object, tag_field="meta-type", tag="array"):
    name: str
    element_type: str


class Alternative(Object):
    type: str


class AlternateInfo(Object, tag_field="meta-type", tag="alternate"):
    """Values of several kinds."""

    name: str
    members: list[Alternative]


class ObjectInfo(Object, tag_field="meta-type", tag="object"):
    name: str
    members: list[ObjectMember]
    tag: str | None = None
    variants: list[Variant] | None = None


class CommandInfo(Object, tag_field="meta-type", tag="command"):
    name: str
    arg_type: str
    ret_type: str
    allow_oob: bool = False
    features: list[str] | None = None


class EventInfo(Object, tag_field="meta-type", tag="event"):
    name: str
    arg_type: str


SchemaInfo: TypeAlias = Annotated[
    BuiltinInfo | EnumInfo | ArrayInfo | AlternateInfo | ObjectInfo | CommandInfo | EventInfo,
    OneOf("SchemaInfo", by="meta-type"),
]


def schema_of(table: CommandTable) -> list[SchemaInfo]:
    """Describe all that is in a table."""
    schema = _Schema()
    for command in table.commands():
        schema.add_command(command)
    for event in table.events():
        schema.add_event(event)
    return schema.entities


_EMPTY: Final = "0"
"""The object without members: what commands take and give that take or give nothing."""


class _Schema:
    """A schema that grows by what is put into it, and by all that this refers to."""

    def __init__(self) -> None:
        self.entities: list[SchemaInfo] = [ObjectInfo(_EMPTY, [])]
        self._names: dict[Type, str] = {}
        self._described: set[str] = {_EMPTY}
        self._numbers = count(int(_EMPTY) + 1)

    def add_command(self, command: Command) -> None:
        arguments, returns = map(self._reference, (command.arguments, command.returns))
        features = [feature.value for feature in command.features] or None
        self.entities.append(
            CommandInfo(command.name, arguments, returns, command.allows_oob, features)
        )

    def add_event(self, event: Event[Any]) -> None:
        self.entities.append(EventInfo(event.name, self._reference(event.data)))

    def _reference(self, type_: Type | None) -> str:
        """The name of a type, which is described if it was not yet."""
        if type_ is None:
            return _EMPTY
        name = self._names.get(type_)
        if name is None:
            # Known by its name before it is described: it may refer to itself.
            name = self._names[type_] = self._name(type_)
            if name not in self._described:
                self._described.add(name)
                self.entities.append(self._describe(name, type_))
        return name

    def _name(self, type_: Type) -> str:
        match type_:
            case Scalar():
                return type_.name
            case Integer():
                return "int"
            case Number():
                return "number"
            case Anything():
                return "any"
            case Array():
                return f"[{self._reference(type_.element)}]"
        return str(next(self._numbers))

    def _describe(self, name: str, type_: Type) -> SchemaInfo:
        match type_:
            case Scalar():
                return BuiltinInfo(name, JsonType(type_.json_type))
            case Integer():
                return BuiltinInfo(name, JsonType.INT)
            case Number():
                return BuiltinInfo(name, JsonType.NUMBER)
            case Anything():
                return BuiltinInfo(name, JsonType.VALUE)
            case Array():
                return ArrayInfo(name, self._reference(type_.element))
            case TextOrNull():
                return AlternateInfo(
                    name, [Alternative(self._reference(one)) for one in (STR, NULL)]
                )
            case Enumeration():
                return _enumeration(name, [str(one.value) for one in type_.members])
            case Names():
                return _enumeration(name, type_.known())
            case ObjectType():
                return ObjectInfo(name, [self._member(one) for one in type_.members.values()])
            case Union():
                return self._union(name, type_)
        raise AssertionError(f"{type_!r} has no form in the schema")

    def _member(self, member: Member) -> ObjectMember:
        default = UNSET if member.is_required else None
        return ObjectMember(member.name, self._reference(member.type), default)

    def _union(self, name: str, union: Union) -> ObjectInfo:
        tags = str(next(self._numbers))
        self.entities.append(_enumeration(tags, list(union.cases)))
        variants = [Variant(case, self._reference(one)) for case, one in union.cases.items()]
        return ObjectInfo(name, [ObjectMember(union.by, tags)], union.by, variants)


def _enumeration(name: str, values: Sequence[str]) -> EnumInfo:
    return EnumInfo(name, [EnumMember(value) for value in values], list(values))
