"""What the tests of the RAM section share: guests, and both ends driven without any I/O."""

from __future__ import annotations

import io
import mmap
from typing import TYPE_CHECKING, NamedTuple

from transship.abc import Capability, ChannelWork, FileWork, Parameters, RemoteWork, Settings
from transship.memory.ramblock import RAMBlock
from transship.testing.guests import FakeGuest
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader
from transship.wire.reader import StreamReader, drive
from transship_ram._section import RAMSection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.abc import Guest, Segments
    from transship.buffers import Buffer

PAGE = 4096
EOS = bytes.fromhex("0000000000000010")

MEM_SIZE, ZERO, FULL, END, CONTINUE = 0x004, 0x002, 0x008, 0x010, 0x020
XBZRLE, HOOK, COMPRESS, FLUSH = 0x040, 0x080, 0x100, 0x200


class OpenGuest(FakeGuest):
    """Becomes whatever the stream says: each block is made when it is attached.

    Args:
        page_size: Bytes of a page.
        filling: The byte that blocks are full of before they are attached; fresh memory, if none.
    """

    accepts_any = True

    def __init__(self, page_size: int = PAGE, filling: int | None = None) -> None:
        self._filling = filling
        super().__init__({}, is_running=False, page_size=page_size)
        self._made: list[RAMBlock] = []

    def ram_blocks(self) -> Sequence[RAMBlock]:
        return self._made

    def attach_ram_block(self, idstr: str, used_length: int) -> RAMBlock:
        block = RAMBlock.anonymous(idstr, used_length, page_size=self.page_size)
        if self._filling is not None:
            block.view[:] = bytes([self._filling]) * used_length
        self._made.append(block)
        return block

    def contents(self) -> dict[str, bytes]:
        return {block.idstr: bytes(block.view) for block in self._made}


def ram_section(guest: Guest) -> RAMSection:
    """The section of a migration with nothing set."""
    return RAMSection(guest, Settings())


def xbzrle_section(guest: Guest, cache_pages: int = 1 << 14, page_size: int = PAGE) -> RAMSection:
    """The section of a migration with XBZRLE, and a cache of so many pages."""
    return RAMSection(guest, xbzrle_settings(cache_pages * page_size))


def xbzrle_settings(cache_bytes: int) -> Settings:
    parameters = Parameters(xbzrle_cache_bytes=cache_bytes)
    return Settings(frozenset({Capability.XBZRLE}), parameters)


class EndedElsewhereError(Exception):
    """The parser of a body did not stop where the test thought that it ends."""


class Saved(NamedTuple):
    """What a generator of segments gave: its bytes, and its result."""

    body: bytes
    is_through: bool


def collect(segments: Segments, meanwhile: Callable[[], object] = lambda: None) -> Saved:
    """Pull all segments as an engine does: each is read only after two more were asked for.

    Args:
        segments: Of one record.
        meanwhile: Called between two segments.
    """
    body = bytearray()
    borrowed: list[Buffer] = []
    while True:
        try:
            segment = next(segments)
        except StopIteration as stop:
            return Saved(bytes(body + b"".join(borrowed)), stop.value)
        assert not isinstance(segment, ChannelWork | FileWork | RemoteWork)
        borrowed.append(segment)
        if len(borrowed) == 3:
            body += borrowed.pop(0)
        meanwhile()


def saved_records(
    section: RAMSection, rounds: int, budget_bytes: int, meanwhile: Callable[[], object]
) -> list[bytes]:
    """The bodies of START, of so many PARTs, and of END, while the guest goes on."""
    bodies = [collect(section.begin()).body]
    for _ in range(rounds):
        section.pending(exact=True)
        bodies.append(collect(section.iterate(budget_bytes), meanwhile).body)
    bodies.append(collect(section.complete()).body)
    return bodies


def load(section: RAMSection, *bodies: bytes, step: int = 1 << 20, offset: int = 0) -> StreamReader:
    """Load bodies, one record each, reading ``step`` bytes at a time.

    Raises:
        StreamError: One is wrong.
        EndedElsewhereError: One is legal, but longer or shorter than the bytes given.
    """
    source = io.BytesIO(b"".join(bodies))
    reader = StreamReader(offset=offset)
    reader.section = "ram"

    def readinto(target: memoryview) -> int:
        return source.readinto(target[:step])

    end = offset
    for number, body in enumerate(bodies):
        kind = RecordType.SECTION_PART if number else RecordType.SECTION_START
        header = SectionHeader(kind, 1, "ram", 0, 4)
        drive(section.load(header, reader), reader, readinto)
        end += len(body)
        if reader.offset != end:
            raise EndedElsewhereError(f"the parser stopped at {reader.offset}, the body at {end}")
    return reader


def word(value: int) -> bytes:
    return value.to_bytes(8, "big")


def name(text: str) -> bytes:
    return bytes([len(text.encode())]) + text.encode()


def table(blocks: dict[str, int]) -> bytes:
    """A START body for blocks of those lengths."""
    entries = (name(idstr) + word(length) for idstr, length in blocks.items())
    return word(sum(blocks.values()) | MEM_SIZE) + b"".join(entries) + EOS


def record(offset: int, flags: int, content: bytes = b"", block: str | None = None) -> bytes:
    """A page record; without a block's name it continues the one before."""
    if block is None:
        return word(offset | flags | CONTINUE) + content
    return word(offset | flags) + name(block) + content


def xbzrle(delta: bytes) -> bytes:
    """The content of an XBZRLE record."""
    return b"\1" + len(delta).to_bytes(2, "big") + delta


def page(value: int) -> bytes:
    return bytes([value]) * PAGE


def fenced_block(idstr: str, pages: int, fence: int = 0xEE) -> tuple[RAMBlock, mmap.mmap]:
    """A block in the middle of a mapping, of which the rest must never change."""
    mapping = mmap.mmap(-1, (pages + 4) * PAGE)
    mapping[pages * PAGE :] = bytes([fence]) * (4 * PAGE)
    return RAMBlock(idstr, mapping, pages * PAGE), mapping
