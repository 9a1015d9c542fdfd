"""The end of a stream, found while it arrives."""

import io
import random
import time
from contextlib import nullcontext

import pytest
from capture_files import MAIN_STREAMS, CapturedTail, captured_tail

from transship.errors import StreamError
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader
from transship.wire.reader import StreamReader, drive
from transship.wire.tail import TAIL_BYTES, EndFinder, Tail, read_tail
from transship.wire.vmdesc import parse_description, split_devices


@pytest.fixture(params=MAIN_STREAMS)
def tail(request: pytest.FixtureRequest) -> CapturedTail:
    return captured_tail(request.param)


def fed(data: bytes, steps: list[int]) -> tuple[int, Tail] | None:
    """Feed in steps of these sizes, again and again. Returns when it was found, and what."""
    finder = EndFinder()
    arrived = bytearray()
    turn = 0
    while len(arrived) < len(data):
        arrived += data[len(arrived) : len(arrived) + steps[turn % len(steps)]]
        turn += 1
        if found := finder.find(arrived):
            return len(arrived), found
    return None


def device(body: bytes, idstr: bytes = b"toy") -> bytes:
    head = b"\x04\x00\x00\x00\x07" + bytes([len(idstr)]) + idstr + b"\0\0\0\0\0\0\0\x01"
    return head + body + b"\x7e\x00\x00\x00\x07"


def describe(size: int, name: str = "toy") -> bytes:
    field = f'{{"name": "x", "type": "buffer", "size": {size}}}'
    head = f'"name": "{name}", "instance_id": 0, "vmsd_name": "t", "version": 1'
    return f'{{"page_size": 4096, "devices": [{{{head}, "fields": [{field}]}}]}}'.encode()


def ending(text: bytes) -> bytes:
    return b"\x00\x06" + len(text).to_bytes(4, "big") + text


@pytest.mark.parametrize(
    "steps", [[1], [7], [4093], [1, 2, 65_537], [10**9]], ids=["1", "7", "4093", "mixed", "all"]
)
def test_end_of_real_stream_is_found_with_its_last_byte(
    tail: CapturedTail, steps: list[int]
) -> None:
    result = fed(tail.whole, steps)
    assert result is not None
    at, found = result
    assert at == found.length == len(tail.whole)
    assert found.description == tail.description
    assert found.records == split_devices(tail.devices, parse_description(tail.description))


def test_end_is_not_found_before_it_is_there(tail: CapturedTail) -> None:
    assert fed(tail.whole[:-1], [1021]) is None


def test_bytes_after_the_end_are_left_to_the_caller() -> None:
    data = device(b"ab") + ending(describe(2))
    finder = EndFinder()
    found = finder.find(bytearray(data + b"more"))
    assert found
    assert found.length == len(data)


def test_end_within_the_bytes_of_a_device_is_none() -> None:
    """A guest that keeps a recorded stream in a device's buffer moves like any other."""
    inner = device(b"ab") + ending(describe(2))
    data = device(inner) + ending(describe(len(inner)))
    for steps in ([1], [3], [len(data)]):
        result = fed(data, steps)
        assert result is not None
        at, found = result
        assert at == len(data)
        assert found.records[0].body == inner


def test_description_of_other_devices_is_not_the_end() -> None:
    data = device(b"ab") + ending(describe(3))
    assert fed(data, [len(data)]) is None
    more = data + b"\x7e\x00\x00\x00\x07" + ending(describe(2))
    assert fed(more, [5]) is None


def test_description_that_was_cut_apart_by_a_head_of_another_is_not_waited_for() -> None:
    """A head that claims a long text does not hide the true end behind it."""
    false_head = b"\x7e\x00\x00\x00\x07\x00\x06\x00\x01\x00\x00" + b'{"page_size": 4096, '
    data = device(false_head) + ending(describe(len(false_head)))
    result = fed(data, [1])
    assert result is not None
    assert result[0] == len(data)


def test_overlapping_heads_are_all_looked_at() -> None:
    false_head = b"\x7e\x00\x7e\x00\x00\x00\x06\x00\x06\x00\x00" + b'{"{"'
    data = device(false_head) + ending(describe(len(false_head)))
    assert fed(data, [1]) is not None


def test_no_view_of_the_bytes_is_kept() -> None:
    arrived = bytearray(device(b"ab") + ending(describe(3)))
    finder = EndFinder()
    assert finder.find(arrived) is None
    arrived += b"still growing"
    assert finder.find(arrived) is None


def test_tail_beyond_the_limit_is_refused() -> None:
    with pytest.raises(StreamError, match="beyond the limit"):
        EndFinder(offset=5).find(bytearray(TAIL_BYTES + 1))


@pytest.mark.parametrize(
    "unit",
    [
        b"\x7e\x00\x00\x00\x07" + ending(b"{" + b'"' * 2),
        b'\x7e\x00\x00\x00\x07\x00\x06\x00\xff\xff\xff{"',
        b"\x7e\x00\x00\x00\x07" + ending(b'{"page_size": 4096, "devices": []}'),
        b"\x7e" * 13,
        b'\x7e\x00\x00\x00\x07\x00\x06\x00\xff\xff\xff{"' + b'\\"' * 50_000,
    ],
    ids=["broken", "long", "well-formed", "footers", "quotes"],
)
def test_hostile_tail_costs_time_in_proportion_to_its_length(unit: bytes) -> None:
    """Four times the bytes may cost some four times as much; were it quadratic, sixteen times."""

    def cost(size: int) -> float:
        data = device(unit * (size // len(unit)))
        started = time.process_time()
        assert fed(data, [16_381]) is None
        return time.process_time() - started

    small = min(cost(500_000) for _ in range(3))
    assert cost(2_000_000) < max(10 * small, 0.5)


def test_random_bytes_are_no_end() -> None:
    random_bytes = random.Random(1).randbytes(300_000)
    assert fed(random_bytes, [1009]) is None


# Over a reader.


def full_header(data: bytes, offset: int) -> SectionHeader:
    return SectionHeader(RecordType.SECTION_FULL, 7, "toy", 0, 1, offset)


HEADER_BYTES = 17


def test_tail_is_read_from_behind_the_first_header() -> None:
    data = device(b"ab") + ending(describe(2))
    reader = StreamReader(offset=1000 + HEADER_BYTES)
    source = io.BytesIO(data[HEADER_BYTES:] + b"rest")
    found = drive(read_tail(reader, full_header(data, 1000)), reader, source.readinto)
    assert found.records[0].body == b"ab"
    assert reader.offset == 1000 + len(data)
    assert bytes(reader.buffered()) == b"rest"


def test_tail_is_read_from_a_package_without_waiting_for_more() -> None:
    data = device(b"ab") + ending(describe(2))
    reader = StreamReader(offset=HEADER_BYTES)
    with reader.bounded(len(data) - HEADER_BYTES):
        source = io.BytesIO(data[HEADER_BYTES:])
        found = drive(read_tail(reader, full_header(data, 0)), reader, source.readinto)
    assert found.length == len(data)


@pytest.mark.parametrize("is_bounded", [False, True], ids=["stream", "package"])
def test_end_without_a_description_is_refused(is_bounded: bool) -> None:
    data = device(b"ab") + b"\0"
    reader = StreamReader(offset=HEADER_BYTES)
    source = io.BytesIO(data[HEADER_BYTES:])
    limit = reader.bounded(len(data) - HEADER_BYTES) if is_bounded else nullcontext()
    with limit, pytest.raises(StreamError, match="no description fits") as caught:
        drive(read_tail(reader, full_header(data, 0)), reader, source.readinto)
    assert caught.value.offset == len(data)
