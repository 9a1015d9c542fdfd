"""A checkpoint, inspected."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from capture_files import capture

from transship.abc import DeviceRecord, SectionSet, Settings
from transship.guests.stored import StoredGuest
from transship.inspection import read_checkpoint, render
from transship.inspection.stream import MakeSections, inspect_stream
from transship.wire.constants import RecordType
from transship.wire.decoder import StreamDecoder
from transship.wire.events import Configuration, SectionHeader
from transship.wire.reader import Parsing, StreamReader, drive
from transship.wire.tail import read_tail

TEXT = (
    '{"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2, '
    '"fields": [{"name": "ticks", "type": "uint16", "size": 2}]}'
)


async def make(directory: Path, body: bytes = b"\x01\x02", *, commit: bool = True) -> StoredGuest:
    guest = StoredGuest.create(directory)
    guest.configure(Configuration("pc-q35-10.0"))
    block = guest.attach_ram_block("pc.ram", 8 * 4096)
    block.reserve(2, 1)
    with block.view as view:
        view[2 * 4096 : 3 * 4096] = b"x" * 4096
    guest.add_device_records([DeviceRecord("timer", 0, 2, 5, body, TEXT)])
    await guest.prepare()
    if commit:
        await guest.commit()
    return guest


async def test_checkpoint_is_reported_with_the_same_keys_as_a_stream(tmp_path: Path) -> None:
    guest = await make(tmp_path / "guest")
    report = read_checkpoint(guest.path)
    contents = bytes(2 * 4096) + b"x" * 4096 + bytes(5 * 4096)
    assert report.as_json() == {
        "format": "transship-checkpoint",
        "machine": "pc-q35-10.0",
        "version": 1,
        "sections": [
            {
                "idstr": "timer",
                "instance_id": 0,
                "version_id": 2,
                "section_id": 5,
                "kind": "full",
                "offset": None,
                "length": 2,
            }
        ],
        "ram": {
            "page_size": 4096,
            "blocks": [
                {
                    "idstr": "pc.ram",
                    "used_length": 8 * 4096,
                    "sha256": hashlib.sha256(contents).hexdigest(),
                    "pages": {"total": 8, "stored": 1},
                }
            ],
        },
        "devices": [
            {
                "idstr": "timer",
                "instance_id": 0,
                "version_id": 2,
                "fields": {"ticks": 258},
                "subsections": [],
            }
        ],
        "disks": [],
        "complete": True,
        "error": None,
    }
    assert "complete  yes" in render(report)


async def test_unconfirmed_checkpoint_is_shown_and_not_complete(tmp_path: Path) -> None:
    guest = await make(tmp_path / "guest", commit=False)
    await guest.keep_unconfirmed()
    report = read_checkpoint(guest.path)
    assert report.devices
    assert not report.complete
    assert "unconfirmed" in render(report)


async def test_device_that_does_not_fit_its_description_is_named(tmp_path: Path) -> None:
    guest = await make(tmp_path / "guest", b"\x01\x02\x03")
    report = read_checkpoint(guest.path)
    assert not report.complete
    assert report.error
    assert report.error["section"] == "timer"
    json.dumps(report.as_json())


def test_folder_that_is_no_checkpoint_is_reported(tmp_path: Path) -> None:
    report = read_checkpoint(tmp_path)
    assert not report.complete
    assert report.error
    assert "machine.json" in str(report.error["expected"])
    assert "no checkpoint" in render(report)


@pytest.mark.parametrize("name", ["q10-pc-tcg-boot.mig", "q72-pc-tcg-boot.mig"])
async def test_stream_and_the_checkpoint_made_of_it_say_the_same(
    ram_sections: MakeSections, tmp_path: Path, name: str
) -> None:
    data = capture(name)
    guest = StoredGuest.create(tmp_path / "guest")
    reader = StreamReader()
    drive(receive(guest, ram_sections, reader), reader, io.BytesIO(data).readinto)
    await guest.prepare()
    await guest.commit()
    stream = inspect_stream(io.BytesIO(data).readinto, ram_sections)
    stored = read_checkpoint(tmp_path / "guest")
    assert stored.complete
    assert stored.machine == stream.machine
    assert stored.devices == stream.devices
    assert stored.ram
    assert stream.ram
    assert [(one.idstr, one.sha256) for one in stored.ram.blocks] == [
        (one.idstr, one.sha256) for one in stream.ram.blocks
    ]
    assert (tmp_path / "guest/vmdesc.json").read_bytes() == data[-len(guest.description or b"") :]
    ram = next(block for block in stored.ram.blocks if block.idstr == "pc.ram")
    assert ram.pages["stored"] < 80


def receive(guest: StoredGuest, sections: MakeSections, reader: StreamReader) -> Parsing[None]:
    """What the engine does with a stream that it receives."""
    decoder = StreamDecoder(reader)
    live: SectionSet | None = None
    while True:
        match event := (yield from decoder.next_event()):
            case Configuration():
                guest.configure(event)
                live = sections(guest, Settings())
            case SectionHeader(kind=RecordType.SECTION_FULL):
                tail = yield from read_tail(reader, event)
                guest.add_device_records(tail.records)
                guest.set_description(tail.description)
                return
            case SectionHeader():
                assert live
                section = live.find(event.idstr, event.instance_id)
                assert section
                yield from live.load(section, event, reader)
