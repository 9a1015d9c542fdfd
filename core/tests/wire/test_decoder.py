"""The envelope: events from bytes, bytes from events, and every way in which bytes can be wrong."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from transship.errors import StreamError
from transship.wire import encoder
from transship.wire.constants import CommandType, RecordType
from transship.wire.decoder import StreamDecoder
from transship.wire.events import (
    Command,
    Configuration,
    EndOfStream,
    Event,
    Header,
    Package,
    SectionFooter,
    SectionHeader,
    VMDescription,
)
from transship.wire.limits import CAPABILITIES, DESCRIPTION_BYTES, MACHINE_NAME_BYTES, PACKAGE_BYTES
from transship.wire.reader import StreamReader, drive

PC = bytes.fromhex("5145564d00000003070000000e70632d6934343066782d31302e30")
START = encoder.section_header(SectionHeader(RecordType.SECTION_START, 1, "ram", 0, 4))
FOOTER = encoder.section_footer(1)


def one_at_a_time(data: bytes) -> Callable[[memoryview], int]:
    file = io.BytesIO(data)
    return lambda view: file.readinto(view[:1])


def whole(data: bytes) -> Callable[[memoryview], int]:
    return io.BytesIO(data).readinto


@pytest.fixture(params=[whole, one_at_a_time])
def feed(request: pytest.FixtureRequest) -> Callable[[bytes], Callable[[memoryview], int]]:
    return request.param  # type: ignore[no-any-return]


def decode(
    data: bytes, feed: Callable[[bytes], Callable[[memoryview], int]] = whole
) -> list[Event]:
    """All events of a stream whose section bodies are empty."""
    reader = StreamReader()
    decoder = StreamDecoder(reader)
    readinto = feed(data)
    events = []
    while (event := drive(decoder.next_event(), reader, readinto)) is not None:
        events.append(event)
    return events


Feed = Callable[[bytes], Callable[[memoryview], int]]


def test_decoder_reads_the_first_bytes_of_a_pc_machine(feed: Feed) -> None:
    events = decode(PC + b"\x00", feed)
    assert events == [Header(0), Configuration("pc-i440fx-10.0", offset=8), EndOfStream(27)]


def test_decoder_reads_all_configuration_subsections(feed: Feed) -> None:
    q35 = bytes.fromhex(
        "5145564d00000003070000000b7063 2d7133352d31302e30"
        "051a636f6e66696775726174696f6e2f6361706162696c6974696573"
        "00000001000000010f782d69676e6f72652d736861726564"
        "0512636f6e66696775726174696f6e2f757569640000000100112233445566778899aabbccddeeff"
        "00"
    )
    _, configuration, _ = decode(q35, feed)
    assert configuration == Configuration(
        "pc-q35-10.0",
        capabilities=("x-ignore-shared",),
        uuid=bytes.fromhex("00112233445566778899aabbccddeeff"),
        offset=8,
    )
    assert encoder.stream_header() + encoder.configuration(configuration) == q35[:-1]


def test_decoder_reads_sections_commands_and_description(feed: Feed) -> None:
    stream = (
        PC
        + encoder.command(CommandType.OPEN_RETURN_PATH)
        + encoder.ping(1)
        + START
        + FOOTER
        + encoder.section_header(SectionHeader(RecordType.SECTION_PART, 1, "ram", 0, 4))
        + FOOTER
        + encoder.section_header(SectionHeader(RecordType.SECTION_END, 1, "ram", 0, 4))
        + FOOTER
        + encoder.package_header(7)
        + encoder.end_of_stream()
        + encoder.vm_description(b"{}")
    )
    kinds = [type(event) for event in decode(stream, feed)]
    assert kinds == [
        Header,
        Configuration,
        Command,
        Command,
        SectionHeader,
        SectionFooter,
        SectionHeader,
        SectionFooter,
        SectionHeader,
        SectionFooter,
        Package,
        EndOfStream,
        VMDescription,
    ]


def test_part_and_end_carry_the_name_that_start_gave() -> None:
    part = encoder.section_header(SectionHeader(RecordType.SECTION_PART, 1, "", 0, 0))
    event = decode(PC + START + FOOTER + part + FOOTER + b"\x00")[4]
    assert isinstance(event, SectionHeader)
    assert (event.kind, event.idstr, event.version_id) == (RecordType.SECTION_PART, "ram", 4)


@pytest.mark.parametrize(
    ("stream", "offset", "expected", "found"),
    [
        (b"QEMU\0\0\0\3", 0, "'QEVM'", "0x51454d55"),
        (b"QEVM\0\0\0\2", 4, "3", "2"),
        (PC[:8] + b"\x04", 8, "0x07", "0x04"),
        (PC[:9] + encoder.be32(MACHINE_NAME_BYTES + 1), 9, "at most 256", "257"),
        (PC[:9] + encoder.be32(2**32 - 1), 9, "at most 256", "4294967295"),
        (PC[:9] + encoder.be32(0), 13, "printable", "b''"),
        (PC[:9] + encoder.be32(2) + b"\xff\n", 13, "printable", "xff"),
        (PC + b"\x09", 27, "EndOfStream", "0x09"),
        (PC + b"\x05\x01x", 27, "EndOfStream", "0x05"),
        (PC + FOOTER, 27, "EndOfStream", "0x7e"),
        (PC + encoder.vm_description(b"{}"), 27, "EndOfStream", "VMDescription"),
        (PC + b"\x02\0\0\0\1", 27, "START opened", "id 1"),
        (PC + START + b"\x7d", 44, "0x7e", "0x7d"),
        (PC + START + encoder.section_footer(2), 45, "id 1", "id 2"),
        (PC + START + FOOTER + START, 49, "not used before", "'ram'"),
        (PC + b"\x08\0\0\0\0", 28, "1 to 11", "0"),
        (PC + b"\x08\0\x0c\0\0", 28, "1 to 11", "12"),
        (PC + b"\x08\0\x02\0\x05", 30, "4", "5"),
        (PC + b"\x08\0\x07\0\x04" + encoder.be32(PACKAGE_BYTES + 1), 32, "16777216", "16777217"),
        (
            PC + b"\0\x06" + encoder.be32(DESCRIPTION_BYTES + 1),
            29,
            f"at most {DESCRIPTION_BYTES}",
            str(DESCRIPTION_BYTES + 1),
        ),
        (PC + b"\0\0", 28, "VMDescription", "EndOfStream"),
        (
            PC
            + encoder.subsection_header("configuration/capabilities", 1)
            + encoder.be32(CAPABILITIES + 1),
            59,
            "at most 64",
            "65",
        ),
        (PC + encoder.subsection_header("configuration/colour", 1), 28, "uuid", "colour"),
        (PC + encoder.subsection_header("configuration/uuid", 2), 28, "1", "2"),
        (
            PC + encoder.subsection_header("configuration/target-page-bits", 1) + encoder.be32(63),
            63,
            "10 to 16",
            "63",
        ),
        (PC + b"\x01\0\0\0\1\x02\xff\xfe", 32, "UTF-8", "fffe"),
    ],
)
def test_decoder_refuses_wrong_bytes_and_says_where(
    stream: bytes, offset: int, expected: str, found: str, feed: Feed
) -> None:
    with pytest.raises(StreamError) as caught:
        decode(stream, feed)
    assert caught.value.offset == offset
    assert expected in str(caught.value.expected)
    assert found in str(caught.value.found)


@pytest.mark.parametrize("cut", range(len(PC)))
def test_decoder_refuses_a_stream_that_ends_early(cut: int, feed: Feed) -> None:
    with pytest.raises(StreamError, match="ends early"):
        decode(PC[:cut], feed)


def test_section_that_ended_cannot_go_on() -> None:
    end = encoder.section_header(SectionHeader(RecordType.SECTION_END, 1, "ram", 0, 4))
    with pytest.raises(StreamError, match="not open"):
        decode(PC + START + FOOTER + end + FOOTER + end)


def test_package_refuses_a_record_that_reaches_beyond_it() -> None:
    reader = StreamReader()
    outer = StreamDecoder(reader)
    data = PC + encoder.package_header(3) + START + FOOTER
    readinto = whole(data)
    for _ in range(3):
        drive(outer.next_event(), reader, readinto)
    inner = StreamDecoder(reader, outer)
    with reader.bounded(3), pytest.raises(StreamError, match="beyond the package"):
        drive(inner.next_event(), reader, readinto)


@pytest.mark.parametrize("inner", [encoder.ping(9), encoder.package_header(1)])
def test_package_refuses_commands(inner: bytes) -> None:
    reader = StreamReader()
    outer = StreamDecoder(reader)
    readinto = whole(PC + encoder.package_header(len(inner)) + inner)
    for _ in range(3):
        drive(outer.next_event(), reader, readinto)
    decoder = StreamDecoder(reader, outer)
    with pytest.raises(StreamError, match="may not come in a package") as caught:
        drive(decoder.next_event(), reader, readinto)
    assert caught.value.expected == "SectionHeader or EndOfStream"


names = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=256)


@given(
    machine=names,
    bits=st.integers(10, 16),
    capabilities=st.lists(names.filter(lambda name: len(name) < 256), max_size=5),
    uuid=st.none() | st.binary(min_size=16, max_size=16),
)
def test_configuration_survives_encoding_and_decoding(
    machine: str, bits: int, capabilities: list[str], uuid: bytes | None
) -> None:
    before = Configuration(machine, 1 << bits, tuple(capabilities), uuid, offset=8)
    after = decode(encoder.stream_header() + encoder.configuration(before) + b"\0")[1]
    assert after == before


@given(st.binary(max_size=200))
def test_any_bytes_after_a_header_give_events_or_a_stream_error(data: bytes) -> None:
    try:
        decode(PC + data)
    except StreamError as error:
        assert error.offset is not None
        assert error.expected
        assert error.found


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("16030102", "no migration stream, but TLS; .*set tls-creds at both sides"),
        (b"TSRD".hex(), "no migration stream, but the greeting of rdma:; .*begin with rdma:"),
        ("00000000", "no migration stream; expected .* found 0x00000000$"),
    ],
)
def test_what_comes_in_place_of_a_stream_is_named_if_it_is_known(first: str, words: str) -> None:
    reader = StreamReader()
    with pytest.raises(StreamError, match=words):
        drive(StreamDecoder(reader).next_event(), reader, io.BytesIO(bytes.fromhex(first)).readinto)
