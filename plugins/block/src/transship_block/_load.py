"""The destination's side: what comes of disks, and where it goes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from transship.errors import LocalError, RemoteError
from transship.wire.constants import RecordType
from transship.wire.limits import DISKS
from transship.wire.reader import InThread
from transship.wire.storage import (
    CHUNK_BYTES,
    SECTOR_BYTES,
    BlockChunk,
    BodyEnd,
    read_block_event,
)
from transship_block._chunks import Place
from transship_block._waiting import in_thread
from transship_block._writebehind import WriteBehind

if TYPE_CHECKING:
    from transship.abc import DiskLoad, Guest
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader


class DiskLoader:
    """Loads the disks of one guest, as far as the source sends them.

    Args:
        guest: Whose disks; one is attached when its first chunk comes.

    Attributes:
        has_begun: Whether a record has come.
    """

    def __init__(self, guest: Guest) -> None:
        self.has_begun = False
        self._guest = guest
        self._loads: dict[str, DiskLoad] = {}
        self._buffers: list[memoryview] = []  # fresh memory for each record takes its time
        self._chunks = self._zero_chunks = 0

    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """Parse the body of a record; all of it is written when the parser returns.

        When it is closed instead, what is being written ends before its disk is given up.

        Raises:
            StreamError: A chunk is none, or belongs to no disk here; nothing of it was written.
            LocalError: A disk cannot be written.
        """
        self.has_begun = True
        writer = WriteBehind(self._buffers)
        try:
            while True:
                offset = reader.offset
                event = yield from read_block_event(reader)
                if isinstance(event, BodyEnd):
                    break
                if isinstance(event, BlockChunk):
                    yield from self._chunk(reader, event, offset, writer)
            if not writer.is_idle:
                yield InThread(writer.wait)
        finally:
            writer.close()
        if header.kind is RecordType.SECTION_END:
            self._buffers.clear()
            if self._loads:
                yield InThread(self._flush)

    def statistics(self) -> dict[str, int]:
        """See :meth:`transship_block._block.BlockSection.statistics`."""
        return {
            "total": sum(load.disk.size_bytes for load in self._loads.values()),
            "chunks": self._chunks,
            "zero_chunks": self._zero_chunks,
        }

    def _chunk(
        self, reader: StreamReader, chunk: BlockChunk, offset: int, writer: WriteBehind
    ) -> Parsing[None]:
        load = self._loads.get(chunk.device)
        if load is None:
            load = yield from self._attach(reader, chunk.device, offset)
        disk = load.disk
        place = Place(disk, chunk.sector * SECTOR_BYTES // CHUNK_BYTES)
        length = min(CHUNK_BYTES, disk.device.max_size_bytes - place.offset)
        if length <= 0:
            raise reader.error(
                f"a chunk beyond the end of disk {disk.name!r}",
                offset=offset,
                expected=f"a sector below {-(-disk.device.max_size_bytes // SECTOR_BYTES)}",
                found=f"sector {chunk.sector}",
                hint="the source's disk is larger",
            )
        if not writer.is_ready_for(place):
            yield InThread(partial(writer.make_ready_for, place))
        if chunk.size:
            buffer = writer.buffer()
            yield from reader.fill(buffer)
            writer.write(load, place, length, buffer)
            self._chunks += 1
        else:
            writer.write_zeroes(load, place, length)
            self._zero_chunks += 1

    def _attach(self, reader: StreamReader, name: str, offset: int) -> Parsing[DiskLoad]:
        """The right to fill the guest's disk of that name, which may have to be made."""
        if len(self._loads) >= DISKS:
            raise reader.error(
                "more disks than any machine has",
                offset=offset,
                expected=f"at most {DISKS}",
                found=f"one more, {name!r}",
            )
        try:
            load = yield from in_thread(partial(self._start_load, name))
        except RemoteError as error:
            raise reader.error(
                error.cause,
                offset=offset,
                expected=error.expected,
                found=error.found,
                hint=error.hint,
            ) from error
        self._loads[name] = load
        return load

    def _start_load(self, name: str) -> DiskLoad:
        return self._guest.attach_disk(name).start_load()

    def _flush(self) -> None:
        for name, load in self._loads.items():
            try:
                load.disk.flush()
            except OSError as error:
                raise LocalError(
                    f"disk {name!r} cannot be flushed",
                    section="block",
                    found=error.strerror or str(error),
                ) from error
