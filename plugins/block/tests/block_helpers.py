"""What the tests of the disk sections share: disks of plain memory, and guests that have them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from transship.abc import BlockDevice, Capability, Disk, Extent, Parameters, Settings
from transship.testing import FakeGuest
from transship.testing.carrying import collect
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader
from transship.wire.reader import StreamReader, drive
from transship.wire.storage import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transship.abc import Section
    from transship.buffers import Buffer

EOS = bytes.fromhex("0000000000000002")


class MemoryDevice(BlockDevice):
    """Bytes in memory, with a fence on either side that nothing may write to.

    Attributes:
        reads: How often it was read.
        flushes: How often it was flushed.
        holes: Chunks that it says are zero.
        unallocated: Chunks that it says it has from a base.
        refuses_writes: Whether it is full.
        refuses_reads: Whether it is broken.
    """

    FENCE = b"\xee" * 4096

    def __init__(self, content: bytes) -> None:
        self._bytes = bytearray(self.FENCE + content + self.FENCE)
        self._size = len(content)
        self.reads = self.flushes = 0
        self.holes: set[int] = set()
        self.unallocated: set[int] = set()
        self.refuses_writes = self.refuses_reads = False

    @property
    def size_bytes(self) -> int:
        return self._size

    @property
    def content(self) -> bytes:
        return bytes(self._bytes[4096 : 4096 + self._size])

    def has_whole_fences(self) -> bool:
        return self._bytes[:4096] == self.FENCE and self._bytes[-4096:] == self.FENCE

    def read_into(self, offset: int, target: memoryview) -> None:
        assert 0 <= offset <= offset + len(target) <= self._size
        if self.refuses_reads:
            raise OSError(5, "Input/output error")
        self.reads += 1
        target[:] = self._bytes[4096 + offset : 4096 + offset + len(target)]

    def write(self, offset: int, data: Buffer) -> None:
        assert 0 <= offset <= offset + len(data) <= self._size
        if self.refuses_writes:
            raise OSError(28, "No space left on device")
        self._bytes[4096 + offset : 4096 + offset + len(data)] = data

    def flush(self) -> None:
        self.flushes += 1

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        while length:
            number = offset // CHUNK_BYTES
            step = min(CHUNK_BYTES - offset % CHUNK_BYTES, length)
            yield Extent(offset, step, number not in self.unallocated, number in self.holes)
            offset, length = offset + step, length - step


class DiskGuest(FakeGuest):
    """A guest that has disks, and no RAM.

    Args:
        disks: Their contents, by name.
        is_active: Whether it may write to them.
    """

    def __init__(self, disks: dict[str, bytes], *, is_active: bool = True) -> None:
        super().__init__({}, is_running=is_active)
        self.devices_of = {name: MemoryDevice(content) for name, content in disks.items()}
        self._disks = [Disk(name, device) for name, device in self.devices_of.items()]
        if is_active:
            for disk in self._disks:
                disk.activate()

    def disks(self) -> Sequence[Disk]:
        return self._disks

    def contents(self) -> dict[str, bytes]:
        return {name: device.content for name, device in self.devices_of.items()}

    def has_whole_fences(self) -> bool:
        fences = [device.has_whole_fences() for device in self.devices_of.values()]
        return super().has_whole_fences() and all(fences)


def block_settings(*capabilities: Capability, is_incremental: bool = False) -> Settings:
    """Of a migration that takes disks along."""
    return Settings(
        frozenset({Capability.BLOCK, *capabilities}), Parameters(block_incremental=is_incremental)
    )


def whole_copy(
    section: Section, budget_bytes: int = 1 << 30, meanwhile: Callable[[int], object] = id
) -> list[bytes]:
    """The bodies of START, of PARTs until nothing is left, and of END.

    Args:
        section: Of the source.
        budget_bytes: Of each PART.
        meanwhile: Called after each PART, with its number.
    """
    bodies = [collect(section.begin()).body]  # type: ignore[attr-defined]
    number, is_through = 0, False
    while not is_through:
        part = collect(section.iterate(budget_bytes))  # type: ignore[attr-defined]
        bodies.append(part.body)
        meanwhile(number)
        number += 1
        section.pending(True)  # type: ignore[attr-defined]
        is_through = part.is_through
    bodies.append(collect(section.complete()).body)  # type: ignore[attr-defined]
    return bodies


def load(section: Section, *bodies: bytes, step: int = 1 << 20) -> StreamReader:
    """Load bodies, one record each: START, PARTs and, if there are more than one, END."""
    source = io.BytesIO(b"".join(bodies))
    reader = StreamReader()
    reader.section = section.idstr
    kinds = [RecordType.SECTION_START, *[RecordType.SECTION_PART] * (len(bodies) - 2)]
    kinds += [RecordType.SECTION_END][: len(bodies) - 1]
    end = 0
    for kind, body in zip(kinds, bodies, strict=True):
        header = SectionHeader(kind, 1, section.idstr, 0, 1)
        parsing = section.load(header, reader)  # type: ignore[attr-defined]
        drive(parsing, reader, lambda target: source.readinto(target[:step]))
        end += len(body)
        assert reader.offset == end
    return reader


def word(sector: int, flags: int) -> bytes:
    return (sector << 9 | flags).to_bytes(8, "big")


def named(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


def chunk(name: str, number: int, content: bytes | None) -> bytes:
    """A chunk as it goes over the wire; without content the mark of a zero one."""
    if content is None:
        return word(number * 2048, 0x9) + named(name)
    return word(number * 2048, 0x1) + named(name) + content
