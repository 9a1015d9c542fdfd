"""Saving and loading by hand, as the engine would."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from transship.abc import Device
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader
from transship.wire.reader import StreamReader, drive
from transship_devstate._section import DeviceSection

if TYPE_CHECKING:
    from transship.wire.fields import VMState

EOF = b"\0"
"""Follows the device in every test, as a footer follows it in a stream."""


def section(description: VMState, state: object, idstr: str | None = None) -> DeviceSection:
    return DeviceSection(Device(idstr or description.name, description, state))


def save(description: VMState, state: object) -> bytes:
    return b"".join(section(description, state).complete())


def describe(description: VMState, state: object) -> Any:
    """The device's object in the description, as Python data; pairs where keys repeat."""
    text = description_text(description, state)
    return json.loads(text)


def description_text(description: VMState, state: object) -> str:
    saved = section(description, state)
    for _ in saved.complete():
        pass
    text = saved.description()
    assert text is not None
    return text


def load(
    description: VMState,
    state: object,
    data: bytes,
    *,
    version: int | None = None,
    step: int = 1 << 20,
    offset: int = 0,
) -> int:
    """Load from ``data``, which arrives ``step`` bytes at a time. Returns the bytes consumed."""
    source = io.BytesIO(data)
    reader = StreamReader(offset=offset)
    reader.section = description.name
    header = SectionHeader(
        RecordType.SECTION_FULL,
        1,
        description.name,
        0,
        description.version_id if version is None else version,
    )
    drive(
        section(description, state).load(header, reader),
        reader,
        lambda view: source.readinto(view[:step]),
    )
    return reader.offset - offset
