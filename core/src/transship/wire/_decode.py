"""A device's body as plain data, through its description alone. Knows no device."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from transship.errors import StreamError
from transship.wire._json import Object
from transship.wire.elements import UINT64, Integer, element_named
from transship.wire.encoder import subsection_header
from transship.wire.limits import KIB
from transship.wire.reader import Parsing, StreamReader, drive

if TYPE_CHECKING:
    from transship.buffers import Buffer

DecodedValue: TypeAlias = "int | bool | str | list[DecodedValue] | dict[str, DecodedValue] | None"
Fields: TypeAlias = dict[str, DecodedValue]


class DecodedSubsection(TypedDict):
    """A subsection as plain data."""

    name: str
    version: int
    fields: Fields
    subsections: list[DecodedSubsection]


class DecodedDevice(TypedDict):
    """A device as plain data."""

    fields: Fields
    subsections: list[DecodedSubsection]


def decode_body(idstr: str, body: Buffer, description: Object) -> DecodedDevice:
    """Decode a device; the form is that of :func:`transship.wire.vmdesc.decode_fields`."""
    reader = StreamReader(64 * KIB)
    reader.section = idstr
    try:
        return drive(_device(reader, description), reader, io.BytesIO(body).readinto)
    except ValueError as error:
        raise StreamError(
            "a description is not of a known form", section=idstr, found=str(error)
        ) from error


def _device(reader: StreamReader, description: Object) -> Parsing[DecodedDevice]:
    fields = yield from _fields(reader, description)
    subsections = yield from _subsections(reader, description)
    if not (yield from reader.at_end()):
        raise reader.error("there is more than the description says", expected="the end")
    return {"fields": fields, "subsections": subsections}


def _fields(reader: StreamReader, description: Object) -> Parsing[Fields]:
    values: dict[str, list[DecodedValue]] = {}
    arrays = set()
    for field in description.objects("fields"):
        name = field.text("name")
        if field.get("array_len") is not None or field.get("index") is not None:
            arrays.add(name)
        values.setdefault(name, []).extend((yield from _elements(reader, field)))
    return {
        name: found if name in arrays or len(found) != 1 else found[0]
        for name, found in values.items()
    }


def _subsections(reader: StreamReader, description: Object) -> Parsing[list[DecodedSubsection]]:
    result: list[DecodedSubsection] = []
    for one in description.objects("subsections"):
        name, version = one.text("vmsd_name"), one.number("version")
        offset = reader.offset
        header = subsection_header(name, version)
        found = yield from reader.take(len(header))
        if found != header:
            raise reader.error(
                "another subsection is described",
                offset=offset,
                expected=f"{name}, version {version}",
                found=found.hex(" "),
            )
        result.append(
            {
                "name": name,
                "version": version,
                "fields": (yield from _fields(reader, one)),
                "subsections": (yield from _subsections(reader, one)),
            }
        )
    return result


def _elements(reader: StreamReader, field: Object) -> Parsing[list[DecodedValue]]:
    """The elements that one object describes; those without any bytes are left out of arrays."""
    size, count = field.number("size"), field.number("array_len", 1)
    if size == 0 and count != 1:
        return []
    element = element_named(field.text("type"), size)
    if isinstance(element, Integer):
        return list(element.unpack((yield from reader.take_large(count * size))))
    result = []
    for _ in range(count):
        offset = reader.offset
        result.append((yield from _one(reader, field, size)))
        if reader.offset - offset != size:
            raise reader.error(
                f"{field.text('name')} has another size than described",
                offset=offset,
                expected=f"{size} bytes",
                found=f"{reader.offset - offset} bytes",
            )
    return result


def _one(reader: StreamReader, field: Object, size: int) -> Parsing[DecodedValue]:
    match field.text("type"):
        case "struct":
            description = field.get("struct")
            if not isinstance(description, Object):
                raise ValueError(f"a struct is not described: {field.text('name')}")
            return (yield from _struct(reader, description))
        case "vstruct" | "tmp":
            return (yield from _struct(reader, field))
        case "qtailq" | "qlist":
            return (yield from _queue(reader, field))
        case "gtree":
            return (yield from _tree(reader, field))
        case type_name:
            value: Any = yield from element_named(type_name, size).decode(reader, None)
            return value.hex() if isinstance(value, bytes) else value  # type: ignore[no-any-return]


def _struct(reader: StreamReader, description: Object) -> Parsing[Fields]:
    """The fields; the subsections are among them, under their names."""
    result = yield from _fields(reader, description)
    for one in (yield from _subsections(reader, description)):
        result[one["name"]] = _flat(one)
    return result


def _flat(subsection: DecodedSubsection) -> Fields:
    nested = {one["name"]: _flat(one) for one in subsection["subsections"]}
    return subsection["fields"] | nested


def _queue(reader: StreamReader, field: Object) -> Parsing[list[DecodedValue]]:
    result: list[DecodedValue] = []
    for description in _descriptions(field):
        yield from _marker(reader, 1)
        result.append((yield from _struct(reader, description)))
    yield from _marker(reader, 0)
    return result


def _tree(reader: StreamReader, field: Object) -> Parsing[list[DecodedValue]]:
    """Nodes; where there is one description for each of them, the keys are integers."""
    count = yield from reader.be32()
    descriptions = iter(_descriptions(field))
    total = len(_descriptions(field))
    if total not in (count, 2 * count):
        raise reader.error(
            "a tree has another number of nodes than described",
            expected=f"{total} or {total // 2}",
            found=str(count),
        )
    result: list[DecodedValue] = []
    for _ in range(count):
        yield from _marker(reader, 1)
        if total == count:
            key: DecodedValue = yield from UINT64.decode(reader)
        else:
            key = yield from _struct(reader, next(descriptions))
        value = yield from _struct(reader, next(descriptions))
        result.append({"key": key, "value": value})
    yield from _marker(reader, 0)
    return result


def _descriptions(field: Object) -> list[Object]:
    """The descriptions of a list's elements: their keys repeat in the object of the list."""
    starts = [place for place, (key, _) in enumerate(field) if key == "vmsd_name"]
    return [Object(field[start:end]) for start, end in pairwise([*starts, len(field)])]


def _marker(reader: StreamReader, expected: int) -> Parsing[None]:
    offset = reader.offset
    found = yield from reader.u8()
    if found != expected:
        raise reader.error(
            "no marker of a list", offset=offset, expected=str(expected), found=str(found)
        )
