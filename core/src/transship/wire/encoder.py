"""Events in, bytes out: the small records between the bodies of sections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.wire.constants import (
    MAGIC,
    TARGET_PAGE_SIZE,
    VERSION,
    CommandType,
    RecordType,
)
from transship.wire.limits import IDSTR_BYTES, PACKAGE_BYTES

if TYPE_CHECKING:
    from transship.wire.events import Configuration, SectionHeader


def be16(value: int) -> bytes:
    """An unsigned big-endian integer of 2 bytes."""
    return value.to_bytes(2, "big")


def be32(value: int) -> bytes:
    """An unsigned big-endian integer of 4 bytes."""
    return value.to_bytes(4, "big")


def be64(value: int) -> bytes:
    """An unsigned big-endian integer of 8 bytes."""
    return value.to_bytes(8, "big")


def counted_string(text: str) -> bytes:
    """One length byte and the text.

    Raises:
        ValueError: The text is longer than 255 bytes.
    """
    raw = text.encode()
    if len(raw) > IDSTR_BYTES:
        raise ValueError(f"{text[:40]!r}... has {len(raw)} bytes; at most {IDSTR_BYTES} fit")
    return bytes([len(raw)]) + raw


def stream_header() -> bytes:
    """Magic and version."""
    return be32(MAGIC) + be32(VERSION)


def configuration(event: Configuration) -> bytes:
    """The configuration section, with the subsections that the event needs."""
    name = event.machine.encode("ascii")
    parts = [bytes([RecordType.CONFIGURATION]), be32(len(name)), name]
    if event.page_size != TARGET_PAGE_SIZE:
        bits = event.page_size.bit_length() - 1
        parts += [subsection_header("configuration/target-page-bits", 1), be32(bits)]
    if event.capabilities:
        parts += [
            subsection_header("configuration/capabilities", 1),
            be32(len(event.capabilities)),
            *map(counted_string, event.capabilities),
        ]
    if event.uuid is not None:
        parts += [subsection_header("configuration/uuid", 1), event.uuid]
    return b"".join(parts)


def subsection_header(name: str, version_id: int) -> bytes:
    """Marker, name and version of a subsection; its fields follow."""
    return bytes([RecordType.SUBSECTION]) + counted_string(name) + be32(version_id)


def section_header(header: SectionHeader) -> bytes:
    """What precedes a section's body."""
    record = bytes([header.kind]) + be32(header.section_id)
    if header.kind in (RecordType.SECTION_PART, RecordType.SECTION_END):
        return record
    return (
        record + counted_string(header.idstr) + be32(header.instance_id) + be32(header.version_id)
    )


def section_footer(section_id: int) -> bytes:
    """What follows a section's body."""
    return bytes([RecordType.SECTION_FOOTER]) + be32(section_id)


def command(kind: CommandType, payload: bytes = b"") -> bytes:
    """A command with its payload."""
    return bytes([RecordType.COMMAND]) + be16(kind) + be16(len(payload)) + payload


def ping(value: int) -> bytes:
    """Ask the destination to answer PONG with the same value."""
    return command(CommandType.PING, be32(value))


def package_header(length: int) -> bytes:
    """What precedes the ``length`` bytes of a package.

    Raises:
        ValueError: No receiver accepts a package of that length.
    """
    if length > PACKAGE_BYTES:
        raise ValueError(f"a package holds at most {PACKAGE_BYTES} bytes, not {length}")
    return command(CommandType.PACKAGED, be32(length))


def end_of_stream() -> bytes:
    """The EOF byte."""
    return bytes([RecordType.EOF])


def vm_description(text: bytes) -> bytes:
    """The description of the device sections, as JSON text."""
    return bytes([RecordType.VMDESCRIPTION]) + be32(len(text)) + text
