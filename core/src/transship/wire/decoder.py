"""Bytes in, events out: the envelope of a stream, with every length checked before it is used.

The bodies of sections are not read here, because only a section knows where its body ends. The
caller reads the body from the same reader between the :class:`SectionHeader` and the next call
of :meth:`StreamDecoder.next_event`, which then insists on the footer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transship.wire.constants import (
    COMMAND_LENGTHS,
    MAGIC,
    VERSION,
    CommandType,
    RecordType,
)
from transship.wire.events import (
    Command,
    Configuration,
    EndOfStream,
    Event,
    Header,
    Package,
    SectionFooter,
    SectionHeader,
    VMDescription,
)
from transship.wire.grammar import GRAMMAR, Place, allowed
from transship.wire.limits import (
    CAPABILITIES,
    DESCRIPTION_BYTES,
    MACHINE_NAME_BYTES,
    PACKAGE_BYTES,
    SECTIONS,
)
from transship.wire.strangers import stranger

if TYPE_CHECKING:
    from transship.wire.reader import Parsing, StreamReader

_CONFIGURATION_PREFIX = b"configuration"


class StreamDecoder:
    """Decodes the envelope of one stream, or of one package.

    Args:
        reader: Where the bytes come from; section bodies are read from it by their sections.
        outer: The decoder of the stream that the package lies in.

    Attributes:
        place: Where in the grammar the stream is.
    """

    def __init__(self, reader: StreamReader, outer: StreamDecoder | None = None) -> None:
        self._reader = reader
        self._sections: dict[int, SectionHeader] = outer._sections if outer else {}
        self._open: SectionHeader | None = None
        self.place = Place.PACKAGE if outer else Place.BEGINNING

    def next_event(self) -> Parsing[Event | None]:
        """Read the next event; None at the end of a stream that has ended properly.

        Raises:
            StreamError: The bytes are no event, or not one that may come here.
        """
        match self.place:
            case Place.BEGINNING:
                event: Event = yield from self._header()
            case Place.HEADED:
                event = yield from self._configuration()
            case Place.BODY | Place.PACKAGE_BODY:
                event = yield from self._footer()
            case Place.DESCRIBED:
                return None
            case Place.ENDED:
                if (yield from self._reader.at_end()):
                    return None
                event = yield from self._record()
            case _:
                event = yield from self._record()
        return self._advance(event)

    def _advance(self, event: Event) -> Event:
        place = GRAMMAR[self.place].get(type(event))
        if place is None:
            raise self._reader.error(
                f"a record may not come {self.place.value}",
                offset=event.offset,
                expected=allowed(self.place),
                found=type(event).__name__,
            )
        self.place = place
        return event

    def _header(self) -> Parsing[Header]:
        offset = self._reader.offset
        magic = yield from self._reader.be32()
        if magic != MAGIC:
            other = stranger(magic.to_bytes(4, "big"))
            raise self._reader.error(
                "this is no migration stream" + (f", but {other.name}" if other else ""),
                offset=offset,
                expected=f"magic {MAGIC:#010x} ('QEVM')",
                found=f"{magic:#010x}",
                hint=other.remedy if other else None,
            )
        version = yield from self._reader.be32()
        if version != VERSION:
            raise self._reader.error(
                "unsupported stream version",
                offset=offset + 4,
                expected=str(VERSION),
                found=str(version),
            )
        return Header(offset)

    def _configuration(self) -> Parsing[Configuration]:
        reader = self._reader
        reader.section = "configuration"
        offset = reader.offset
        record = yield from reader.u8()
        if record != RecordType.CONFIGURATION:
            raise reader.error(
                "the configuration section is missing",
                offset=offset,
                expected=f"record type {int(RecordType.CONFIGURATION):#04x}",
                found=f"{record:#04x}",
            )
        length = yield from reader.be32()
        self._bound("machine type name", length, MACHINE_NAME_BYTES, reader.offset - 4)
        start = reader.offset
        name = yield from reader.take(length)
        if not (length and name.isascii() and name.decode("ascii").isprintable()):
            raise reader.error(
                "the machine type name is not text",
                offset=start,
                expected="printable ASCII",
                found=repr(name[:64]),
            )
        configuration = Configuration(machine=name.decode("ascii"), offset=offset)
        while (yield from self._at_configuration_subsection()):
            configuration = yield from self._configuration_subsection(configuration)
        reader.section = None
        return configuration

    def _at_configuration_subsection(self) -> Parsing[bool]:
        """Whether marker and name at hand open a subsection of the configuration."""
        reader = self._reader
        for count in range(1, len(_CONFIGURATION_PREFIX) + 3):
            yield from reader.ensure(count)
            head = bytes(reader.buffered()[:count])
            if head[0] != RecordType.SUBSECTION:
                return False
            if not _CONFIGURATION_PREFIX.startswith(head[2:]):
                return False
        return True

    def _configuration_subsection(self, before: Configuration) -> Parsing[Configuration]:
        reader = self._reader
        yield from reader.take(1)
        offset = reader.offset
        name = yield from reader.counted_string()
        version = yield from reader.be32()
        if version != 1:
            raise reader.error(
                f"unknown version of {name}", offset=offset, expected="1", found=str(version)
            )
        match name:
            case "configuration/target-page-bits":
                bits = yield from reader.be32()
                if not 10 <= bits <= 16:
                    raise reader.error(
                        "unsupported page size",
                        offset=reader.offset - 4,
                        expected="10 to 16 bits",
                        found=f"{bits} bits",
                    )
                return replace(before, page_size=1 << bits)
            case "configuration/capabilities":
                count = yield from reader.be32()
                self._bound("number of capabilities", count, CAPABILITIES, reader.offset - 4)
                names = []
                for _ in range(count):
                    names.append((yield from reader.counted_string()))
                return replace(before, capabilities=tuple(names))
            case "configuration/uuid":
                return replace(before, uuid=(yield from reader.take(16)))
        raise reader.error(
            "unknown subsection",
            offset=offset,
            expected="target-page-bits, capabilities or uuid",
            found=name,
        )

    def _record(self) -> Parsing[Event]:
        reader = self._reader
        reader.section = None
        offset = reader.offset
        kind = yield from reader.u8()
        match kind:
            case RecordType.EOF:
                return EndOfStream(offset)
            case RecordType.SECTION_START | RecordType.SECTION_FULL:
                return (yield from self._first_header(RecordType(kind), offset))
            case RecordType.SECTION_PART | RecordType.SECTION_END:
                return (yield from self._later_header(RecordType(kind), offset))
            case RecordType.COMMAND:
                return (yield from self._command(offset))
            case RecordType.VMDESCRIPTION:
                length = yield from reader.be32()
                self._bound("description", length, DESCRIPTION_BYTES, offset + 1)
                return VMDescription(bytes((yield from reader.take_large(length))), offset)
        raise reader.error(
            "unknown record type",
            offset=offset,
            expected=allowed(self.place),
            found=f"{kind:#04x}",
        )

    def _first_header(self, kind: RecordType, offset: int) -> Parsing[SectionHeader]:
        reader = self._reader
        section_id = yield from reader.be32()
        idstr = yield from reader.counted_string()
        instance_id = yield from reader.be32()
        version_id = yield from reader.be32()
        header = SectionHeader(kind, section_id, idstr, instance_id, version_id, offset)
        if known := self._sections.get(section_id):
            raise reader.error(
                f"section id {section_id} is taken",
                offset=offset,
                expected="an id not used before",
                found=f"{section_id}, which is {known.idstr!r}",
            )
        if len(self._sections) >= SECTIONS:
            raise reader.error(
                "too many sections", offset=offset, expected=f"at most {SECTIONS}", found="more"
            )
        self._sections[section_id] = header
        return self._enter(header)

    def _later_header(self, kind: RecordType, offset: int) -> Parsing[SectionHeader]:
        section_id = yield from self._reader.be32()
        start = self._sections.get(section_id)
        if start is None or start.kind is not RecordType.SECTION_START:
            raise self._reader.error(
                f"{kind.name} of a section that is not open",
                offset=offset,
                expected="the id of a section that START opened",
                found=f"id {section_id}",
            )
        if kind is RecordType.SECTION_END:
            self._sections[section_id] = replace(start, kind=kind)
        return self._enter(replace(start, kind=kind, offset=offset))

    def _enter(self, header: SectionHeader) -> SectionHeader:
        self._open = header
        self._reader.section = header.idstr
        return header

    def _footer(self) -> Parsing[SectionFooter]:
        reader = self._reader
        offset = reader.offset
        marker = yield from reader.u8()
        if marker != RecordType.SECTION_FOOTER:
            raise reader.error(
                "the section's body does not end where its reader stopped",
                offset=offset,
                expected=f"footer {int(RecordType.SECTION_FOOTER):#04x}",
                found=f"{marker:#04x}",
            )
        section_id = yield from reader.be32()
        if self._open is None or section_id != self._open.section_id:
            raise reader.error(
                "the footer belongs to another section",
                offset=offset + 1,
                expected=f"id {self._open.section_id if self._open else None}",
                found=f"id {section_id}",
            )
        self._open = None
        reader.section = None
        return SectionFooter(section_id, offset)

    def _command(self, offset: int) -> Parsing[Command | Package]:
        reader = self._reader
        number = yield from reader.be16()
        length = yield from reader.be16()
        try:
            command = CommandType(number)
        except ValueError:
            raise reader.error(
                "unknown command",
                offset=offset + 1,
                expected=f"1 to {CommandType.SWITCHOVER_START}",
                found=str(number),
            ) from None
        lengths = COMMAND_LENGTHS.get(command)
        if lengths is not None and length not in lengths:
            raise reader.error(
                f"wrong length of command {command.name}",
                offset=offset + 3,
                expected=" or ".join(map(str, lengths)),
                found=str(length),
            )
        if command is CommandType.PACKAGED:
            size = yield from reader.be32()
            self._bound("package", size, PACKAGE_BYTES, offset + 5)
            return Package(size, offset)
        return Command(command, (yield from reader.take(length)), offset)

    def _bound(self, what: str, value: int, limit: int, offset: int) -> None:
        if value > limit:
            raise self._reader.error(
                f"{what} beyond the limit",
                offset=offset,
                expected=f"at most {limit}",
                found=str(value),
            )
