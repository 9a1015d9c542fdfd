"""What a synthetic guest writes to its disks, and how it finds a write that was lost."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from transship.guests.diskpattern import BLOCK, DiskTraits

MIB = 1 << 20
TRAITS = DiskTraits(
    seed=7,
    size_bytes=3 * MIB,
    rate_bytes_per_s=16 * MIB,
    tick_ns=1_000_000,
    working_bytes=2 * MIB + 512,
)


class Bytes:
    """A disk that is nothing but bytes."""

    def __init__(self, traits: DiskTraits) -> None:
        self.data = bytearray(b"\xee" * traits.size_bytes)
        self._traits = traits

    def tick(self, counter: int, most: int = 1 << 30) -> None:
        for _, (block, content) in zip(range(most), self._traits.written_by(counter), strict=False):
            self.data[block * BLOCK : (block + 1) * BLOCK] = content

    def read_into(self, offset: int, target: memoryview) -> None:
        target[:] = self.data[offset : offset + len(target)]


def after(counter: int, traits: DiskTraits = TRAITS) -> Bytes:
    disk = Bytes(traits)
    for one in range(1, counter + 1):
        disk.tick(one)
    return disk


@given(
    st.integers(0, 70 * BLOCK),
    st.integers(0, 70 * BLOCK),
    st.integers(0, 300 * BLOCK),
    st.integers(0, 40),
    st.integers(0, 9),
)
def test_every_block_is_what_was_written_last(
    size: int, working: int, rate: int, counter: int, seed: int
) -> None:
    traits = DiskTraits(seed, size, rate, 100_000_000, working)
    disk = after(counter, traits)
    assert traits.first_wrong_block(disk.read_into, counter) is None
    untouched = sum(
        disk.data[start : start + BLOCK] == b"\xee" * BLOCK
        for start in range(0, traits.blocks * BLOCK, BLOCK)
    )
    assert traits.written_blocks(counter) == traits.blocks - untouched


def test_writes_are_scattered_and_come_to_each_block() -> None:
    blocks = [block for counter in range(1, 129) for block, _ in TRAITS.written_by(counter)]
    assert sorted(blocks[: TRAITS.blocks]) == list(range(TRAITS.blocks))
    assert all(abs(one - other) > 100 for one, other in pairwise(blocks))


def test_write_that_is_lost_is_found() -> None:
    disk = after(200)
    before = after(199)
    block, content = next(iter(TRAITS.written_by(200)))
    lost = slice(block * BLOCK, (block + 1) * BLOCK)
    assert disk.data[lost] == content
    disk.data[lost] = before.data[lost]
    assert TRAITS.first_wrong_block(disk.read_into, 200) == block


@pytest.mark.parametrize("place", [0, BLOCK - 1])
def test_single_wrong_byte_is_found(place: int) -> None:
    disk = after(200)
    disk.data[100 * BLOCK + place] ^= 1
    assert TRAITS.first_wrong_block(disk.read_into, 200) == 100


def test_tick_that_was_cut_short_is_allowed_for_only_if_it_is_asked_for() -> None:
    disk = after(200)
    disk.tick(201, most=2)
    assert TRAITS.first_wrong_block(disk.read_into, 200) is not None
    assert TRAITS.first_wrong_block(disk.read_into, 200, ahead=1) is None
    disk.tick(201)
    disk.tick(202)
    assert TRAITS.first_wrong_block(disk.read_into, 200, ahead=1) is not None


def test_disk_of_another_guest_is_wrong() -> None:
    other = replace(TRAITS, seed=8)
    assert other.first_wrong_block(after(50).read_into, 50) is not None
