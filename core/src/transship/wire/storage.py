"""Bodies of the storage sections, ``block`` and ``dirty-bitmap``: bytes in, small events out.

And the bytes of the words and chunks that make them up, for whoever sends them.

The parsers stop where bulk data begins: a chunk that carries data is an event that says how much
follows, and the caller reads it from the same reader to wherever it belongs, or drops it, before
it asks for the next event. Nothing here knows a disk.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Final

from transship.wire.limits import MIB

if TYPE_CHECKING:
    from transship.wire.reader import Parsing, StreamReader

SECTOR_BYTES: Final = 512

CHUNK_BYTES: Final = MIB
"""Data of one ``block`` chunk, also of the last one of a disk that ends inside it."""

LAST_SECTOR: Final = (1 << 63) // SECTOR_BYTES - 1
"""Disk offsets are signed numbers of 64 bits."""

GRANULARITY_BYTES: Final = range(SECTOR_BYTES, 1 << 31)
"""Bytes of disk behind one bit of a dirty bitmap; powers of two, QEMU's default is 64 KiB."""

BITMAP_BUFFER_BYTES: Final = 16 * MIB
"""Bits in one ``dirty-bitmap`` chunk: those of 8 TiB of disk at 64 KiB a bit."""

BITMAPS: Final = 4096
"""Dirty bitmaps that one stream may announce; a guest has a few for each disk."""

BITMAP_CHUNK_BYTES: Final = 1024
"""Bits in one chunk, as they are sent."""

BITMAP_ALIGNMENT: Final = 32
"""Bits are sent as so many bytes, or a multiple of it; four words of 64 bits."""


class BlockFlag(IntFlag):
    """Low bits of a word of the ``block`` section; the rest is a sector, or a percentage."""

    DEVICE_BLOCK = 0x01
    EOS = 0x02
    PROGRESS = 0x04
    ZERO_BLOCK = 0x08


class BitmapFlag(IntFlag):
    """What a chunk of the ``dirty-bitmap`` section holds."""

    EOS = 0x01
    ZEROES = 0x02
    BITMAP_NAME = 0x04
    NODE_NAME = 0x08
    START = 0x10
    COMPLETE = 0x20
    BITS = 0x40
    LONG_FLAGS = 0x80


@dataclass(frozen=True, slots=True)
class BlockChunk:
    """1 MiB of a disk.

    Args:
        device: Name of the disk.
        sector: Its first sector, of 512 bytes.
        size: Bytes of data that follow in the stream; 0 when the chunk is all zero.
    """

    device: str
    sector: int
    size: int


@dataclass(frozen=True, slots=True)
class BlockProgress:
    """How much of all disks has been sent once, in percent."""

    percent: int


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """The record's body is through: the footer comes next."""


@dataclass(frozen=True, slots=True)
class BitmapStart:
    """A bitmap follows.

    Args:
        node: Alias of the disk.
        bitmap: Alias of the bitmap.
        granularity: Bytes of disk behind one bit.
        is_enabled: Whether the bitmap records writes.
        is_persistent: Whether it is stored in its image.
    """

    node: str
    bitmap: str
    granularity: int
    is_enabled: bool
    is_persistent: bool


@dataclass(frozen=True, slots=True)
class BitmapBits:
    """A part of a bitmap.

    Args:
        node: Alias of the disk.
        bitmap: Alias of the bitmap.
        first_sector: Where on the disk it begins.
        sectors: How much of the disk it covers.
        size: Bytes of bits that follow in the stream; 0 when all of them are zero.
    """

    node: str
    bitmap: str
    first_sector: int
    sectors: int
    size: int


@dataclass(frozen=True, slots=True)
class BitmapComplete:
    """All of a bitmap has been sent."""

    node: str
    bitmap: str


BlockEvent = BlockChunk | BlockProgress | BodyEnd
BitmapEvent = BitmapStart | BitmapBits | BitmapComplete | BodyEnd


def chunk_head(device: bytes, offset: int, *, is_zero: bool) -> bytes:
    """What precedes the data of a chunk; all of a chunk that is zero.

    Args:
        device: Name of the disk, at most 255 bytes.
        offset: Of the chunk on the disk, in bytes.
        is_zero: Whether no data follows.
    """
    flags = BlockFlag.DEVICE_BLOCK | (BlockFlag.ZERO_BLOCK if is_zero else 0)
    return (offset | flags).to_bytes(8, "big") + bytes([len(device)]) + device


def progress(percent: int) -> bytes:
    """Say how much of all disks has been sent once."""
    return (percent * SECTOR_BYTES | BlockFlag.PROGRESS).to_bytes(8, "big")


BLOCK_EOS: Final = int(BlockFlag.EOS).to_bytes(8, "big")
"""The end of the body of a ``block`` record."""


def read_block_event(reader: StreamReader) -> Parsing[BlockEvent]:
    """Read the next word of a ``block`` body, and the device name where one follows.

    Raises:
        StreamError: Flags or a sector that no sender writes.
    """
    offset = reader.offset
    word = yield from reader.be64()
    flags, sector = word & (SECTOR_BYTES - 1), word // SECTOR_BYTES
    match flags:
        case BlockFlag.EOS if sector == 0:
            return BodyEnd()
        case BlockFlag.PROGRESS if sector <= 100:
            return BlockProgress(sector)
        case BlockFlag.DEVICE_BLOCK:
            size = CHUNK_BYTES
        case _ if flags == BlockFlag.DEVICE_BLOCK | BlockFlag.ZERO_BLOCK:
            size = 0
        case _:
            raise reader.error(
                "a word of the block section has an unknown meaning",
                offset=offset,
                expected="a chunk, a zero chunk, a percentage up to 100, or the end of the body",
                found=f"{word:#018x}",
            )
    if sector > LAST_SECTOR or sector % (CHUNK_BYTES // SECTOR_BYTES):
        raise reader.error(
            "a chunk does not lie where chunks lie",
            offset=offset,
            expected=f"a multiple of {CHUNK_BYTES // SECTOR_BYTES} up to {LAST_SECTOR}",
            found=f"sector {sector}",
        )
    return BlockChunk((yield from reader.counted_string()), sector, size)


BITMAP_EOS: Final = bytes([BitmapFlag.EOS])
"""The end of the body of a ``dirty-bitmap`` record."""


def padded_bits_size(bits: int) -> int:
    """How many bytes so many bits are sent as."""
    return -(-bits // (8 * BITMAP_ALIGNMENT)) * BITMAP_ALIGNMENT


class BitmapWriter:
    """Encodes the chunks of one stream's ``dirty-bitmap`` records.

    A name is sent where it is another than in the chunk before, also across records.
    """

    def __init__(self) -> None:
        self._node: str | None = None
        self._bitmap: str | None = None

    def start(
        self, node: str, bitmap: str, granularity: int, *, is_enabled: bool, is_persistent: bool
    ) -> bytes:
        """Announce a bitmap; see :class:`BitmapStart`."""
        traits = is_enabled | is_persistent << 1
        return self._head(BitmapFlag.START, node, bitmap) + struct.pack(">IB", granularity, traits)

    def bits(self, node: str, bitmap: str, first_sector: int, sectors: int, bits: bytes) -> bytes:
        """A part of a bitmap; see :class:`BitmapBits`.

        Args:
            node: Alias of the disk.
            bitmap: Alias of the bitmap.
            first_sector: Where on the disk it begins.
            sectors: How much of the disk it covers.
            bits: One for each granule, least significant first.
        """
        place = struct.pack(">QI", first_sector, sectors)
        if not any(bits):
            return self._head(BitmapFlag.BITS | BitmapFlag.ZEROES, node, bitmap) + place
        padded = bits.ljust(padded_bits_size(8 * len(bits)), b"\0")
        size = struct.pack(">Q", len(padded))
        return self._head(BitmapFlag.BITS, node, bitmap) + place + size + padded

    def complete(self, node: str, bitmap: str) -> bytes:
        """Say that all of a bitmap has been sent."""
        return self._head(BitmapFlag.COMPLETE, node, bitmap)

    def _head(self, content: int, node: str, bitmap: str) -> bytes:
        flags, names = content, b""
        if node != self._node:
            flags, names = flags | BitmapFlag.NODE_NAME, names + _counted(node)
        if bitmap != self._bitmap:
            flags, names = flags | BitmapFlag.BITMAP_NAME, names + _counted(bitmap)
        self._node, self._bitmap = node, bitmap
        return bytes([flags]) + names


def _counted(name: str) -> bytes:
    raw = name.encode()
    return bytes([len(raw)]) + raw


class BitmapParser:
    """Reads the bodies of one stream's ``dirty-bitmap`` records.

    A chunk that names no disk or no bitmap means those of the chunk before, also across records,
    so one parser serves all records of a stream.
    """

    def __init__(self) -> None:
        self._node: str | None = None
        self._bitmap: str | None = None
        self._started: set[tuple[str, str]] = set()
        self._is_last = False

    def next_event(self, reader: StreamReader) -> Parsing[BitmapEvent]:
        """Read the next chunk, up to its bits.

        Raises:
            StreamError: A chunk that no sender writes.
        """
        if self._is_last:
            self._is_last = False
            return BodyEnd()
        offset = reader.offset
        flags = BitmapFlag((yield from reader.u8()))
        if flags & BitmapFlag.NODE_NAME:
            self._node = yield from reader.counted_string()
        if flags & BitmapFlag.BITMAP_NAME:
            self._bitmap = yield from reader.counted_string()
        content = flags & ~(BitmapFlag.EOS | BitmapFlag.NODE_NAME | BitmapFlag.BITMAP_NAME)
        if not content and flags & BitmapFlag.EOS:
            return BodyEnd()
        self._is_last = bool(flags & BitmapFlag.EOS)
        if self._node is None or self._bitmap is None:
            raise reader.error(
                "a chunk of a dirty bitmap without a name",
                offset=offset,
                expected="names of a disk and a bitmap, here or before",
                found=f"flags {flags:#04x}",
            )
        name = (self._node, self._bitmap)
        match content:
            case BitmapFlag.START:
                return (yield from self._start(reader, name, offset))
            case BitmapFlag.COMPLETE:
                self._check_started(reader, name, offset)
                return BitmapComplete(*name)
            case BitmapFlag.BITS:
                self._check_started(reader, name, offset)
                return (yield from self._bits(reader, name, has_data=True))
            case _ if content == BitmapFlag.BITS | BitmapFlag.ZEROES:
                self._check_started(reader, name, offset)
                return (yield from self._bits(reader, name, has_data=False))
        raise reader.error(
            "a chunk of the dirty-bitmap section has an unknown meaning",
            offset=offset,
            expected="one of start, complete, bits, zero bits and the end of the body",
            found=f"flags {flags:#04x}",
        )

    def _check_started(self, reader: StreamReader, name: tuple[str, str], offset: int) -> None:
        if name not in self._started:
            raise reader.error(
                "a part of a dirty bitmap that was not announced",
                offset=offset,
                expected="a bitmap that START announced",
                found=f"{name[1]!r} of {name[0]!r}",
            )

    def _start(
        self, reader: StreamReader, name: tuple[str, str], offset: int
    ) -> Parsing[BitmapStart]:
        if name in self._started or len(self._started) >= BITMAPS:
            raise reader.error(
                "a dirty bitmap is announced once too often",
                offset=offset,
                expected=f"each bitmap once, at most {BITMAPS} of them",
                found=f"{name[1]!r} of {name[0]!r}",
            )
        granularity = yield from reader.be32()
        if granularity not in GRANULARITY_BYTES or granularity & (granularity - 1):
            raise reader.error(
                "a dirty bitmap has an impossible granularity",
                offset=reader.offset - 4,
                expected=f"a power of two from {SECTOR_BYTES}",
                found=f"{granularity} bytes",
            )
        traits = yield from reader.u8()
        if traits & 0xF8:
            raise reader.error(
                "a dirty bitmap has unknown traits",
                offset=reader.offset - 1,
                expected="bits 0 to 2",
                found=f"{traits:#04x}",
            )
        self._started.add(name)
        return BitmapStart(*name, granularity, bool(traits & 1), bool(traits & 2))

    def _bits(
        self, reader: StreamReader, name: tuple[str, str], *, has_data: bool
    ) -> Parsing[BitmapBits]:
        offset = reader.offset
        first_sector = yield from reader.be64()
        sectors = yield from reader.be32()
        if first_sector + sectors > LAST_SECTOR + 1:
            raise reader.error(
                "a part of a dirty bitmap lies beyond any disk",
                offset=offset,
                expected=f"sectors up to {LAST_SECTOR}",
                found=f"sector {first_sector} and {sectors} more",
            )
        size = 0
        if has_data:
            size = yield from reader.be64()
            if size > BITMAP_BUFFER_BYTES:
                raise reader.error(
                    "a part of a dirty bitmap is too large",
                    offset=reader.offset - 8,
                    expected=f"at most {BITMAP_BUFFER_BYTES} bytes",
                    found=f"{size} bytes",
                )
        return BitmapBits(*name, first_sector, sectors, size)
