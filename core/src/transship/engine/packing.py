"""Device sections of a stream: gathered while the guest stands still, and their description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.abc.section import ChannelWork, FileWork, RemoteWork
from transship.engine.failures import concerning
from transship.errors import LocalError
from transship.wire import encoder
from transship.wire.constants import RecordType
from transship.wire.description import compose, opaque_device
from transship.wire.events import SectionHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.abc.guest import Guest
    from transship.abc.section import Section, SectionSet, Segments
    from transship.buffers import Buffer


@dataclass(frozen=True, slots=True)
class PackedDevices:
    """All device sections of a stream.

    Args:
        records: FULL records one after the other, headers and footers included.
        description: The VMDESCRIPTION's text.
    """

    records: bytes
    description: bytes

    def package(self) -> bytes:
        """The inner stream of a PACKAGED command.

        Ended by EOF, so that a receiver finds the end of sections that it does not know; then
        the description, so that it can tell them apart before the hand-over. QEMU stops at EOF.
        """
        return self.records + encoder.end_of_stream() + encoder.vm_description(self.description)


def pack_devices(
    guest: Guest, sections: SectionSet, section_ids: dict[tuple[str, int], int]
) -> PackedDevices:
    """Save every section that is not live, in stream order; may run in a worker thread.

    Args:
        guest: Paused.
        sections: Of this migration.
        section_ids: The number of each section, by idstr and instance.
    """
    records = bytearray()
    descriptions = []
    for section in sections:
        with concerning(section):
            if section.is_live or not section.is_needed():
                continue
            body = b"".join(_buffers(sections.complete(section)))
            section_id = section_ids[section.idstr, section.instance_id]
            records += _record(section, section_id, body)
            descriptions.append(
                section.description()
                or opaque_device(section.idstr, section.instance_id, len(body))
            )
    return PackedDevices(bytes(records), compose(guest.machine, guest.page_size, descriptions))


def _buffers(body: Segments) -> Iterator[Buffer]:
    """The segments of a section that goes over the stream alone."""
    for segment in body:
        if isinstance(segment, ChannelWork | FileWork | RemoteWork):
            raise LocalError("a section that is not live has work for other channels, or a file")
        yield segment


def _record(section: Section, section_id: int, body: bytes) -> bytes:
    header = SectionHeader(
        RecordType.SECTION_FULL,
        section_id,
        section.idstr,
        section.instance_id,
        section.version_id,
    )
    return encoder.section_header(header) + body + encoder.section_footer(section_id)
