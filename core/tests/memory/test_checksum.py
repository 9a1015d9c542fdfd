"""The checksum of memory, which is the same by every implementation."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from transship.memory import kernels

from .kernel_inputs import PAGE, patterned

if TYPE_CHECKING:
    from transship.memory.kernels import Kernels


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
