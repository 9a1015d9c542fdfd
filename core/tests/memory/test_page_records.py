"""Records of pages: packed, found, scattered and loaded, as section 3 of the format says."""

from __future__ import annotations

import mmap
import random
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from transship.memory import _kernels_py as reference, kernels

from .kernel_inputs import FULL, FULL_BYTES, PAGE, ZERO, ZERO_BYTES, numbers, patterned

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels

UNLIMITED = 1 << 62


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
