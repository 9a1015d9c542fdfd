"""Bodies of the storage sections: what senders write, and what nobody may."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from transship.errors import StreamError
from transship.wire.encoder import be32, be64, counted_string
from transship.wire.reader import Parsing, StreamReader, drive
from transship.wire.storage import (
    BITMAP_BUFFER_BYTES,
    BITMAPS,
    BLOCK_EOS,
    CHUNK_BYTES,
    LAST_SECTOR,
    BitmapBits,
    BitmapComplete,
    BitmapEvent,
    BitmapParser,
    BitmapStart,
    BitmapWriter,
    BlockChunk,
    BlockEvent,
    BlockProgress,
    BodyEnd,
    chunk_head,
    progress,
    read_block_event,
)

NAMED = counted_string("disk0") + counted_string("backup")
START = b"\x1c" + NAMED + be32(65536) + b"\x03"


def whole(data: bytes) -> Callable[[memoryview], int]:
    return io.BytesIO(data).readinto


def one_at_a_time(data: bytes) -> Callable[[memoryview], int]:
    file = io.BytesIO(data)
    return lambda view: file.readinto(view[:1])


Feed = Callable[[bytes], Callable[[memoryview], int]]


def block_body(reader: StreamReader) -> Parsing[list[BlockEvent]]:
    events: list[BlockEvent] = []
    while True:
        events.append((yield from read_block_event(reader)))
        if isinstance(event := events[-1], BlockChunk):
            yield from reader.drop(event.size)
        if isinstance(event, BodyEnd):
            return events


def bitmap_body(reader: StreamReader, parser: BitmapParser) -> Parsing[list[BitmapEvent]]:
    events: list[BitmapEvent] = []
    while True:
        events.append((yield from parser.next_event(reader)))
        if isinstance(event := events[-1], BitmapBits):
            yield from reader.drop(event.size)
        if isinstance(event, BodyEnd):
            return events


def read_block(data: bytes, feed: Feed = whole) -> list[BlockEvent]:
    reader = StreamReader()
    reader.section = "block"
    return drive(block_body(reader), reader, feed(data))


def read_bitmap(
    data: bytes, feed: Feed = whole, parser: BitmapParser | None = None
) -> list[BitmapEvent]:
    reader = StreamReader()
    reader.section = "dirty-bitmap"
    return drive(bitmap_body(reader, parser or BitmapParser()), reader, feed(data))


@pytest.mark.parametrize("feed", [whole, one_at_a_time])
def test_bitmap_body_is_read_as_a_sender_writes_it(feed: Feed) -> None:
    data = (
        START
        + b"\x40" + be64(0) + be32(2048) + be64(8) + bytes(8)
        + b"\x42" + be64(2048) + be32(4096)
        + b"\x24" + counted_string("backup")
        + b"\x01"
    )  # fmt: skip
    assert read_bitmap(data, feed) == [
        BitmapStart("disk0", "backup", 65536, is_enabled=True, is_persistent=True),
        BitmapBits("disk0", "backup", 0, 2048, 8),
        BitmapBits("disk0", "backup", 2048, 4096, 0),
        BitmapComplete("disk0", "backup"),
        BodyEnd(),
    ]


def test_block_body_is_read_as_a_sender_writes_it() -> None:
    data = (
        be64(0 << 9 | 4)
        + be64(6144 << 9 | 1) + counted_string("hd0") + bytes(CHUNK_BYTES)
        + be64(0 << 9 | 9) + counted_string("hd0")
        + be64(100 << 9 | 4)
        + be64(2)
    )  # fmt: skip
    assert read_block(data) == [
        BlockProgress(0),
        BlockChunk("hd0", 6144, CHUNK_BYTES),
        BlockChunk("hd0", 0, 0),
        BlockProgress(100),
        BodyEnd(),
    ]


def test_names_are_remembered_across_records() -> None:
    parser = BitmapParser()
    assert len(read_bitmap(START + b"\x01", parser=parser)) == 2
    assert read_bitmap(b"\x20\x01", parser=parser) == [
        BitmapComplete("disk0", "backup"),
        BodyEnd(),
    ]


def test_end_may_share_a_chunk_with_content() -> None:
    parser = BitmapParser()
    assert len(read_bitmap(b"\x1d" + START[1:], parser=parser)) == 2
    assert len(read_bitmap(b"\x21", parser=parser)) == 2


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (be64(2048 << 9 | 2), 0),
        (be64(101 << 9 | 4), 0),
        (be64(0x10), 0),
        (be64(8), 0),
        (be64(3), 0),
        (be64(0), 0),
        (be64(5 << 9 | 1), 0),
        (be64(2**64 - 512 | 1), 0),
        (be64(4) + be64(7), 8),
    ],
)
def test_block_word_that_nobody_writes_is_refused(data: bytes, offset: int) -> None:
    with pytest.raises(StreamError) as caught:
        read_block(data + bytes(300))
    assert caught.value.offset == offset
    assert caught.value.section == "block"
    assert caught.value.expected
    assert caught.value.found


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"\x80", 0),
        (b"\x00", 0),
        (b"\x20", 0),
        (b"\x0c" + NAMED, 0),
        (b"\x2c" + NAMED, 0),
        (b"\x4c" + NAMED, 0),
        (START + b"\x30", len(START)),
        (START + b"\x22", len(START)),
        (START + b"\x12", len(START)),
        (START + START, len(START)),
        (b"\x1c" + NAMED + be32(0), len(NAMED) + 1),
        (b"\x1c" + NAMED + be32(511), len(NAMED) + 1),
        (b"\x1c" + NAMED + be32(2**31), len(NAMED) + 1),
        (b"\x1c" + NAMED + be32(65536) + b"\x08", len(NAMED) + 5),
        (START + b"\x40" + be64(LAST_SECTOR) + be32(2), len(START) + 1),
        (START + b"\x40" + be64(2**64 - 1) + be32(0), len(START) + 1),
        (START + b"\x40" + be64(0) + be32(1) + be64(2**63), len(START) + 13),
        (START + b"\x40" + be64(0) + be32(1) + be64(BITMAP_BUFFER_BYTES + 1), len(START) + 13),
    ],
)
def test_bitmap_chunk_that_nobody_writes_is_refused(data: bytes, offset: int) -> None:
    with pytest.raises(StreamError) as caught:
        read_bitmap(data + bytes(300))
    assert caught.value.offset == offset
    assert caught.value.section == "dirty-bitmap"
    assert caught.value.expected
    assert caught.value.found


def test_more_bitmaps_than_any_guest_has_are_refused() -> None:
    data = b"".join(
        b"\x1c" + counted_string("disk") + counted_string(str(number)) + START[-5:]
        for number in range(BITMAPS + 1)
    )
    with pytest.raises(StreamError, match=f"at most {BITMAPS}"):
        read_bitmap(data)


@given(st.binary(max_size=120), st.booleans())
def test_noise_ends_in_events_or_in_a_stream_error(noise: bytes, is_block: bool) -> None:
    read = read_block if is_block else read_bitmap
    outcomes = []
    for feed in (whole, one_at_a_time):
        try:
            outcomes.append(str(read(noise, feed)))
        except StreamError as error:
            outcomes.append(f"{error.cause}, {error.expected}")
    assert outcomes[0] == outcomes[1]
    assert not outcomes[0].endswith("None")


# What we send ourselves.


def test_chunks_and_progress_are_read_as_they_were_written() -> None:
    body = chunk_head(b"disk0", 5 * CHUNK_BYTES, is_zero=False)
    assert drive_one(body) == BlockChunk("disk0", 5 * 2048, CHUNK_BYTES)
    body = chunk_head(b"", 0, is_zero=True)
    assert drive_one(body) == BlockChunk("", 0, 0)
    assert drive_one(progress(28)) == BlockProgress(28)
    assert progress(100) == bytes.fromhex("000000000000c804")
    assert drive_one(BLOCK_EOS) == BodyEnd()


def drive_one(body: bytes) -> BlockEvent:
    reader = StreamReader()
    event = drive(read_block_event(reader), reader, whole(body))
    assert reader.offset == len(body)
    return event


def test_writer_names_a_bitmap_only_where_it_is_another() -> None:
    writer = BitmapWriter()
    body = b"".join(
        [
            writer.start("d", "a", 4096, is_enabled=True, is_persistent=False),
            writer.start("d", "b", 4096, is_enabled=False, is_persistent=True),
            writer.bits("d", "a", 0, 8, b"\x01"),
            writer.bits("d", "a", 8, 8, b"\x00"),
            writer.start("e", "a", 512, is_enabled=True, is_persistent=True),
            writer.complete("e", "a"),
        ]
    )
    assert body.count(b"\x01d") == 1
    reader = StreamReader()
    parser = BitmapParser()
    events: list[BitmapEvent] = []

    def parse() -> Parsing[None]:
        while reader.offset < len(body):
            event = yield from parser.next_event(reader)
            events.append(event)
            if isinstance(event, BitmapBits):
                yield from reader.drop(event.size)

    drive(parse(), reader, whole(body))
    assert events == [
        BitmapStart("d", "a", 4096, is_enabled=True, is_persistent=False),
        BitmapStart("d", "b", 4096, is_enabled=False, is_persistent=True),
        BitmapBits("d", "a", 0, 8, 32),
        BitmapBits("d", "a", 8, 8, 0),
        BitmapStart("e", "a", 512, is_enabled=True, is_persistent=True),
        BitmapComplete("e", "a"),
    ]
