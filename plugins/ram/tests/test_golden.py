"""Streams kept for ever load to the state that they always had."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ram_helpers import OpenGuest, ram_section

from transship.wire.decoder import StreamDecoder
from transship.wire.events import SectionHeader
from transship.wire.reader import Parsing, StreamReader, drive

if TYPE_CHECKING:
    from transship_ram._section import RAMSection

STREAMS = sorted((Path(__file__).parent / "golden").glob("*/*.mig.xz"))


def load_all(section: RAMSection, reader: StreamReader) -> Parsing[None]:
    decoder = StreamDecoder(reader)
    while event := (yield from decoder.next_event()):
        if isinstance(event, SectionHeader):
            assert event.idstr == "ram"
            yield from section.load(event, reader)


def test_golden_streams_are_there() -> None:
    assert {path.name for path in STREAMS} >= {"all-kinds.mig.xz", "three-rounds.mig.xz"}


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_golden_stream_loads_to_its_state(path: Path, step: int) -> None:
    data = lzma.decompress(path.read_bytes())
    expected = json.loads(path.with_name(path.name.replace(".mig.xz", ".json")).read_text())
    assert hashlib.sha256(data).hexdigest() == expected["stream_sha256"]

    source = io.BytesIO(data)
    guest = OpenGuest()
    reader = StreamReader()
    parsing = load_all(ram_section(guest), reader)
    drive(parsing, reader, lambda view: source.readinto(view[:step]))

    state = {
        idstr: {"used_length": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for idstr, content in guest.contents().items()
    }
    assert state == expected["blocks"]
