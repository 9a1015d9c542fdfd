"""Streams recorded from real QEMUs, loaded up to the END record of RAM."""

from __future__ import annotations

import io
import lzma
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ram_helpers import OpenGuest, ram_section
from slow_stream import SlowStream

from transship.wire.decoder import StreamDecoder
from transship.wire.events import SectionHeader
from transship.wire.reader import Parsing, StreamReader, drive

if TYPE_CHECKING:
    from transship_ram._section import RAMSection

FOLDER = Path(
    os.environ.get("TRANSSHIP_CAPTURES") or Path(__file__).parents[3] / "tests" / "captures"
)
STREAMS = [
    path
    for pattern in ("*.mig.xz", "*-conn0.bin.xz", "*-fwd.bin.xz")
    for path in sorted(FOLDER.glob(pattern))
]


def test_captures_are_there() -> None:
    if not STREAMS:
        pytest.skip(f"no recorded streams in {FOLDER}; TRANSSHIP_CAPTURES names another folder")


def load_ram(section: RAMSection, reader: StreamReader, expected: SlowStream) -> Parsing[None]:
    """Read events; RAM is loaded, the bodies of other sections are stepped over."""
    decoder = StreamDecoder(reader)
    bodies = iter(expected.bodies)
    loaded = 0
    while loaded < len(expected.bodies):
        event = yield from decoder.next_event()
        if not isinstance(event, SectionHeader):
            continue
        if event.idstr == "ram":
            assert reader.offset == next(bodies)[0]
            yield from section.load(event, reader)
            loaded += 1
        else:
            yield from reader.take_large(expected.others[reader.offset] - reader.offset)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.name.split(".")[0])
@pytest.mark.parametrize("step", [1 << 22, 65_536, 509])
def test_recorded_stream_loads_as_the_slow_reader_does(path: Path, step: int) -> None:
    data = lzma.decompress(path.read_bytes())
    expected = SlowStream(data).read()
    source = io.BytesIO(data)
    guest = OpenGuest()
    section = ram_section(guest)
    reader = StreamReader()

    drive(load_ram(section, reader, expected), reader, lambda view: source.readinto(view[:step]))

    assert guest.contents() == {idstr: bytes(block) for idstr, block in expected.blocks.items()}
    counts = {
        (block.idstr, kind): getattr(block.counts, kind)
        for block in section.loaded_blocks
        for kind in ("normal", "duplicate", "xbzrle", "compressed")
    }
    assert {key: count for key, count in counts.items() if count} == expected.counts
