"""How commands, events and their data are declared: annotations, read as QAPI types.

========================================  ====================================================
annotation                                QAPI
========================================  ====================================================
``str``, ``bool``, ``float``              ``str``, ``bool``, ``number``
``int``                                   ``int``: 64 bits, signed
`UInt8` to `UInt64`, `Size`               the C type of that name; ``int`` in the schema
:data:`StrOrNull`                         the alternate of that name
:data:`AnyJson`                           any JSON value
an :class:`enum.Enum` with text values    an enumeration
``Annotated[str, Names(...)]``            an enumeration of what is installed
``list[T]``                               an array
a subclass of :class:`Object`             an object
``Annotated[A | B, OneOf(...)]``          a union
a member with a default                   an optional member
``T | None``, with the default ``None``   the same; ``null`` is refused
``T | UnsetType``, with ``UNSET``         the same, where a reply may have a ``null``
========================================  ====================================================
"""

from __future__ import annotations

import enum
import types
import typing
from dataclasses import dataclass
from functools import cache, partial, reduce
from operator import or_
from typing import Annotated, Any, Final, TypeAlias, get_args, get_origin, get_type_hints

import msgspec

from transship.control.qapi.composites import Composite, Member, ObjectType, Union
from transship.control.qapi.scalars import (
    Anything,
    Array,
    Enumeration,
    Feature,
    Integer,
    Number,
    Scalar,
    TextOrNull,
    Type,
)

STR: Final = Scalar("str", "string", str)
NULL: Final = Scalar("null", "null", type(None))
BOOL: Final = Scalar("bool", "boolean", bool)
INT: Final = Integer("int64", -(1 << 63), (1 << 63) - 1)

UInt8: TypeAlias = Annotated[int, Integer("uint8", 0, (1 << 8) - 1)]
UInt16: TypeAlias = Annotated[int, Integer("uint16", 0, (1 << 16) - 1)]
UInt32: TypeAlias = Annotated[int, Integer("uint32", 0, (1 << 32) - 1)]
UInt64: TypeAlias = Annotated[int, Integer("uint64", 0, (1 << 64) - 1, wraps=True)]
Size: TypeAlias = Annotated[int, Integer("size", 0, (1 << 64) - 1, wraps=True)]
"""Bytes, or bytes per second."""

StrOrNull: TypeAlias = Annotated[str, TextOrNull()]
"""Text; a command gets no text for a ``null``."""

AnyJson: TypeAlias = Annotated[object, Anything()]

DEPRECATED: Final = Feature.DEPRECATED


class Object(msgspec.Struct, rename="kebab", omit_defaults=True, forbid_unknown_fields=True):
    """Base of every object: arguments, replies, data of events.

    ``exit_on_error`` is ``exit-on-error`` in JSON; ``= msgspec.field(name=...)`` says otherwise.
    A member that has a default is optional; in a reply it is left out when it equals its default.
    """


@dataclass(frozen=True, slots=True)
class OneOf:
    """Says that a union of objects is told apart by a member.

    Each object of the union is a subclass of :class:`Object` with ``tag_field=by`` and its own
    ``tag``; or another such union, whose :attr:`case` takes the part of the tag.

    Args:
        name: The union's name, for the schema.
        by: The discriminator's name in JSON.
        case: The discriminator's value for this union, where it is a part of a larger one.
    """

    name: str
    by: str
    case: str | None = None


def type_of(annotation: Any) -> Type:
    """The QAPI type that an annotation stands for.

    Raises:
        TypeError: It stands for none.
    """
    if isinstance(annotation, type):
        return _type_of_class(annotation)
    if get_origin(annotation) is Annotated:
        plain, *markers = get_args(annotation)
        for marker in markers:
            if isinstance(marker, Type):
                return marker
            if isinstance(marker, OneOf):
                return _union(plain, marker)
        return type_of(plain)
    if get_origin(annotation) is list:
        (element,) = get_args(annotation)
        return Array(type_of(element))
    raise TypeError(f"{annotation!r} is no type of QAPI")


@cache
def _type_of_class(annotation: type) -> Type:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if issubclass(annotation, enum.Enum):
        if not all(isinstance(one.value, str) for one in annotation):
            raise TypeError(f"the values of {annotation.__qualname__} are not all text")
        return Enumeration(annotation)
    if issubclass(annotation, Object):
        return ObjectType(annotation, partial(_members, annotation))
    raise TypeError(f"{annotation.__qualname__} is no type of QAPI")


_PLAIN: Final[dict[type, Type]] = {str: STR, bool: BOOL, int: INT, float: Number()}


def _members(struct: type[Object]) -> list[Member]:
    hints = get_type_hints(struct, include_extras=True)
    return [_member(struct, field, hints[field.name]) for field in msgspec.structs.fields(struct)]


def _member(struct: type[Object], field: msgspec.structs.FieldInfo, hint: Any) -> Member:
    try:
        if (absent := _absence(hint)) is not None:
            if type(field.default) is not absent:
                raise TypeError(f"a member that may be {absent.__name__} must be so by default")
            hint = _without(hint, absent)
        type_ = type_of(hint)
    except TypeError as error:
        raise TypeError(f"{struct.__qualname__}.{field.name}: {error}") from error
    return Member(field.encode_name, field.name, type_, field.required)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (typing.Union, types.UnionType)


def _absence(hint: Any) -> type | None:
    """What stands for an optional member that is absent, if its annotation says so."""
    if _is_union(hint):
        for absent in (type(None), msgspec.UnsetType):
            if absent in get_args(hint):
                return absent
    return None


def _without(hint: Any, absent: type) -> Any:
    return reduce(or_, (one for one in get_args(hint) if one is not absent))


@cache
def _union(plain: Any, marker: OneOf) -> Union:
    cases: dict[str, Composite] = {}
    for branch in get_args(plain) if _is_union(plain) else (plain,):
        type_ = type_of(branch)
        case = _case(branch, marker.by)
        if case is None or case in cases or not isinstance(type_, Composite):
            raise TypeError(f"{branch!r} has no {marker.by!r} of its own in {marker.name}")
        cases[case] = type_
    return Union(marker.name, marker.by, cases)


def _case(branch: Any, by: str) -> str | None:
    """The value of the discriminator that means this branch of a union."""
    if get_origin(branch) is Annotated:
        return next((one.case for one in branch.__metadata__ if isinstance(one, OneOf)), None)
    config = branch.__struct_config__
    return config.tag if config.tag_field == by else None
