"""Every implementation of the kernels does the same, and what section 3 of the format says."""

from __future__ import annotations

import mmap
import random
import subprocess
import sys
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from transship.memory import _kernels_py as reference, kernels
from transship.plugin.discovery import install_kernels

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels

PAGE = 4096
FULL, ZERO = 0x28, 0x22
FULL_BYTES, ZERO_BYTES = 8 + PAGE, 9
UNLIMITED = 1 << 62

install_kernels()


@pytest.fixture(params=kernels.available(), ids=lambda implementation: implementation.name)
def implementation(request: pytest.FixtureRequest) -> Kernels:
    result: Kernels = request.param
    return result


def numbers(*values: int) -> memoryview:
    return memoryview(array("q", values))


def patterned(pages: int) -> bytes:
    """Pages that all differ, every third of them zero."""
    source = random.Random(pages)
    return b"".join(
        bytes(PAGE) if page % 3 == 1 else source.randbytes(PAGE) for page in range(pages)
    )


# Selection.


def test_reference_is_always_available() -> None:
    assert kernels.available()[-1].name == "reference"


def test_current_is_the_first_available() -> None:
    assert kernels.current() is kernels.available()[0]


def test_numpy_is_preferred_where_it_is_installed() -> None:
    pytest.importorskip("numpy")
    assert [implementation.name for implementation in kernels.available()][-2:] == [
        "numpy",
        "reference",
    ]


def test_installed_kernels_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_installed", [])
    kernels.install(reference)
    assert kernels.current() is reference


def test_core_does_without_numpy() -> None:
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from transship.memory import kernels; print(kernels.current().name)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "reference\n"


def test_numpy_is_not_imported_before_a_kernel_is_asked_for() -> None:
    program = "import sys, transship.memory.kernels; print('numpy' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


# Zero pages.


def test_find_zero_pages_marks_exactly_the_zero_ones(implementation: Kernels) -> None:
    assert implementation.find_zero_pages(patterned(7), PAGE) == bytes([0, 1, 0, 0, 1, 0, 0])


@pytest.mark.parametrize("at", [0, 7, 8, PAGE // 2, PAGE - 1])
def test_find_zero_pages_sees_a_single_byte(implementation: Kernels, at: int) -> None:
    memory = bytearray(3 * PAGE)
    memory[PAGE + at] = 1
    assert implementation.find_zero_pages(memory, PAGE) == bytes([1, 0, 1])
    assert implementation.find_zero_pages(memory, PAGE, numbers(0, 2, 1)) == bytes([1, 1, 0])


def test_find_zero_pages_looks_only_at_the_pages_named(implementation: Kernels) -> None:
    memory = patterned(9)
    assert implementation.find_zero_pages(memory, PAGE, numbers(4, 0, 7)) == bytes([1, 0, 1])
    assert implementation.find_zero_pages(memory, PAGE, numbers(3, 4, 5)) == bytes([0, 1, 0])
    assert implementation.find_zero_pages(memory, PAGE, numbers(8)) == bytes([0])


def test_find_zero_pages_of_nothing_is_nothing(implementation: Kernels) -> None:
    assert implementation.find_zero_pages(b"", PAGE) == b""
    assert implementation.find_zero_pages(patterned(2), PAGE, numbers()) == b""


# Records.


def pack(
    implementation: Kernels,
    memory: bytes,
    pages: list[int],
    zeros: bytes | None = None,
    budget: int = UNLIMITED,
) -> tuple[bytes, bytes]:
    """The records of pages, and which of them were recorded as zero."""
    marks = bytearray(len(pages)) if zeros is None else bytearray(zeros)
    target = bytearray(len(pages) * FULL_BYTES)
    count = implementation.pack_pages(
        memory, PAGE, numbers(*pages), marks, FULL, ZERO, budget, target
    )
    is_zero = bytes(marks[:count])
    size = is_zero.count(1) * ZERO_BYTES + is_zero.count(0) * FULL_BYTES
    assert not any(target[size:])
    return bytes(target[:size]), is_zero


def test_pack_pages_writes_words_and_pages(implementation: Kernels) -> None:
    memory = patterned(6)
    records, zeros = pack(implementation, memory, [5, 1])
    assert zeros == b"\0\1"
    assert records == (
        (5 * PAGE | FULL).to_bytes(8, "big")
        + memory[5 * PAGE :]
        + (PAGE | ZERO).to_bytes(8, "big")
        + b"\0"
    )


def test_pack_pages_does_not_read_pages_said_to_be_zero(implementation: Kernels) -> None:
    records, _ = pack(implementation, b"\1" * PAGE, [0], b"\1")
    assert records == bytes(7) + bytes([ZERO, 0])


def test_pack_pages_of_nothing_writes_nothing(implementation: Kernels) -> None:
    assert pack(implementation, b"", []) == (b"", b"")


@pytest.mark.parametrize(
    ("budget", "count"),
    [(0, 0), (1, 1), (FULL_BYTES, 1), (FULL_BYTES + 1, 2), (FULL_BYTES + ZERO_BYTES + 1, 3)],
)
def test_pack_pages_ends_with_the_record_that_reaches_the_budget(
    implementation: Kernels, budget: int, count: int
) -> None:
    _, zeros = pack(implementation, patterned(6), [0, 1, 2, 3], budget=budget)
    assert len(zeros) == count


@pytest.mark.parametrize("missing", [1, 8, PAGE])
def test_pack_pages_refuses_a_target_that_is_too_small(
    implementation: Kernels, missing: int
) -> None:
    target = bytearray(2 * FULL_BYTES - missing)
    with pytest.raises(ValueError):
        implementation.pack_pages(
            patterned(6), PAGE, numbers(2, 3), bytearray(2), FULL, ZERO, UNLIMITED, target
        )
    assert len(target) == 2 * FULL_BYTES - missing


@pytest.mark.parametrize(
    "pages",
    [
        list(range(64)),
        list(range(0, 64, 2)),
        [0, 2, 3, 5, 6, 62, 63],
        [1, 4, 7, 10],
        [0, 1],
        [63, 62, 61],
        [17],
    ],
    ids=str,
)
def test_records_packed_found_and_scattered_are_the_pages_again(
    implementation: Kernels, pages: list[int]
) -> None:
    memory = patterned(64)
    window, zeros = pack(implementation, memory, pages)
    assert zeros == implementation.find_zero_pages(memory, PAGE, numbers(*pages))

    found, found_zeros = array("q", bytes(8 * 100)), bytearray(100)
    count = implementation.find_records(window, PAGE, 64, FULL, ZERO, found, found_zeros)  # type: ignore[arg-type]
    assert found[:count].tolist() == pages
    assert found_zeros[:count] == zeros

    received = bytearray(b"\xee" * len(memory))
    positions, full = array("q"), array("q")
    end = 0
    for page, is_zero in zip(pages, zeros, strict=True):
        end += ZERO_BYTES if is_zero else FULL_BYTES
        if not is_zero:
            positions.append(end - PAGE)
            full.append(page)
    assert end == len(window)
    implementation.scatter_pages(window, memoryview(positions), PAGE, received, memoryview(full))
    for page in range(64):
        expected = memory if page in full else b"\xee" * len(memory)
        part = slice(page * PAGE, (page + 1) * PAGE)
        assert received[part] == expected[part]


def test_scatter_pages_leaves_the_later_of_two_copies(implementation: Kernels) -> None:
    source = b"".join(bytes([value]) * PAGE for value in (1, 2, 3))
    memory = bytearray(2 * PAGE)
    implementation.scatter_pages(source, numbers(0, PAGE, 2 * PAGE), PAGE, memory, numbers(1, 0, 1))
    assert memory == b"\2" * PAGE + b"\3" * PAGE


def test_scatter_pages_of_nothing_does_nothing(implementation: Kernels) -> None:
    implementation.scatter_pages(b"", numbers(), PAGE, bytearray(PAGE), numbers())


def record(page: int, tag: int, content: bytes) -> bytes:
    return (page * PAGE | tag).to_bytes(8, "big") + content


def find(
    implementation: Kernels, window: bytes, page_count: int = 1000, room: int = 100
) -> list[tuple[int, int]]:
    pages, zeros = array("q", bytes(8 * room)), bytearray(room)
    count = implementation.find_records(
        window, PAGE, page_count, FULL, ZERO, memoryview(pages), zeros
    )
    return list(zip(pages[:count], zeros[:count], strict=True))


@pytest.mark.parametrize("before", [0, 1, 7, 8, 9, 30, 60], ids=lambda count: f"{count} before")
@pytest.mark.parametrize(
    "last",
    [
        b"",
        b"\0\0\0",
        record(1, FULL, bytes(PAGE - 1)),
        record(1, ZERO, b""),
        record(1, ZERO, b"\1"),
        record(1, ZERO & ~0x20, b"\0"),
        record(1, 0x10, b"\0"),
        record(1000, ZERO, b"\0"),
        record(1000, FULL, bytes(PAGE)),
        record((1 << 52) - 1, ZERO, b"\0"),
        record((1 << 51), FULL, bytes(PAGE)),
    ],
    ids=lambda last: last[:10].hex() or "end",
)
@pytest.mark.parametrize("kind", [FULL, ZERO], ids=["full", "zero"])
def test_find_records_ends_before_the_first_that_is_none(
    implementation: Kernels, before: int, last: bytes, kind: int
) -> None:
    content = b"\0" if kind == ZERO else bytes(PAGE)
    window = b"".join(record(page, kind, content) for page in range(before)) + last
    assert find(implementation, window) == [(page, int(kind == ZERO)) for page in range(before)]


def test_find_records_fills_no_more_than_there_is_room_for(implementation: Kernels) -> None:
    window = b"".join(record(page, ZERO, b"\0") for page in range(60))
    assert len(find(implementation, window, room=50)) == 50


def test_find_records_finds_the_last_page_there_may_be(implementation: Kernels) -> None:
    last = (1 << 52) - 1
    window = record(last, ZERO, b"\0") * 20
    assert find(implementation, window, page_count=last + 1) == [(last, 1)] * 20


@given(
    kinds=st.lists(st.tuples(st.sampled_from([FULL, ZERO, 0x48]), st.integers(1, 40)), max_size=8),
    cut=st.integers(0, PAGE * 2),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_all_implementations_find_the_same_records(
    kinds: list[tuple[int, int]], cut: int, seed: int
) -> None:
    source = random.Random(seed)
    window = b"".join(
        record(source.randrange(50), kind, b"\0" if kind == ZERO else source.randbytes(PAGE))
        for kind, count in kinds
        for _ in range(count)
    )
    window = window[: max(len(window) - cut, 0)]
    expected = find(reference, window, 49, 256)
    for implementation in kernels.available():
        assert find(implementation, window, 49, 256) == expected


@given(
    pages=st.lists(st.integers(0, 15), min_size=1, max_size=20),
    zero=st.integers(0, 0xFFFF),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_all_implementations_pack_the_same_records(pages: list[int], zero: int, seed: int) -> None:
    source = random.Random(seed)
    memory = b"".join(
        bytes(PAGE) if zero >> page & 1 else source.randbytes(PAGE) for page in range(16)
    )
    expected = pack(reference, memory, pages)
    for implementation in kernels.available():
        assert pack(implementation, memory, pages) == expected


# Records to memory at once.


@given(
    pages=st.lists(st.integers(0, 17), max_size=12),
    zero=st.integers(0, 0x3FFFF),
    cut=st.integers(0, 3 * FULL_BYTES),
    spoilt=st.none() | st.tuples(st.integers(0, 20), st.integers(0, 255)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_all_implementations_load_the_same_records(
    pages: list[int], zero: int, cut: int, spoilt: tuple[int, int] | None, seed: int
) -> None:
    source = random.Random(seed)
    memory = b"".join(
        bytes(PAGE) if zero >> page & 1 else source.randbytes(PAGE) for page in range(18)
    )
    window = bytearray(pack(reference, memory, pages)[0])
    if spoilt and len(window) > spoilt[0]:
        window[spoilt[0]] = spoilt[1]
    window = window[: max(len(window) - cut, 0)]
    before = source.randbytes(8 * PAGE) + bytes(8 * PAGE)
    untouched = bytes(source.choice((0, 1)) for _ in range(8))
    results = []
    for implementation in kernels.available():
        loaded, touched = bytearray(before), bytearray(b"\1" * 8 + untouched)
        counts = implementation.load_records(window, PAGE, FULL, ZERO, loaded, touched)
        results.append((counts, bytes(loaded), bytes(touched)))
    assert results == [results[-1]] * len(results)


def test_load_records_does_not_write_pages_that_are_zero(implementation: Kernels) -> None:
    window = pack(implementation, bytes(2 * PAGE), [0, 1])[0]
    memory = mmap.mmap(-1, 2 * PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    memory[:PAGE] = b"\1" * PAGE
    view, touched = memoryview(memory), bytearray(b"\1\1")
    counts = implementation.load_records(window, PAGE, FULL, ZERO, view, touched)
    assert counts == (2 * ZERO_BYTES, 0, 2)
    assert bytes(view) == bytes(2 * PAGE)
    view.release()
    memory.close()


def test_load_records_believes_that_untouched_pages_are_zero(implementation: Kernels) -> None:
    """Shown by a page that is not: it stays as it is, until bytes for it have come."""
    memory, touched = bytearray(b"\1" * 2 * PAGE), bytearray(2)
    zero = pack(implementation, bytes(2 * PAGE), [0])[0]
    full = pack(implementation, b"\2" * 2 * PAGE, [0])[0]
    assert implementation.load_records(zero, PAGE, FULL, ZERO, memory, touched)[2] == 1
    assert memory == b"\1" * 2 * PAGE
    implementation.load_records(full, PAGE, FULL, ZERO, memory, touched)
    assert touched == b"\1\0"
    implementation.load_records(zero, PAGE, FULL, ZERO, memory, touched)
    assert memory == bytes(PAGE) + b"\1" * PAGE


# Dirty pages.


def marked(implementation: Kernels, ranges: list[tuple[int, int]], marks: bytes) -> object:
    flat = [number for first, end in ranges for number in (first, end, 7)]
    result = bytearray(marks)
    try:
        return implementation.mark_ranges(numbers(*flat), START, PAGE, result), bytes(result)
    except ValueError:
        return "refused"


START = 1 << 40


def test_mark_ranges_marks_every_page_touched(implementation: Kernels) -> None:
    ranges = [(START, START + PAGE), (START + 3 * PAGE, START + 5 * PAGE)]
    assert marked(implementation, ranges, bytes([1, 0, 0, 0, 0, 0])) == (
        2,
        bytes([1, 0, 0, 1, 1, 0]),
    )
    assert marked(implementation, [], b"\0") == (0, b"\0")


@pytest.mark.parametrize(
    "outside",
    [
        (START - PAGE, START),
        (START + PAGE, START + 5 * PAGE),
        (START + 2 * PAGE, START + PAGE),
    ],
)
def test_mark_ranges_refuses_what_is_outside(
    implementation: Kernels, outside: tuple[int, int]
) -> None:
    assert marked(implementation, [outside], bytes(4)) == "refused"


@given(
    ranges=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 1500)), max_size=12),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60)
def test_all_implementations_mark_the_same(ranges: list[tuple[int, int]], seed: int) -> None:
    source = random.Random(seed)
    before = bytes(source.choices((0, 1), k=4500))
    addresses = [(START + first * PAGE, START + (first + count) * PAGE) for first, count in ranges]
    results = [marked(implementation, addresses, before) for implementation in kernels.available()]
    assert results == [results[-1]] * len(results)


# The checksum.


def test_checksum_is_what_it_is_said_to_be(implementation: Kernels) -> None:
    memory = b"".join(word.to_bytes(8, "little") for word in (3, 5, (1 << 64) - 1))
    plain = 3 + 5 + (1 << 64) - 1
    weighted = 3 + 5 * 2 + ((1 << 64) - 1) * 3
    expected = (plain * 0x9E3779B97F4A7C15 ^ weighted) % (1 << 64)
    assert implementation.checksum(memory) == expected
    assert implementation.checksum(b"") == 0


def test_checksum_sees_pages_that_have_changed_places(implementation: Kernels) -> None:
    memory = patterned(6)
    swapped = memory[PAGE : 2 * PAGE] + memory[:PAGE] + memory[2 * PAGE :]
    assert implementation.checksum(memory) != implementation.checksum(swapped)


def test_all_implementations_find_the_same_checksum() -> None:
    memory = random.Random(5).randbytes(600_000)
    assert len({implementation.checksum(memory) for implementation in kernels.available()}) == 1


def test_checksum_refuses_a_broken_word(implementation: Kernels) -> None:
    with pytest.raises(ValueError):
        implementation.checksum(bytes(9))


# XBZRLE: section 3 of the format, the vectors of section 3.5.


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
