"""Every device that a real QEMU 10.0 sent: loaded, saved and described again, byte for byte.

The declarations are made out of the descriptions in the recorded streams.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from devstate_captures import STREAMS, captured_devices
from devstate_helpers import EOF, load

from transship.abc import Device
from transship.wire.elements import TIMER, Element, Integer, Unused, element_named
from transship.wire.fields import Field, Items, Scratch, Struct, VMState
from transship.wire.vmdesc import Object, parse_description, parse_json, split_devices
from transship_devstate._section import DeviceSection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.wire.fields import Content
    from transship.wire.reader import Parsing, StreamReader


class Blank:
    """An object without attributes yet."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@dataclass(frozen=True)
class Opaque(Element[bytes]):
    """Something of which only the size is known."""

    type_name: str
    size: int

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, reader: StreamReader, local: bytes | None) -> Parsing[bytes]:
        return (yield from reader.take(self.size))


def declaration(described: Object) -> VMState:
    """Declare what a description describes."""
    return VMState(
        described.text("vmsd_name"),
        described.number("version"),
        fields=list(fields_of(described)),
        subsections=[declaration(one) for one in described.objects("subsections")],
        factory=Blank,
    )


def fields_of(described: Object) -> Iterator[Field]:
    for name, group in groupby(described.objects("fields"), lambda one: one.text("name")):
        yield field(name, list(group))


def field(name: str, members: list[Object]) -> Field:
    """Declare a field that these describe: more than one are the elements of an array."""
    attribute = re.sub(r"\W", "_", name)
    first = members[0]
    if len(members) > 1:
        items: Items | None = Items(len(members))
    elif first.get("array_len") is not None:
        items = Items(first.number("array_len"))
    else:
        items = None
    if first.text("type") == "unused_buffer":
        return Field(name, Unused(first.number("size")), items)
    exists = (lambda state, version: True) if len(members) > 1 else None
    return Field(name, content(first, attribute), items, attribute=attribute, exists=exists)


def content(described: Object, attribute: str) -> Content:
    type_name, size = described.text("type"), described.number("size")
    if type_name == "struct":
        nested = described.get("struct")
        assert isinstance(nested, Object)
        return Struct(declaration(nested))
    if type_name == "tmp":
        return Scratch(
            declaration(described), lambda state: vars(state).setdefault(attribute, Blank())
        )
    element = element_named(type_name, size)
    if isinstance(element, Integer):
        return Integer(type_name, size, element.signed)
    return element if element is TIMER else Opaque(type_name, size)


def has_unlike_elements(described: Object) -> bool:
    """Whether elements of one array have other fields: that needs the device's own predicates."""
    for _, group in groupby(described.objects("fields"), lambda one: one.text("name")):
        nested = [one.get("struct") for one in group]
        if any(other != nested[0] for other in nested):
            return True
        if isinstance(nested[0], Object) and has_unlike_elements(nested[0]):
            return True
    return False


@pytest.mark.parametrize("name", STREAMS)
def test_every_real_device_saves_and_describes_itself_byte_for_byte(name: str) -> None:
    devices, description = captured_devices(name)
    unlike = []
    for record in split_devices(devices, parse_description(description)):
        described = parse_json(record.description)
        assert isinstance(described, Object)
        if has_unlike_elements(described):
            unlike.append(record.idstr)
            continue
        state = Blank()
        device = Device(record.idstr, declaration(described), state, record.instance_id)
        version = record.version_id
        consumed = load(device.description, state, record.body + EOF, version=version)
        assert consumed == len(record.body)
        section = DeviceSection(device)
        assert b"".join(section.complete()) == record.body
        assert section.description() == record.description
        assert (section.idstr, section.version_id) == (record.idstr, record.version_id)
    assert unlike in ([], ["0000:00:01.1/ide"])
