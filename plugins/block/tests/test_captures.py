"""Streams recorded from real QEMUs: their disks and dirty bitmaps."""

from __future__ import annotations

import io
import lzma
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from block_helpers import DiskGuest

from transship.abc import Settings
from transship.wire.constants import RecordType
from transship.wire.decoder import StreamDecoder
from transship.wire.events import SectionHeader
from transship.wire.limits import KIB, MIB
from transship.wire.reader import Parsing, StreamReader, drive
from transship_block._bitmaps import BitmapSection
from transship_block._block import BlockSection

if TYPE_CHECKING:
    from transship.abc import Section

FOLDER = Path(
    os.environ.get("TRANSSHIP_CAPTURES") or Path(__file__).parents[3] / "tests" / "captures"
)
SIZE = 3 * MIB + 512 * KIB


def test_captures_are_there() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"no recorded streams in {FOLDER}; TRANSSHIP_CAPTURES names another folder")


def read_sections(name: str, *sections: Section) -> None:
    """Load those sections of a recorded stream, and step over all others."""
    path = FOLDER / f"{name}.mig.xz"
    if not path.exists():
        pytest.skip(f"no {path}; TRANSSHIP_CAPTURES names another folder")
    source = io.BytesIO(lzma.decompress(path.read_bytes()))
    by_name = {section.idstr: section for section in sections}
    ended: set[str] = set()

    def parse(reader: StreamReader) -> Parsing[None]:
        decoder = StreamDecoder(reader)
        while ended != set(by_name):
            event = yield from decoder.next_event()
            if not isinstance(event, SectionHeader):
                continue
            if event.idstr == "ram":
                yield from skip_ram(reader)
            else:
                yield from by_name[event.idstr].load(event, reader)  # type: ignore[attr-defined]
            if event.kind is RecordType.SECTION_END and event.idstr in by_name:
                ended.add(event.idstr)

    reader = StreamReader()
    drive(parse(reader), reader, lambda view: source.readinto(view[: 1 << 16]))


def skip_ram(reader: StreamReader) -> Parsing[None]:
    """Step over a record of a RAM of 4 KiB pages, without XBZRLE."""
    while not (word := (yield from reader.be64())) & 0x10:
        if word & 0x04:
            total = word & ~0xFFF
            while total > 0:
                yield from reader.counted_string()
                total -= yield from reader.be64()
            continue
        if not word & 0x20:
            yield from reader.counted_string()
        yield from reader.drop(4096 if word & 0x08 else 1)


def test_disk_of_a_recorded_block_migration_is_read_completely() -> None:
    guest = DiskGuest({"disk0": b"\7" * SIZE}, is_active=False)
    section = BlockSection(guest, Settings())
    read_sections("q72-pc-block", section)
    expected = bytearray(SIZE)
    expected[MIB : MIB + 64] = b"QEMUDATA" * 8
    expected[3 * MIB : 3 * MIB + 32] = b"TAIL" * 8
    assert guest.contents()["disk0"] == bytes(expected)
    assert guest.devices_of["disk0"].flushes == 1


def test_recorded_dirty_bitmaps_are_read_exactly() -> None:
    guest = DiskGuest({"disk0": bytes(SIZE)}, is_active=False)
    section = BitmapSection(guest, Settings())
    read_sections("q10-pc-dirty-bitmap", section)
    bitmaps = guest.disks()[0].bitmaps
    assert {name: bitmap.granularity_bytes for name, bitmap in bitmaps.items()} == {
        "bm0": 64 * KIB,
        "bm1": 4 * KIB,
    }
    for bitmap in bitmaps.values():
        each = bitmap.granularity_bytes
        written = {64 * KIB // each, *range(MIB // each, (MIB + 128 * KIB) // each)}
        assert {page for run in bitmap.bits.runs() for page in range(run.first, run.end)} == written
        assert bitmap.is_enabled
    assert section.statistics() == {"bitmaps": 2, "dropped": 0}
