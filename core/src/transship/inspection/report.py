"""The report of an inspection: what was found, in the order in which it was found."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transship.errors import MigrationError


@dataclass(slots=True)
class SectionEntry:
    """One record of a section.

    Args:
        idstr: Name in the stream.
        instance_id: Which of several with the same name.
        version_id: Version of the body.
        section_id: The sender's number for it.
        kind: ``start``, ``part``, ``end`` or ``full``.
        offset: Of the record in the stream; None in a checkpoint, which keeps bodies only.
        length: Bytes of the record, header and footer included, or in a checkpoint of the body;
            None where the stream breaks inside.
    """

    idstr: str
    instance_id: int
    version_id: int
    section_id: int
    kind: str
    offset: int | None
    length: int | None


@dataclass(slots=True)
class BlockEntry:
    """A RAM block.

    Args:
        idstr: Name in the stream.
        used_length: Bytes.
        sha256: Of its final contents, in hexadecimal digits; None when they are not all here:
            the stream breaks, or carries pages over other channels (multifd).
        pages: How many came as what; a page that came twice counts twice. In a checkpoint,
            how many there are, and how many have storage.
    """

    idstr: str
    used_length: int
    sha256: str | None = None
    pages: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class RamEntry:
    """All RAM.

    Args:
        page_size: Bytes of a target page.
        blocks: In stream order.
    """

    page_size: int
    blocks: list[BlockEntry] = field(default_factory=list)


@dataclass(slots=True)
class DiskEntry:
    """A disk.

    Args:
        name: In the stream.
        size: Bytes; in a stream, up to the last one that came.
        stored: In a checkpoint, how many bytes have storage; None in a stream.
    """

    name: str
    size: int
    stored: int | None = None


@dataclass(slots=True)
class DeviceEntry:
    """A device, decoded through its description.

    Args:
        idstr: Name in the stream.
        instance_id: Which of several with the same name.
        version_id: Version of the state.
        fields: By name; None if it is too large to be shown.
        subsections: Each with name, version, fields and subsections.
    """

    idstr: str
    instance_id: int
    version_id: int
    fields: Mapping[str, object] | None
    subsections: Sequence[object]


@dataclass(slots=True)
class Report:
    """What is in a stream or a checkpoint.

    Args:
        format: ``qemu-migration-stream`` or ``transship-checkpoint``.
        machine: Machine type name; None if it did not get that far.
        version: Of the stream or of the checkpoint's layout; None as well.
        sections: All records of sections, in order.
        ram: None where there is none, or none was reached.
        devices: In order.
        disks: Those whose contents came along.
        complete: Whether everything is there and sound, to the end.
        error: What broke: ``offset``, ``section``, ``expected``, ``found``, ``cause`` and more.
    """

    format: str
    machine: str | None = None
    version: int | None = None
    sections: list[SectionEntry] = field(default_factory=list)
    ram: RamEntry | None = None
    devices: list[DeviceEntry] = field(default_factory=list)
    disks: list[DiskEntry] = field(default_factory=list)
    complete: bool = False
    error: dict[str, str | int | bool | None] | None = None

    def as_json(self) -> dict[str, Any]:
        """The report as plain data, with the keys of ``transship inspect --json``."""
        return {
            **_members(self),
            "sections": [_members(entry) for entry in self.sections],
            "ram": self.ram
            and {**_members(self.ram), "blocks": [_members(block) for block in self.ram.blocks]},
            "devices": [_members(entry) for entry in self.devices],
            "disks": [_members(entry) for entry in self.disks],
        }

    def fail(self, error: MigrationError) -> None:
        """Note what broke."""
        self.complete = False
        self.error = {
            **error.facts(),
            "section": error.section or "envelope",
            "expected": error.expected or "what a sender writes",
            "found": error.found or error.cause,
        }


def _members(
    entry: SectionEntry | BlockEntry | RamEntry | DeviceEntry | DiskEntry | Report,
) -> dict[str, Any]:
    """One level of ``asdict``: what lies below is plain data already, and may be large."""
    return {one.name: getattr(entry, one.name) for one in fields(entry)}
