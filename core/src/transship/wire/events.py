"""What can appear in a stream, as frozen records. Bodies of sections are not events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transship.wire.constants import TARGET_PAGE_SIZE, CommandType, RecordType


@dataclass(frozen=True, slots=True)
class Header:
    """Magic and version."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration section: what both machines must agree upon.

    Args:
        machine: Full, versioned machine type name (``pc-q35-10.0``).
        page_size: Bytes of a target page.
        capabilities: Names of the enabled capabilities that change the stream's layout.
        uuid: 16 bytes in textual order, if the source asked for it to be compared.
    """

    machine: str
    page_size: int = TARGET_PAGE_SIZE
    capabilities: tuple[str, ...] = ()
    uuid: bytes | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """START, PART, END or FULL: the section's body follows, and its end only the section knows.

    Args:
        kind: One of the four section record types.
        section_id: The sender's number for it; routes PART, END and the footer.
        idstr: Name; for PART and END the one that START gave.
        instance_id: Which of several with the same name.
        version_id: Version of the body.
        offset: Of the record's type byte.
    """

    kind: RecordType
    section_id: int
    idstr: str
    instance_id: int
    version_id: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SectionFooter:
    """End of a section's body."""

    section_id: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """An instruction to the destination; a PACKAGED one is a :class:`Package` instead."""

    command: CommandType
    payload: bytes = b""
    offset: int = 0

    def value(self) -> int:
        """The payload as one big-endian integer (of a PING)."""
        return int.from_bytes(self.payload, "big")


@dataclass(frozen=True, slots=True)
class Package:
    """A stream of records inside the stream, whose length is known in advance."""

    length: int
    offset: int = 0
    command: ClassVar[CommandType] = CommandType.PACKAGED


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The EOF byte: everything that the guest needs has been sent."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class VMDescription:
    """JSON text that describes the layout of all device sections."""

    text: bytes
    offset: int = 0


Event = (
    Header
    | Configuration
    | SectionHeader
    | SectionFooter
    | Command
    | Package
    | EndOfStream
    | VMDescription
)
