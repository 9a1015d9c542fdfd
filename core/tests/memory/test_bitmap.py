from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from transship.memory.bitmap import DirtyBitmap
from transship.memory.runs import PageRun


def bitmap(marks: str) -> DirtyBitmap:
    result = DirtyBitmap(len(marks))
    for page, mark in enumerate(marks):
        if mark == "1":
            result.mark(page)
    return result


def text(of: DirtyBitmap) -> str:
    return "".join(map(str, of.marks))


def test_new_bitmap_is_clean() -> None:
    assert text(DirtyBitmap(3)) == "000"


def test_mark_and_clear_change_the_pages_named() -> None:
    pages = DirtyBitmap(6)
    pages.mark(1, 4)
    pages.clear(2)
    assert text(pages) == "010110"
    assert (pages.count(), pages.is_dirty(3), pages.is_dirty(2)) == (3, True, False)


def test_mark_all_marks_every_page() -> None:
    pages = DirtyBitmap(5)
    pages.mark_all()
    assert pages.count() == len(pages) == 5


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 4), (3, 1), (1, -1), (4, 0)])
def test_mark_and_clear_refuse_pages_outside(first: int, count: int) -> None:
    pages = DirtyBitmap(3)
    for change in (pages.mark, pages.clear):
        with pytest.raises(IndexError):
            change(first, count)
    assert text(pages) == "000"


@pytest.mark.parametrize(
    ("start", "most", "run"),
    [
        (0, 9, PageRun(1, 2)),
        (2, 9, PageRun(2, 1)),
        (0, 1, PageRun(1, 1)),
        (3, 9, PageRun(5, 3)),
        (3, 2, PageRun(5, 2)),
        (8, 9, None),
    ],
)
def test_next_run_starts_at_the_first_dirty_page(
    start: int, most: int, run: PageRun | None
) -> None:
    assert bitmap("01100111").next_run(start, most) == run


def test_runs_are_cut_to_the_longest_allowed() -> None:
    assert list(bitmap("01100111").runs()) == [(1, 2), (5, 3)]
    assert list(bitmap("01100111").runs(2)) == [(1, 2), (5, 2), (7, 1)]


def test_merge_counts_what_is_new() -> None:
    ours = bitmap("0110")
    assert ours.merge(bitmap("0011")) == 1
    assert text(ours) == "0111"


def test_merge_refuses_another_length() -> None:
    with pytest.raises(ValueError, match="4 pages do not merge into 3"):
        DirtyBitmap(3).merge(DirtyBitmap(4))


@given(
    pages=st.integers(1, 70_000),
    ours=st.lists(st.tuples(st.integers(0, 69_999), st.integers(1, 300)), max_size=9),
    theirs=st.lists(st.tuples(st.integers(0, 69_999), st.integers(1, 300)), max_size=9),
)
@settings(deadline=None, max_examples=50)
def test_merge_is_the_union(
    pages: int, ours: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    first, second = DirtyBitmap(pages), DirtyBitmap(pages)
    for target, runs in ((first, ours), (second, theirs)):
        for start, count in runs:
            target.mark(min(start, pages), max(min(count, pages - start), 0))
    union = bytes(a | b for a, b in zip(first.marks, second.marks, strict=True))
    fresh = union.count(1) - first.count()
    assert first.merge(second) == fresh
    assert first.marks == union


def test_take_leaves_a_clean_bitmap_behind() -> None:
    pages = bitmap("0101")
    taken = pages.take()
    assert (text(taken), text(pages)) == ("0101", "0000")


@pytest.mark.parametrize(
    ("marks", "bits"),
    [("", ""), ("1", "01"), ("10000001", "81"), ("000000001", "0001"), ("0" * 9, "0000")],
)
def test_to_bits_puts_the_first_page_into_the_lowest_bit(marks: str, bits: str) -> None:
    assert bitmap(marks).to_bits() == bytes.fromhex(bits)


@given(st.binary(max_size=40), st.integers(0, 9), st.integers(0, 7))
def test_bits_of_a_part_come_back_as_they_were(data: bytes, first: int, spare: int) -> None:
    count = max(8 * len(data) - spare, 0)
    pages = DirtyBitmap(first + count + 3)
    pages.mark_all()
    pages.set_bits(first, count, data)
    expected = [data[page // 8] >> page % 8 & 1 for page in range(count)]
    assert list(pages.marks) == [1] * first + expected + [1] * 3
    other = DirtyBitmap(count)
    other.set_bits(0, count, pages.to_bits(first, count))
    assert list(other.marks) == expected


def test_bits_beyond_the_end_are_refused() -> None:
    with pytest.raises(IndexError):
        DirtyBitmap(8).set_bits(1, 8, b"\xff")
