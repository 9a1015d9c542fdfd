"""Streams made by hand: packages, ends, limits, and everything that can be wrong with them."""

import io
import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest
from capture_files import capture
from hypothesis import HealthCheck, example, given, settings, strategies as st

from transship.errors import LocalError
from transship.inspection import Report, read_stream, render
from transship.inspection.stream import MakeSections, inspect_stream
from transship.plugin.registry import SectionRegistry
from transship.wire import encoder
from transship.wire.constants import CommandType, RecordType
from transship.wire.encoder import be32, be64, counted_string
from transship.wire.events import Configuration, SectionHeader

DAMAGED = [
    *("q10-multifd-none-conn0.bin", "q10-pc-tcg-boot.mig", "q10-pc-xbzrle.mig"),
    *("q10-q35-S.mig", "q72-multifd-none-conn0.bin", "q72-pc-block.mig", "q72-pc-tcg-boot.mig"),
]


HEAD = encoder.stream_header() + encoder.configuration(Configuration("pc-q35-10.0"))


def record(kind: RecordType, section_id: int, body: bytes, idstr: str = "", **ids: int) -> bytes:
    header = SectionHeader(
        kind, section_id, idstr, ids.get("instance_id", 0), ids.get("version_id", 1)
    )
    return encoder.section_header(header) + body + encoder.section_footer(section_id)


def device(section_id: int, idstr: str, body: bytes, **ids: int) -> bytes:
    return record(RecordType.SECTION_FULL, section_id, body, idstr, **ids)


TIMER = (
    '{"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2, "fields": '
    '[{"name": "ticks", "type": "int64", "size": 8}, '
    '{"name": "lines", "array_len": 2, "type": "struct", "struct": {"vmsd_name": "line", '
    '"version": 1, "fields": [{"name": "level", "type": "bool", "size": 1}]}, "size": 1}], '
    '"subsections": [{"vmsd_name": "timer/late", "version": 3, "fields": '
    '[{"name": "by", "type": "uint16", "size": 2}]}]}'
)
TIMER_BODY = be64(2**64 - 5) + b"\x01\x00" + b"\x05\x0atimer/late" + be32(3) + b"\x01\x02"
OLD = (
    '{"name": "old", "instance_id": 7, "size": 3, "fields": '
    '[{"name": "data", "size": 3, "type": "buffer"}]}'
)
DEVICES = device(0, "timer", TIMER_BODY, version_id=2) + device(
    5, "old", b"\x7e\x00\x06", instance_id=7, version_id=0
)
TEXT = f'{{"page_size": 4096, "devices": [{TIMER}, {OLD}]}}'.encode()
TAIL = DEVICES + encoder.end_of_stream() + encoder.vm_description(TEXT)

BLOCK = (
    record(RecordType.SECTION_START, 1, be64(2), "block")
    + record(
        RecordType.SECTION_PART,
        1,
        be64(2048 << 9 | 9) + counted_string("disk") + be64(50 << 9 | 4) + be64(2),
    )
    + record(RecordType.SECTION_END, 1, be64(2))
)
BITMAP = record(
    RecordType.SECTION_START,
    3,
    b"\x1c" + counted_string("disk") + counted_string("bits") + be32(65536) + b"\x01"
    b"\x40" + be64(0) + be32(1024) + be64(8) + bytes(8) + b"\x20\x01",
    "dirty-bitmap",
) + record(RecordType.SECTION_END, 3, b"\x01")
PACKAGE = (
    encoder.command(CommandType.OPEN_RETURN_PATH)
    + encoder.ping(1)
    + encoder.package_header(len(TAIL))
    + TAIL
    + encoder.ping(2)
    + encoder.end_of_stream()
    + encoder.vm_description(TEXT)
)
PLAIN_STREAM = HEAD + BLOCK + BITMAP + TAIL
PACKAGED_STREAM = HEAD + BLOCK + BITMAP + PACKAGE


def inspect(data: bytes) -> Report:
    return inspect_stream(io.BytesIO(data).readinto, lambda guest, settings: SectionRegistry([]))


def check_error(report: Report) -> None:
    """A report of something wrong says what, where, in which section, against what."""
    assert not report.complete
    assert report.error is not None
    for name in ("offset", "section", "expected", "found", "cause"):
        assert report.error[name] not in (None, ""), report.error
    json.dumps(report.as_json(), allow_nan=False)
    assert "complete  no" in render(report)


@pytest.mark.parametrize("data", [PLAIN_STREAM, PACKAGED_STREAM], ids=["plain", "packaged"])
def test_devices_are_read_from_the_stream_or_from_a_package(data: bytes) -> None:
    report = inspect(data)
    assert report.error is None
    assert report.complete
    assert report.machine == "pc-q35-10.0"
    timer, old = report.devices
    assert timer.fields == {"ticks": -5, "lines": [{"level": True}, {"level": False}]}
    assert timer.subsections == [
        {"name": "timer/late", "version": 3, "fields": {"by": 258}, "subsections": []}
    ]
    assert (timer.version_id, old.version_id, old.instance_id) == (2, 0, 7)
    assert old.fields == {"data": "7e0006"}
    for entry in report.sections:
        assert entry.offset is not None
        assert entry.length is not None
        footer = data[entry.offset + entry.length - 5 : entry.offset + entry.length]
        assert footer == encoder.section_footer(entry.section_id)
    assert [entry.kind for entry in report.sections] == [
        *("start", "part", "end"),
        *("start", "end"),
        *("full", "full"),
    ]


def test_report_has_the_documented_keys() -> None:
    report = inspect(PLAIN_STREAM).as_json()
    assert list(report) == [
        *(
            "format",
            "machine",
            "version",
            "sections",
            "ram",
            "devices",
            "disks",
            "complete",
            "error",
        )
    ]
    assert list(report["sections"][0]) == [
        *("idstr", "instance_id", "version_id", "section_id", "kind", "offset", "length")
    ]
    assert list(report["devices"][0]) == [
        *("idstr", "instance_id", "version_id", "fields", "subsections")
    ]


def test_stream_without_devices_needs_no_description() -> None:
    report = inspect(HEAD + BLOCK + encoder.end_of_stream())
    assert report.complete
    assert not report.devices


@pytest.mark.parametrize(
    ("data", "section", "cause"),
    [
        (b"", "envelope", "ends early"),
        (b"QEVM\x00\x00\x00\x02", "envelope", "unsupported stream version"),
        (b"\x7fELF" + bytes(100), "envelope", "no migration stream"),
        (PLAIN_STREAM[:-1], "timer", "no description fits"),
        (PLAIN_STREAM + b"\x00", "envelope", "something follows"),
        (HEAD + DEVICES + encoder.end_of_stream(), "timer", "no description fits"),
        (
            HEAD + record(RecordType.SECTION_START, 9, b"", "vfio"),
            "vfio",
            "nothing here reads section 'vfio'",
        ),
        (HEAD + BLOCK + b"\x2a", "envelope", "unknown record type"),
        (HEAD + encoder.command(CommandType.PACKAGED, be32(2**31)), "envelope", "package beyond"),
        (
            HEAD + encoder.package_header(len(TAIL) + 3) + TAIL + b"\x08\x00\x01",
            "envelope",
            "something follows",
        ),
        (HEAD + encoder.package_header(len(TAIL) - 3) + TAIL, "timer", "no description fits"),
        (
            encoder.stream_header()
            + encoder.configuration(Configuration("pc", capabilities=("x-ignore-shared",)))
            + encoder.end_of_stream(),
            "configuration",
            "layout",
        ),
    ],
)
def test_wrong_stream_is_answered_with_what_is_wrong(data: bytes, section: str, cause: str) -> None:
    report = inspect(data)
    check_error(report)
    assert report.error
    assert report.error["section"] == section
    assert cause in str(report.error["cause"])


@pytest.mark.parametrize("data", [PLAIN_STREAM, PACKAGED_STREAM], ids=["plain", "packaged"])
def test_every_truncation_is_an_error(data: bytes) -> None:
    for length in range(len(data)):
        report = inspect(data[:length])
        if not report.complete:
            check_error(report)
        else:
            # Only after the outer EOF nothing more has to come.
            assert data is PACKAGED_STREAM
            assert length == len(data) - len(encoder.vm_description(TEXT))


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(result)))
        kind = draw(st.sampled_from(["set", "insert", "delete", "double"]))
        piece = draw(st.binary(min_size=1, max_size=8))
        if kind == "set":
            result[place : place + len(piece)] = piece
        elif kind == "insert":
            result[place:place] = piece
        elif kind == "delete":
            del result[place : place + len(piece)]
        else:
            result[place:place] = result[place : place + 40]
    return bytes(result)


@given(st.one_of(mutations(PLAIN_STREAM), mutations(PACKAGED_STREAM)))
@example(PLAIN_STREAM.replace(b"4096", b"null"))
@example(PLAIN_STREAM.replace(b'"fields": [{', b'"fields": 1, "x": [{'))
@settings(max_examples=400, deadline=None)
def test_every_mutation_is_read_or_named(data: bytes) -> None:
    report = inspect(data)
    if not report.complete:
        check_error(report)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_noise_after_the_head_is_never_an_exception(noise: bytes) -> None:
    report = inspect(HEAD + noise)
    if not report.complete:
        check_error(report)


@given(st.data())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damaged_capture_is_read_or_named(ram_sections: MakeSections, data: st.DataObject) -> None:
    damage_capture(capture("q10-q35-S.mig"), ram_sections, data)


@pytest.mark.soak
@pytest.mark.parametrize("name", DAMAGED)
def test_capture_cut_at_hundreds_of_places_is_always_an_error(
    ram_sections: MakeSections, name: str
) -> None:
    whole = capture(name)
    seed = int(os.environ.get("TRANSSHIP_SEED", "1"))
    for length in random.Random(seed).sample(range(len(whole)), 500):
        report = inspect_stream(io.BytesIO(whole[:length]).readinto, ram_sections)
        assert not report.complete, f"{name} cut at {length}"
        check_error(report)


@pytest.mark.soak
@pytest.mark.parametrize("name", DAMAGED)
@given(st.data())
@settings(
    max_examples=2000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_thousands_of_damaged_captures_are_read_or_named(
    ram_sections: MakeSections, name: str, data: st.DataObject
) -> None:
    damage_capture(capture(name), ram_sections, data)


def damage_capture(whole: bytes, sections: MakeSections, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        damaged = data.draw(mutations(whole))
    report = inspect_stream(io.BytesIO(damaged).readinto, sections)
    if not report.complete:
        check_error(report)
        assert report.ram is None or not any(block.sha256 for block in report.ram.blocks)


# Memory.


def test_description_that_asks_for_millions_of_values_is_not_obeyed() -> None:
    count = 8 << 20
    text = (
        '{"page_size": 4096, "devices": [{"name": "huge", "instance_id": 0, "vmsd_name": "huge", '
        f'"version": 1, "fields": [{{"name": "x", "array_len": {count}, "type": "struct", '
        '"struct": {"vmsd_name": "x", "version": 1, "fields": '
        '[{"name": "y", "type": "uint8", "size": 1}]}, "size": 1}]}, '
        f"{TIMER}]}}"
    )
    data = (
        HEAD
        + device(9, "huge", bytes(count))
        + device(0, "timer", TIMER_BODY, version_id=2)
        + encoder.end_of_stream()
        + encoder.vm_description(text.encode())
    )
    tracemalloc.start()
    try:
        report = inspect(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.complete
    assert [entry.fields is None for entry in report.devices] == [True, False]
    assert peak < 64 << 20


def test_more_records_than_a_report_lists_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship.inspection.stream.RECORDS", 100)
    part = record(RecordType.SECTION_PART, 1, be64(2))
    start = record(RecordType.SECTION_START, 1, be64(2), "block")
    report = inspect(HEAD + start + part * 99 + encoder.end_of_stream())
    assert report.complete
    assert len(report.sections) == 100
    report = inspect(HEAD + start + part * 100 + encoder.end_of_stream())
    check_error(report)
    assert report.error
    assert report.error["expected"] == "at most 100 records"


# The way in.


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(PLAIN_STREAM)
    assert read_stream(path, lambda guest, settings: SectionRegistry([])).complete


def test_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stream"
    path.write_bytes(PLAIN_STREAM)
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert read_stream("-", lambda guest, settings: SectionRegistry([])).complete
        assert not file.closed


def test_path_that_cannot_be_read_is_an_error_at_once(tmp_path: Path) -> None:
    for path in [tmp_path, tmp_path / "missing"]:
        with pytest.raises(LocalError, match="cannot be read"):
            read_stream(path, lambda guest, settings: SectionRegistry([]))


def test_disk_that_fails_ends_in_the_report() -> None:
    def broken(view: memoryview) -> int:
        raise OSError(5, "Input/output error")

    check_error(inspect_stream(broken, lambda guest, settings: SectionRegistry([])))
