"""Every implementation of the kernels finds the pages that are zero, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .kernel_inputs import PAGE, numbers, patterned

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels


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
