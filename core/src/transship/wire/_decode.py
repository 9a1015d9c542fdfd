"""A device's body as plain data, through its description alone. Knows no device."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from transship.errors import StreamError
from transship.units import counted
from transship.wire._json import Object
from transship.wire.elements import UINT64, Integer, element_named
from transship.wire.encoder import subsection_header
from transship.wire.limits import ELEMENTS, KIB
from transship.wire.reader import Parsing, StreamReader, drive

if TYPE_CHECKING:
    from transship.buffers import Buffer
    from transship.wire.elements import Element

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
        return drive(_Decoder(reader).device(description), reader, io.BytesIO(body).readinto)
    except ValueError as error:
        raise StreamError(
            "a description is not of a known form", section=idstr, found=str(error)
        ) from error


class _Decoder:
    """One run of :func:`decode_body`.

    A small description can ask for many values: elements may have fields without bytes. So the
    values are counted.
    """

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._values = 0

    def device(self, description: Object) -> Parsing[DecodedDevice]:
        """Decode the whole body."""
        fields = yield from self._fields(description)
        subsections = yield from self._subsections(description)
        if not (yield from self._reader.at_end()):
            raise self._reader.error("there is more than the description says", expected="the end")
        return {"fields": fields, "subsections": subsections}

    def _fields(self, description: Object) -> Parsing[Fields]:
        """The values by name; equal names are elements of one array."""
        values: dict[str, list[DecodedValue]] = {}
        for field in description.objects("fields"):
            elements = yield from self._elements(field)
            values.setdefault(field.text("name"), []).extend(elements)
        return {name: found[0] if len(found) == 1 else found for name, found in values.items()}

    def _subsections(self, description: Object) -> Parsing[list[DecodedSubsection]]:
        result: list[DecodedSubsection] = []
        for one in description.objects("subsections"):
            name, version = one.text("vmsd_name"), one.number("version")
            offset = self._reader.offset
            header = subsection_header(name, version)
            found = yield from self._reader.take(len(header))
            if found != header:
                raise self._reader.error(
                    "another subsection is described",
                    offset=offset,
                    expected=f"{name}, version {version}",
                    found=found.hex(" "),
                )
            result.append(
                {
                    "name": name,
                    "version": version,
                    "fields": (yield from self._fields(one)),
                    "subsections": (yield from self._subsections(one)),
                }
            )
        return result

    def _elements(self, field: Object) -> Parsing[list[DecodedValue]]:
        """The elements that one object describes; of an array without bytes, none."""
        size, count = field.number("size"), field.number("array_len", 1)
        if size == 0 and count != 1:
            return []
        self._values += count
        if self._values > ELEMENTS:
            raise self._reader.error(
                "the device has more values than can be shown",
                expected=f"at most {ELEMENTS}",
                found=f"{self._values} or more",
            )
        element = element_named(field.text("type"), size)
        if isinstance(element, Integer):
            return list(element.unpack((yield from self._reader.take_large(count * size))))
        result = []
        for _ in range(count):
            offset = self._reader.offset
            result.append((yield from self._one(field, size)))
            if self._reader.offset - offset != size:
                raise self._reader.error(
                    f"{field.text('name')} has another size than described",
                    offset=offset,
                    expected=counted(size, "byte", "bytes"),
                    found=counted(self._reader.offset - offset, "byte", "bytes"),
                )
        return result

    def _one(self, field: Object, size: int) -> Parsing[DecodedValue]:
        match field.text("type"):
            case "struct":
                description = field.get("struct")
                if not isinstance(description, Object):
                    raise ValueError(f"a struct is not described: {field.text('name')}")
                return (yield from self._struct(description))
            case "vstruct" | "tmp":
                return (yield from self._struct(field))
            case "qtailq" | "qlist":
                return (yield from self._queue(field))
            case "gtree":
                return (yield from self._tree(field))
            case type_name:
                element: Element[int | bytes | None] = element_named(type_name, size)
                value = yield from element.decode(self._reader, None)
                return value.hex() if isinstance(value, bytes) else value

    def _struct(self, description: Object) -> Parsing[Fields]:
        """The fields; the subsections are among them, under their names."""
        result = yield from self._fields(description)
        for one in (yield from self._subsections(description)):
            result[one["name"]] = _flat(one)
        return result

    def _queue(self, field: Object) -> Parsing[list[DecodedValue]]:
        result: list[DecodedValue] = []
        for description in _descriptions(field):
            yield from self._marker(1)
            result.append((yield from self._struct(description)))
        yield from self._marker(0)
        return result

    def _tree(self, field: Object) -> Parsing[list[DecodedValue]]:
        """Nodes; where there is one description for each of them, the keys are integers."""
        count = yield from self._reader.be32()
        descriptions = iter(_descriptions(field))
        total = len(_descriptions(field))
        if total not in (count, 2 * count):
            raise self._reader.error(
                "a tree has another number of nodes than described",
                expected=f"{total} or {total // 2}",
                found=str(count),
            )
        result: list[DecodedValue] = []
        for _ in range(count):
            yield from self._marker(1)
            if total == count:
                key: DecodedValue = yield from UINT64.decode(self._reader)
            else:
                key = yield from self._struct(next(descriptions))
            value = yield from self._struct(next(descriptions))
            result.append({"key": key, "value": value})
        yield from self._marker(0)
        return result

    def _marker(self, expected: int) -> Parsing[None]:
        offset = self._reader.offset
        found = yield from self._reader.u8()
        if found != expected:
            raise self._reader.error(
                "no marker of a list", offset=offset, expected=str(expected), found=str(found)
            )


def _descriptions(field: Object) -> list[Object]:
    """The descriptions of a list's elements: their keys repeat in the object of the list."""
    starts = [place for place, (key, _) in enumerate(field) if key == "vmsd_name"]
    return [Object(field[start:end]) for start, end in pairwise([*starts, len(field)])]


def _flat(subsection: DecodedSubsection) -> Fields:
    nested = {one["name"]: _flat(one) for one in subsection["subsections"]}
    return subsection["fields"] | nested
