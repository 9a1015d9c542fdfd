"""One value of each kind, in both directions."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from transship.errors import LocalError, StreamError
from transship.wire import elements
from transship.wire.elements import (
    BOOL,
    DOUBLE,
    INT8,
    INT16,
    INT32,
    INT32_EQUAL,
    INT32_LE,
    INT64,
    NULLPTR,
    TIMER,
    UINT8,
    UINT8_EQUAL,
    UINT16,
    UINT16_EQUAL,
    UINT32,
    UINT32_EQUAL,
    UINT64,
    UINT64_EQUAL,
    Bitmap,
    Buffer,
    CountedString,
    Element,
    Integer,
    Unused,
    element_named,
)
from transship.wire.reader import StreamReader, drive


def decode(element: Element[Any], data: bytes, local: object = None, step: int = 1 << 20) -> Any:
    source = io.BytesIO(data)
    reader = StreamReader(offset=40)
    value = drive(element.decode(reader, local), reader, lambda view: source.readinto(view[:step]))
    assert reader.offset == 40 + len(data)
    return value


VALUES: list[tuple[Element[Any], Any, str]] = [
    (BOOL, True, "01"),
    (BOOL, False, "00"),
    (INT8, -65, "bf"),
    (INT16, -512, "fe00"),
    (INT32, -70000, "fffeee90"),
    (INT64, -12121212, "ffffffffff470b84"),
    (UINT8, 130, "82"),
    (UINT16, 512, "0200"),
    (UINT32, 70000, "00011170"),
    (UINT64, 12121212, "0000000000b8f47c"),
    (UINT64, 2**64 - 1, "ffffffffffffffff"),
    (DOUBLE, 0x3FF0000000000000, "3ff0000000000000"),
    (TIMER, 5, "0000000000000005"),
    (TIMER, None, "ffffffffffffffff"),
    (Buffer(3), b"abc", "616263"),
    (Buffer(0), b"", ""),
    (Unused(2), None, "0000"),
    (Bitmap(1), 1, "0000000000000001"),
    (Bitmap(64), 1 << 63, "8000000000000000"),
    (Bitmap(65), 1 << 64 | 2, "00000000000000020000000000000001"),
    (Bitmap(0), 0, ""),
    (NULLPTR, None, "30"),
    (CountedString(), "mapped-ram", "0a6d61707065642d72616d"),
]


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(("element", "value", "data"), VALUES)
def test_value_has_known_bytes_in_both_directions(
    element: Element[Any], value: Any, data: str, step: int
) -> None:
    assert element.encode(value).hex() == data
    assert decode(element, bytes.fromhex(data), step=step) == value


EQUAL: list[tuple[Element[int], int, str, str]] = [
    (UINT8_EQUAL, 7, "07", "08"),
    (UINT16_EQUAL, 7, "0007", "0107"),
    (UINT32_EQUAL, 7, "00000007", "00000000"),
    (INT32_EQUAL, -7, "fffffff9", "00000007"),
    (UINT64_EQUAL, 2**64 - 1, "ff" * 8, "7f" + "ff" * 7),
    (INT32_LE, 7, "00000007", "00000008"),
    (INT32_LE, 7, "00000007", "ffffffff"),
]


@pytest.mark.parametrize(("element", "local", "right", "wrong"), EQUAL)
def test_value_is_held_against_this_side_s(
    element: Element[int], local: int, right: str, wrong: str
) -> None:
    assert element.encode(local).hex() == right
    assert decode(element, bytes.fromhex(right), local) == local
    with pytest.raises(StreamError) as caught:
        decode(element, bytes.fromhex(wrong), local)
    assert caught.value.offset == 40
    assert str(local) in (caught.value.expected or "")
    assert caught.value.found == str(
        int.from_bytes(bytes.fromhex(wrong), "big", signed=element in (INT32_EQUAL, INT32_LE))
    )


@pytest.mark.parametrize(("value", "data"), [(0, "00000000"), (6, "00000006")])
def test_value_below_this_side_s_is_taken(value: int, data: str) -> None:
    assert decode(INT32_LE, bytes.fromhex(data), 7) == value


def test_value_is_not_compared_with_nothing() -> None:
    for element in (UINT32_EQUAL, INT32_LE):
        with pytest.raises(StreamError):
            decode(element, bytes(4), None)


@pytest.mark.parametrize("data", ["01", "02", "80", "ff"])
def test_any_byte_but_zero_is_true(data: str) -> None:
    assert decode(BOOL, bytes.fromhex(data)) is True


def test_unused_bytes_are_ignored_and_written_as_zeros() -> None:
    assert decode(Unused(2), b"ab") is None
    assert Unused(2).encode("anything") == b"\0\0"


def test_bits_beyond_a_bitmap_are_dropped() -> None:
    assert decode(Bitmap(4), b"\xff" * 8) == 15


def test_null_pointer_refuses_any_other_byte() -> None:
    with pytest.raises(StreamError) as caught:
        decode(NULLPTR, b"\x00")
    assert (caught.value.offset, caught.value.found) == (40, "0x00")


@pytest.mark.parametrize(
    ("element", "value"),
    [
        (UINT8, 256),
        (UINT8, -1),
        (INT8, 128),
        (INT64, -(2**63) - 1),
        (UINT32, 1.0),
        (UINT32, None),
        (UINT32_EQUAL, "1"),
        (INT32_LE, 2**31),
        (TIMER, -1),
        (TIMER, 2**64 - 1),
        (Buffer(2), b"a"),
        (Buffer(2), "ab"),
        (Buffer(2), 2),
        (Bitmap(4), 16),
        (Bitmap(4), -1),
        (Bitmap(4), None),
        (CountedString(), "x" * 256),
    ],
)
def test_value_that_does_not_fit_is_refused_with_what_would(
    element: Element[Any], value: object
) -> None:
    with pytest.raises(LocalError) as caught:
        element.encode(value)
    assert caught.value.expected
    assert caught.value.found


@pytest.mark.parametrize(("element", "value", "data"), [one for one in VALUES if len(one[2]) > 0])
def test_value_cut_short_is_refused(element: Element[Any], value: object, data: str) -> None:
    with pytest.raises(StreamError, match="the stream ends early"):
        decode(element, bytes.fromhex(data)[:-1])


integers = st.sampled_from([INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64])


@settings(deadline=None)
@given(integers, st.data())
def test_many_integers_are_packed_as_one_by_one(element: Integer, data: st.DataObject) -> None:
    raw = data.draw(st.binary(max_size=64).filter(lambda one: len(one) % element.size == 0))
    values = element.unpack(raw)
    assert element.pack(values) == raw == b"".join(map(element.encode, values))


def test_packing_names_the_value_that_does_not_fit() -> None:
    with pytest.raises(LocalError) as caught:
        UINT16.pack([1, 2, 65536])
    assert caught.value.found == "65536"


@settings(deadline=None)
@given(st.integers(0, 200), st.data())
def test_any_bitmap_comes_back(bits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, (1 << bits) - 1))
    raw = Bitmap(bits).encode(value)
    assert len(raw) == Bitmap(bits).size == (bits + 63) // 64 * 8
    assert decode(Bitmap(bits), raw) == value
    for bit in range(bits):
        word = int.from_bytes(raw[bit // 64 * 8 : bit // 64 * 8 + 8], "big")
        assert word >> bit % 64 & 1 == value >> bit & 1


NAMED = {
    "bool": BOOL,
    "int8": INT8,
    "int16": INT16,
    "int32": INT32,
    "int64": INT64,
    "uint8": UINT8,
    "uint16": UINT16,
    "uint32": UINT32,
    "uint64": UINT64,
    "uint8 equal": UINT8,
    "uint16 equal": UINT16,
    "uint32 equal": UINT32,
    "int32 equal": INT32,
    "int64 equal": UINT64,
    "int32 le": INT32,
    "CPU_Double_U": DOUBLE,
    "timer": TIMER,
    "nullptr": NULLPTR,
}
SIZES = {"bool": 1, "timer": 8, "nullptr": 1}


@pytest.mark.parametrize("name", NAMED)
def test_described_type_is_read_without_a_value_to_compare(name: str) -> None:
    element = NAMED[name]
    size = element.size if isinstance(element, Integer) else SIZES[name]
    assert element_named(name, size) is element
    assert element_named(name, size + 1) == Buffer(size + 1)


@pytest.mark.parametrize("name", ["buffer", "unused_buffer", "bitmap", "pci config", "unknown", ""])
def test_type_that_only_the_device_knows_is_raw_bytes(name: str) -> None:
    assert element_named(name, 5) == Buffer(5)


def test_elements_have_the_names_of_the_description() -> None:
    made = {one.type_name for one in vars(elements).values() if isinstance(one, Element)}
    assert made == set(NAMED)
    assert [one.type_name for one in (Buffer(1), Unused(1), Bitmap(1), CountedString())] == [
        "buffer",
        "unused_buffer",
        "bitmap",
        "capability",
    ]
