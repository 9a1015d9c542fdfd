"""XBZRLE: section 3 of the format, and the vectors of its section 3.5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from transship.memory import _kernels_py as reference, kernels

from .kernel_inputs import PAGE

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels


def encode(implementation: Kernels, old: bytes, new: bytes, limit: int = PAGE) -> bytes | None:
    target = bytearray(limit)
    size = implementation.xbzrle_encode(old, new, target)
    return None if size < 0 else bytes(target[:size])


def decode(implementation: Kernels, delta: bytes, old: bytes) -> tuple[int, bytes]:
    page = bytearray(old)
    return implementation.xbzrle_decode(delta, page), bytes(page)


def range_pages(length: int) -> tuple[bytes, bytes]:
    """The pages of the vectors ``zero``, ``unchanged`` and ``range``: before and after."""
    old, new = bytearray(PAGE), bytearray(PAGE)
    for index in range(1, length + 1):
        new[1000 + index] = index % 256
        old[1000 + index] = (index + 4) % 256
    new[1000 + length + 3], old[1000 + length + 3] = 103, 107
    new[1000 + length + 5], old[1000 + length + 5] = 105, 109
    return bytes(old), bytes(new)


def test_xbzrle_length_of_every_value_survives(implementation: Kernels) -> None:
    """Both lengths of a pair take every value from 0 (the first) or 1 to 0x3fff."""
    size = 0x8000
    for equal in range(0x4000):
        new = bytes(equal) + b"\1" + bytes(size - equal - 1)
        delta = encode(implementation, bytes(size), new, size)
        assert delta is not None
        assert len(delta) == (3 if equal < 0x80 else 4)
        assert decode(implementation, delta, bytes(size))[0] == equal + 1
    for different in [*range(1, 0x4000, 61), 0x7F, 0x80, 0x3FFF]:
        new = b"\1" * different + bytes(size - different)
        delta = encode(implementation, bytes(size), new, size)
        assert delta is not None
        assert decode(implementation, delta, bytes(size)) == (different, new)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (1001, "e907"), (4095, "ff1f"), (16383, "ff7f")],
)
def test_xbzrle_length_is_encoded_as_in_the_table(
    implementation: Kernels, value: int, encoded: str
) -> None:
    old = bytes(0x8000)
    new = bytes(value) + b"\1" + bytes(len(old) - value - 1)
    assert encode(implementation, old, new, len(old)) == bytes.fromhex(encoded + "0101")


def test_xbzrle_run_longer_than_14_bits_does_not_fit(implementation: Kernels) -> None:
    size = 0x10000
    assert encode(implementation, bytes(size), bytes(0x4000) + b"\1" * 0xC000, size) is None
    assert encode(implementation, bytes(size), b"\1" * 0x4000 + bytes(0xC000), size) is None


def test_xbzrle_length_of_three_bytes_is_malformed(implementation: Kernels) -> None:
    assert decode(implementation, bytes.fromhex("8080010101"), bytes(PAGE))[0] == -1
    assert decode(implementation, bytes.fromhex("0080800101"), bytes(PAGE))[0] == -1


@pytest.mark.parametrize("length", [0, 1, 500, 3089])
def test_xbzrle_of_a_page_with_itself_is_nothing(implementation: Kernels, length: int) -> None:
    for page in range_pages(length):
        assert encode(implementation, page, page) == b""


def test_xbzrle_of_one_byte_takes_four(implementation: Kernels) -> None:
    new = bytes(4095) + b"\1"
    assert encode(implementation, bytes(PAGE), new) == bytes.fromhex("ff1f0101")
    assert decode(implementation, bytes.fromhex("ff1f0101"), bytes(PAGE)) == (PAGE, new)


def test_xbzrle_of_every_other_byte_overflows(implementation: Kernels) -> None:
    new = bytearray(PAGE)
    new[0:4094:2] = b"\1" * 2047
    assert encode(implementation, bytes(PAGE), bytes(new)) is None


@pytest.mark.parametrize(
    ("length", "encoded"),
    [
        (0, "eb070167010169"),
        (1, "e9070101020167010169"),
        (3, "e90703010203020167010169"),
    ],
)
def test_xbzrle_of_a_range_is_as_in_the_table(
    implementation: Kernels, length: int, encoded: str
) -> None:
    assert encode(implementation, *range_pages(length)) == bytes.fromhex(encoded)


@pytest.mark.parametrize(
    ("length", "size", "begin", "end"),
    [
        (130, 140, "e907820101020304", "81820201670101 69"),
        (3000, 3010, "e907b81701", ""),
    ],
)
def test_xbzrle_of_a_long_range_is_as_in_the_table(
    implementation: Kernels, length: int, size: int, begin: str, end: str
) -> None:
    encoded = encode(implementation, *range_pages(length))
    assert encoded is not None
    assert len(encoded) == size
    assert encoded.startswith(bytes.fromhex(begin))
    assert encoded.endswith(bytes.fromhex(end))


def test_xbzrle_of_ranges_of_any_length_restores_the_page(implementation: Kernels) -> None:
    for length in [*range(0, 3090, 13), 3089]:
        old, new = range_pages(length)
        encoded = encode(implementation, old, new)
        assert encoded is not None
        assert decode(implementation, encoded, old) == (1006 + length, new)


def test_xbzrle_of_pages_that_differ_from_the_start(implementation: Kernels) -> None:
    new = bytes.fromhex("aabb0000cc") + bytes(PAGE - 5)
    assert encode(implementation, bytes(PAGE), new) == bytes.fromhex("0002aabb0201cc")


def test_xbzrle_of_pages_that_differ_everywhere_overflows(implementation: Kernels) -> None:
    assert encode(implementation, bytes(PAGE), b"\1" * PAGE) is None


@pytest.mark.parametrize(
    ("new", "least"),
    [
        ("00000000", 2),  # room for a length is asked for before it is known that none comes
        ("01000000", 5),  # 00 01 01, and room for the length of a run that never comes
        ("00000001", 3),  # 03 01 01: nothing comes after it
        ("01000001", 6),
        ("01010101", 6),
    ],
)
def test_xbzrle_overflows_exactly_below_the_limit(
    implementation: Kernels, new: str, least: int
) -> None:
    page = bytes.fromhex(new)
    for limit in range(12):
        assert (encode(implementation, bytes(4), page, limit) is not None) == (limit >= least)


@pytest.mark.parametrize(
    "delta",
    [
        "00",  # a pair is cut short
        "0001",
        "8001",
        "000201",
        "0000",  # a different run of no length
        "00010100",
        "000101000102",  # an equal run of no length that is not the first
        "ff1f",
        "ff1f020101",  # beyond the page
        "801f820201" + "01" * 0x101,
        "ff7f0101",
    ],
)
def test_xbzrle_decode_refuses_malformed_encodings(implementation: Kernels, delta: str) -> None:
    result, page = decode(implementation, bytes.fromhex(delta), bytes(PAGE))
    assert result == -1
    assert len(page) == PAGE


def test_xbzrle_decode_of_nothing_changes_nothing(implementation: Kernels) -> None:
    assert decode(implementation, b"", b"\7" * PAGE) == (0, b"\7" * PAGE)


@given(old=st.binary(min_size=64, max_size=64), data=st.data())
@settings(deadline=None)
def test_all_implementations_encode_the_same(old: bytes, data: st.DataObject) -> None:
    new = bytearray(old)
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)))):
        new[at] = value
    limit = data.draw(st.integers(0, 100))
    expected = encode(reference, old, bytes(new), limit)
    for implementation in kernels.available():
        assert encode(implementation, old, bytes(new), limit) == expected
        if expected is not None:
            assert decode(implementation, expected, old)[1] == new


@given(delta=st.binary(max_size=40), size=st.integers(1, 200))
@settings(deadline=None)
def test_all_implementations_decode_the_same(delta: bytes, size: int) -> None:
    expected = decode(reference, delta, bytes(size))
    assert -1 <= expected[0] <= size
    for implementation in kernels.available():
        result = decode(implementation, delta, bytes(size))
        assert result[0] == expected[0]
        assert len(result[1]) == size
        if expected[0] >= 0:
            assert result == expected
