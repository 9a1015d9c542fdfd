"""Every recorded stream is read to its end, and agrees with a reading written here alone.

``Oracle`` is a second reader, by hand from the format's description: slow, trusting, and without
any of the product's code.
"""

import hashlib
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from capture_files import MAIN_STREAMS, capture

from transship.inspection import Report, render
from transship.inspection.stream import MakeSections, inspect_stream

WITH_ALL_RAM = [
    "q10-pc-tcg-boot.mig",
    "q10-pc-xbzrle.mig",
    "q10-precopy-rp-conn0-fwd.bin",
    "q10-q35-S.mig",
    "q72-pc-tcg-boot.mig",
]
MACHINES = {"q10-q35": "pc-q35-10.0", "q10": "pc-i440fx-10.0", "q72": "pc-i440fx-7.2"}

Leaf = tuple[tuple[str, ...], Any]


def inspect(data: bytes, sections: MakeSections) -> Report:
    return inspect_stream(io.BytesIO(data).readinto, sections)


@pytest.mark.parametrize("name", MAIN_STREAMS)
def test_main_stream_is_read_to_the_end(ram_sections: MakeSections, name: str) -> None:
    data = capture(name)
    report = inspect(data, ram_sections)
    assert report.error is None
    assert report.complete
    assert report.version == 3
    expected = next(machine for prefix, machine in MACHINES.items() if name.startswith(prefix))
    assert report.machine == expected
    # Records lie one after the other; what is between them are commands.
    end = 13 + len(expected)
    for entry in report.sections:
        assert entry.offset is not None
        assert entry.length is not None
        assert 0 <= entry.offset - end <= 20
        end = entry.offset + entry.length
    assert data[end] == 0
    assert len(data) == end + 6 + int.from_bytes(data[end + 2 : end + 6], "big")
    json.dumps(report.as_json(), allow_nan=False)
    assert "complete  yes" in render(report)
    assert len(render(report).splitlines()) < 60


@pytest.mark.parametrize("name", MAIN_STREAMS)
def test_devices_agree_with_the_second_reading(ram_sections: MakeSections, name: str) -> None:
    data = capture(name)
    report = inspect(data, ram_sections)
    devices = list(second_reading(data))
    assert len(devices) == len(report.devices) >= 29
    full = [entry for entry in report.sections if entry.kind == "full"]
    for (header, leaves), entry, section in zip(devices, report.devices, full, strict=True):
        assert header == (section.section_id, entry.idstr, entry.instance_id, entry.version_id)
        assert entry.fields is not None
        found = [*flatten(entry.fields), *flatten_subsections(entry.subsections)]
        assert found == leaves, entry.idstr


@pytest.mark.parametrize("name", WITH_ALL_RAM)
def test_ram_agrees_with_the_second_reading(ram_sections: MakeSections, name: str) -> None:
    data = capture(name)
    report = inspect(data, ram_sections)
    assert report.ram
    assert report.ram.page_size == 4096
    blocks, counts = Oracle(data).ram()
    assert [block.idstr for block in report.ram.blocks] == list(blocks)
    for block in report.ram.blocks:
        assert block.used_length == len(blocks[block.idstr])
        assert block.sha256 == hashlib.sha256(blocks[block.idstr]).hexdigest()
        assert {kind: count for kind, count in block.pages.items() if count} == counts[block.idstr]


@pytest.mark.parametrize("name", [name for name in MAIN_STREAMS if "multifd" in name])
def test_contents_that_came_over_other_channels_have_no_checksum(
    ram_sections: MakeSections, name: str
) -> None:
    report = inspect(capture(name), ram_sections)
    assert report.complete
    assert report.ram
    assert {block.sha256 for block in report.ram.blocks if block.idstr == "pc.ram"} == {None}


def test_storage_sections_are_listed(ram_sections: MakeSections) -> None:
    report = inspect(capture("q72-pc-block.mig"), ram_sections)
    kinds = [entry.kind for entry in report.sections if entry.idstr == "block"]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    data_bytes = sum(entry.length or 0 for entry in report.sections if entry.idstr == "block")
    assert 4 << 20 < data_bytes < 5 << 20
    report = inspect(capture("q10-pc-dirty-bitmap.mig"), ram_sections)
    assert sum(entry.idstr == "dirty-bitmap" for entry in report.sections) > 1000


def test_stream_without_the_ram_plugin_names_what_is_missing(no_sections: MakeSections) -> None:
    report = inspect(capture("q10-q35-S.mig"), no_sections)
    assert not report.complete
    assert report.error
    assert report.error["section"] == "ram"
    assert "transship-ram" in str(report.error["hint"])


def test_ram_beyond_the_limit_is_refused(ram_sections: MakeSections) -> None:
    data = capture("q10-q35-S.mig")
    report = inspect_stream(io.BytesIO(data).readinto, ram_sections, max_ram_bytes=1 << 20)
    assert report.error
    assert report.error["section"] == "ram"
    assert report.error["expected"] == f"at most {1 << 20} bytes of RAM"


# The second reading.


def second_reading(data: bytes) -> Iterator[tuple[tuple[int, str, int, int], list[Leaf]]]:
    """Each device's header and its leaves: the names that lead there, and the value."""
    place = data.rindex(b'"devices": [')
    while True:
        place = data.rindex(b"\x00\x06", 0, place)
        (length,) = struct.unpack_from(">I", data, place + 2)
        if place + 6 + length == len(data):
            break
    text = data[place + 6 :].decode("ascii")
    devices = dict(json.loads(text, object_pairs_hook=list))["devices"]
    described = [dict(device) for device in devices]
    sizes = [device["size"] if "size" in device else body_size(device) for device in described]
    names = [device["name"].encode() for device in described]
    place -= sum(14 + len(name) + size + 5 for name, size in zip(names, sizes, strict=True))
    for device, name, size in zip(described, names, sizes, strict=True):
        kind, section_id, length = struct.unpack_from(">BIB", data, place)
        assert (kind, data[place + 6 : place + 6 + length]) == (4, name)
        instance, version = struct.unpack_from(">II", data, place + 6 + length)
        start = place + 14 + length
        body = io.BytesIO(data[start : start + size])
        leaves = list(leaves_of(device, body, ()))
        assert body.read() == b""
        place = start + size
        assert data[place : place + 5] == b"\x7e" + struct.pack(">I", section_id)
        place += 5
        yield (section_id, device["name"], instance, version), leaves
    assert data[place] == 0


def body_size(description: dict[str, Any]) -> int:
    fields = [dict(field) for field in description["fields"]]
    subsections = [dict(one) for one in description.get("subsections", [])]
    size: int = sum(field["size"] * field.get("array_len", 1) for field in fields)
    return size + sum(6 + len(one["vmsd_name"]) + body_size(one) for one in subsections)


def leaves_of(
    description: dict[str, Any], body: io.BytesIO, path: tuple[str, ...]
) -> Iterator[Leaf]:
    for pairs in description["fields"]:
        field = dict(pairs)
        for _ in range(field.get("array_len", 1)):
            inner = (*path, field["name"])
            if field["type"] == "struct":
                yield from leaves_of(dict(field["struct"]), body, inner)
            elif field["type"] in ("vstruct", "tmp"):
                yield from leaves_of(field, body, inner)
            else:
                raw = body.read(field["size"])
                assert len(raw) == field["size"]
                if raw or "array_len" not in field:
                    yield inner, value_of(field["type"], raw)
    for pairs in description.get("subsections", []):
        one = dict(pairs)
        name = one["vmsd_name"].encode()
        expected = b"\x05" + bytes([len(name)]) + name + struct.pack(">I", one["version"])
        assert body.read(len(expected)) == expected
        yield from leaves_of(one, body, (*path, one["vmsd_name"]))


def value_of(type_name: str, raw: bytes) -> Any:
    kind = type_name.removesuffix(" equal").removesuffix(" le")
    if kind == "bool":
        return raw != b"\x00"
    if kind == "timer":
        return None if raw == b"\xff" * 8 else int.from_bytes(raw, "big")
    if kind == "nullptr":
        return None
    if type_name == "int64 equal" or kind == "CPU_Double_U" or kind.startswith("uint"):
        return int.from_bytes(raw, "big")
    if kind in ("int8", "int16", "int32", "int64"):
        return int.from_bytes(raw, "big", signed=True)
    return raw.hex()


def flatten(value: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    match value:
        case dict():
            for name, one in value.items():
                yield from flatten(one, (*path, name))
        case list():
            for one in value:
                yield from flatten(one, path)
        case _:
            yield path, value


def flatten_subsections(subsections: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    for one in subsections:
        inner = (*path, one["name"])
        yield from flatten(one["fields"], inner)
        yield from flatten_subsections(one["subsections"], inner)


class Oracle:
    """Reads the RAM of a stream without multifd, block migration and bitmaps."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def number(self, size: int) -> int:
        return int.from_bytes(self.file.read(size), "big")

    def name(self) -> str:
        return self.file.read(self.number(1)).decode()

    def ram(self) -> tuple[dict[str, bytearray], dict[str, dict[str, int]]]:
        assert self.file.read(8) == b"QEVM\x00\x00\x00\x03"
        assert self.number(1) == 7
        self.file.read(self.number(4))
        self.blocks: dict[str, bytearray] = {}
        self.counts: dict[str, dict[str, int]] = {}
        while (kind := self.number(1)) != 4:
            if kind == 8:
                self.number(2)
                self.file.read(self.number(2))
            else:
                section = self.number(4)
                if kind == 1:
                    assert (self.name(), self.number(8)) == ("ram", 4)
                self.body()
                assert (self.number(1), self.number(4)) == (0x7E, section)
        return self.blocks, self.counts

    def body(self) -> None:
        while (word := self.number(8)) != 0x10:
            flags, offset = word & 0xFFF, word & ~0xFFF
            if flags == 4:
                while offset:
                    name, length = self.name(), self.number(8)
                    self.blocks[name] = bytearray(length)
                    self.counts[name] = {}
                    offset -= length
            elif flags != 0x200:
                if not flags & 0x20:
                    self.block = self.name()
                self.page(flags & ~0x20, offset)

    def page(self, flags: int, offset: int) -> None:
        ram, counts = self.blocks[self.block], self.counts[self.block]
        kind = {2: "duplicate", 8: "normal", 0x40: "xbzrle"}[flags]
        counts[kind] = counts.get(kind, 0) + 1
        if kind == "duplicate":
            assert self.number(1) == 0
            ram[offset : offset + 4096] = bytes(4096)
        elif kind == "normal":
            ram[offset : offset + 4096] = self.file.read(4096)
        else:
            assert self.number(1) == 1
            end = self.number(2) + self.file.tell()
            while self.file.tell() < end:
                offset += self.uleb()
                count = self.uleb()
                ram[offset : offset + count] = self.file.read(count)
                offset += count

    def uleb(self) -> int:
        low = self.number(1)
        return low if low < 0x80 else low & 0x7F | self.number(1) << 7
