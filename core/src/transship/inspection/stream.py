"""Reads a stream from its first byte to its last, the way a destination would, and keeps a list.

Live sections are loaded by the sections given, into memory; storage is read over; devices, which
nobody here knows, are found through the description.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from transship.abc.settings import Capability, Settings
from transship.errors import LocalError, MigrationError, StreamError
from transship.guests.scratch import ScratchGuest
from transship.inspection.devices import DeviceReader
from transship.inspection.ram import describe_ram
from transship.inspection.report import DiskEntry, RamEntry, Report, SectionEntry
from transship.wire import encoder
from transship.wire.constants import VERSION, RecordType
from transship.wire.decoder import StreamDecoder
from transship.wire.events import (
    Configuration,
    Header,
    Package,
    SectionFooter,
    SectionHeader,
)
from transship.wire.reader import InFile, Parsing, StreamReader, drive
from transship.wire.storage import (
    BitmapBits,
    BitmapParser,
    BlockChunk,
    BodyEnd,
    read_block_event,
)
from transship.wire.tail import Tail, read_tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from pathlib import Path

    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet

MakeSections: TypeAlias = "Callable[[Guest, Settings], SectionSet]"
"""Makes the sections that load a stream of that layout into that guest."""

FORMAT: Final = "qemu-migration-stream"

RECORDS: Final = 1 << 18
"""Records that a report lists: a migration has some twenty a second for each live section."""

STDIN: Final = "-"


def read_stream(
    path: str | Path,
    sections: MakeSections,
    *,
    max_ram_bytes: int | None = None,
) -> Report:
    """Read a stream.

    Whatever is wrong with it ends in the report. Memory stays below the RAM of the stream that
    is not zero, and a fixed amount.

    Args:
        path: A file, or ``-`` for standard input.
        sections: Makes the sections that load; only live ones are asked.
        max_ram_bytes: How much guest RAM is accepted; as much as this computer has, if None.

    Raises:
        LocalError: The file cannot be read at all.
    """
    with _open(path) as file:
        return inspect_stream(
            file.readinto,
            sections,
            max_ram_bytes=max_ram_bytes,
            file=file if file.seekable() else None,
        )


def inspect_stream(
    readinto: Callable[[memoryview], int | None],
    sections: MakeSections,
    *,
    max_ram_bytes: int | None = None,
    file: FileIO | None = None,
) -> Report:
    """Read a stream from anything that has a ``readinto``; see :func:`read_stream`.

    Args:
        readinto: Fills the view that it is given, and returns how much; 0 is the end.
        sections: See there.
        max_ram_bytes: See there.
        file: What ``readinto`` reads, if pages may be looked for at their places in it.
    """
    guest = ScratchGuest(max_ram_bytes)
    walk = _Walk(guest, sections)
    visit = partial(_visit, walk.reader, file) if file else None
    try:
        drive(walk.stream(), walk.reader, readinto, visit=visit)
        walk.report.complete = True
    except MigrationError as error:
        error.add_context(side="reader", offset=walk.reader.offset, section=walk.reader.section)
        walk.report.fail(error)
    except OSError as error:
        broken = LocalError(f"reading failed: {error}", offset=walk.reader.offset)
        walk.report.fail(broken)
    try:
        walk.describe_ram()
        walk.describe_disks()
        return walk.report
    finally:
        guest.close()


def _visit(reader: StreamReader, file: FileIO, want: InFile) -> None:
    """Let a parser read in the file; offsets in the stream stay places in the file."""
    position = file.tell() - reader.discard()
    place = want.do(file.fileno(), position)
    file.seek(place)
    reader.landed(place - position)


def _open(path: str | Path) -> FileIO:
    is_stdin = str(path) == STDIN
    source = sys.stdin.fileno() if is_stdin else path
    try:
        return open(source, "rb", buffering=0, closefd=not is_stdin)
    except OSError as error:
        raise LocalError(
            f"{path} cannot be read", side="reader", found=error.strerror or str(error)
        ) from error


class _Walk:
    """One reading of one stream.

    Args:
        guest: Takes what is loaded.
        sections: Makes the sections that load.
    """

    def __init__(self, guest: ScratchGuest, sections: MakeSections) -> None:
        self.reader = StreamReader()
        self.report = Report(FORMAT)
        self._guest = guest
        self._make_sections = sections
        self._sections: SectionSet | None = None
        self._bitmaps = BitmapParser()
        self._devices = DeviceReader()

    def stream(self) -> Parsing[None]:
        """Parse the stream.

        Raises:
            MigrationError: It is wrong.
        """
        yield from self._records(StreamDecoder(self.reader))
        if not (yield from self.reader.at_end()):
            raise self._surplus("stream")

    def describe_ram(self) -> None:
        """Add what is in RAM now."""
        if self._sections is not None and self._guest.ram_blocks():
            blocks = describe_ram(self._guest, self._sections, is_final=self.report.complete)
            self.report.ram = RamEntry(self._guest.page_size, blocks)

    def describe_disks(self) -> None:
        """Add the disks of which something came."""
        self.report.disks = [DiskEntry(one.name, one.size_bytes) for one in self._guest.disks()]

    def _records(self, decoder: StreamDecoder, end: int | None = None) -> Parsing[None]:
        """Parse a stream, or a package that ends at ``end``."""
        while end is None or self.reader.offset < end:
            match event := (yield from decoder.next_event()):
                case None:
                    return
                case Header():
                    self.report.version = VERSION
                case Configuration():
                    self.report.machine = event.machine
                    self._guest.configure(event)
                    self._sections = self._make_sections(self._guest, self._layout(event))
                case Package():
                    inner = StreamDecoder(self.reader, decoder)
                    inner_end = self.reader.offset + event.length
                    with self.reader.bounded(event.length):
                        yield from self._records(inner, inner_end)
                    if self.reader.offset < inner_end:
                        raise self._surplus("package")
                case SectionHeader(kind=RecordType.SECTION_FULL):
                    # Their description ends the stream, or the package.
                    tail = yield from read_tail(self.reader, event)
                    self._list_devices(tail, event)
                    return
                case SectionHeader():
                    yield from self._section(event)
                case SectionFooter():
                    last = self.report.sections[-1]
                    last.length = self.reader.offset - (last.offset or 0)

    def _layout(self, configuration: Configuration) -> Settings:
        names = frozenset(configuration.capabilities)
        if names - {Capability.MAPPED_RAM}:
            raise StreamError(
                "a layout that inspect does not read",
                section="configuration",
                offset=configuration.offset,
                expected=f"no capability that changes the layout but {Capability.MAPPED_RAM.value}",
                found=", ".join(configuration.capabilities),
            )
        return Settings(names)

    def _surplus(self, what: str) -> StreamError:
        self.reader.section = None
        return self.reader.error(
            f"something follows in a {what} that has ended",
            expected=f"the end of the {what}",
            found="more bytes",
        )

    def _section(self, header: SectionHeader) -> Parsing[None]:
        self._list(header)
        section = self._sections.find(header.idstr, header.instance_id) if self._sections else None
        if header.idstr == "dirty-bitmap":  # there is no disk here that it could belong to
            yield from self._bitmap_body()
        elif self._sections is not None and section is not None:
            if not section.minimum_version_id <= header.version_id <= section.version_id:
                raise self.reader.error(
                    "unsupported section version",
                    offset=header.offset,
                    expected=f"{section.minimum_version_id} to {section.version_id}",
                    found=str(header.version_id),
                )
            yield from self._sections.load(section, header, self.reader)
        elif header.idstr == "block":
            yield from self._block_body()
        else:
            known = [one.idstr for one in self._sections or () if one.is_live]
            raise self.reader.error(
                f"nothing here reads section {header.idstr!r}",
                offset=header.offset,
                expected=" or ".join([*known, "block", "dirty-bitmap"]),
                found=repr(header.idstr),
                hint=f"is transship-{header.idstr} installed?",
            )

    def _block_body(self) -> Parsing[None]:
        while not isinstance(event := (yield from read_block_event(self.reader)), BodyEnd):
            if isinstance(event, BlockChunk):
                yield from self.reader.drop(event.size)

    def _bitmap_body(self) -> Parsing[None]:
        next_event = self._bitmaps.next_event
        while not isinstance(event := (yield from next_event(self.reader)), BodyEnd):
            if isinstance(event, BitmapBits):
                yield from self.reader.drop(event.size)

    def _list_devices(self, tail: Tail, first: SectionHeader) -> None:
        offset = first.offset
        for record in tail.records:
            header = SectionHeader(
                RecordType.SECTION_FULL,
                record.section_id,
                record.idstr,
                record.instance_id,
                record.version_id,
                offset,
            )
            self._list(header)
            body = offset + len(encoder.section_header(header))
            offset = body + len(record.body) + len(encoder.section_footer(record.section_id))
            self.report.sections[-1].length = offset - header.offset
            try:
                self.report.devices.append(self._devices.read(record))
            except MigrationError as error:
                # The error counts from the body's start.
                error.offset = body + (error.offset or 0)
                raise

    def _list(self, header: SectionHeader) -> None:
        if len(self.report.sections) == RECORDS:
            raise self.reader.error(
                "more records than a report lists",
                offset=header.offset,
                expected=f"at most {RECORDS} records",
                found="one more",
            )
        entry = SectionEntry(
            header.idstr,
            header.instance_id,
            header.version_id,
            header.section_id,
            header.kind.name.removeprefix("SECTION_").lower(),
            header.offset,
            None,
        )
        self.report.sections.append(entry)
