"""Ranges of addresses that were written to, as marks of the pages that they touch."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from transship.memory import kernels

from .kernel_inputs import PAGE, numbers

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels

START = 1 << 40


def marked(implementation: Kernels, ranges: list[tuple[int, int]], marks: bytes) -> object:
    flat = [number for first, end in ranges for number in (first, end, 7)]
    result = bytearray(marks)
    try:
        return implementation.mark_ranges(numbers(*flat), START, PAGE, result), bytes(result)
    except ValueError:
        return "refused"


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
