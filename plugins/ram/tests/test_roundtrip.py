"""Whatever a guest does meanwhile: what was saved loads as the same memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from ram_helpers import PAGE, OpenGuest, collect, load, ram_section, saved_records

from transship.testing.guests import FakeGuest, GuestWrite

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB, MIB = 1024, 1024 * 1024


def busy_script(blocks: dict[str, int], seed: int) -> Iterator[list[GuestWrite]]:
    """Endless steps of a few writes: whole pages, parts of pages, over page ends, and zeros."""
    source = random.Random(seed)
    while True:
        step = []
        for _ in range(source.randrange(4)):
            idstr = source.choice(list(blocks))
            size = min(source.choice([1, 8, 100, PAGE, 3 * PAGE, 40 * PAGE]), blocks[idstr])
            offset = source.randrange(blocks[idstr] - size + 1)
            content = bytes(size) if source.random() < 0.3 else source.randbytes(size)
            step.append(GuestWrite(idstr, offset, content))
        yield step


def filled_guest(blocks: dict[str, int], seed: int, page_size: int = PAGE) -> FakeGuest:
    guest = FakeGuest(blocks, script=busy_script(blocks, seed), page_size=page_size)
    for _ in range(100):
        guest.play()
    return guest


@pytest.mark.parametrize("step", [1, 4099, 64 * KIB, 1 << 22])
def test_guest_that_writes_between_segments_arrives_as_it_was_paused(step: int) -> None:
    blocks = {"pc.ram": 300 * KIB if step == 1 else 5 * MIB, "vga": 64 * KIB, "rom": PAGE}
    guest = filled_guest(blocks, seed=step)
    bodies = saved_records(ram_section(guest), 12, 200_000, guest.play)
    copy = OpenGuest()
    load(ram_section(copy), *bodies, step=step)
    assert copy.contents() == guest.contents()


def test_pages_of_a_larger_size_arrive() -> None:
    size = 64 * KIB
    guest = filled_guest({"pc.ram": 5 * MIB, "rom": size}, seed=1, page_size=size)
    bodies = saved_records(ram_section(guest), 5, 400_000, guest.play)
    copy = OpenGuest(page_size=size)
    load(ram_section(copy), *bodies)
    assert copy.contents() == guest.contents()


def test_destination_that_held_something_else_is_overwritten() -> None:
    guest = filled_guest({"pc.ram": 2 * MIB}, seed=2)
    copy = FakeGuest({"pc.ram": 2 * MIB})
    copy.block("pc.ram").view[:] = b"\x55" * (2 * MIB)
    load(ram_section(copy), *saved_records(ram_section(guest), 3, 500_000, guest.play))
    assert copy.contents() == guest.contents()


def test_source_can_be_sent_again_after_a_cancelled_try() -> None:
    guest = filled_guest({"pc.ram": MIB}, seed=3)
    first = ram_section(guest)
    collect(first.begin())
    collect(first.iterate(100_000), guest.play)
    first.cancel()
    copy = OpenGuest()
    load(ram_section(copy), *saved_records(ram_section(guest), 2, 100_000, guest.play))
    assert copy.contents() == guest.contents()


def test_both_sides_count_the_same_pages() -> None:
    guest = filled_guest({"pc.ram": 2 * MIB, "rom": PAGE}, seed=4)
    source, target = ram_section(guest), ram_section(OpenGuest())
    load(target, *saved_records(source, 6, 300_000, guest.play))
    sent, received = source.statistics(), target.statistics()
    assert received["normal"] == sent["normal"]
    assert received["duplicate"] == sent["duplicate"]
    assert received["total"] == sent["total"]


@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    rounds=st.integers(0, 6),
    budget=st.integers(0, 200_000),
)
@settings(deadline=None, max_examples=60)
def test_any_guest_arrives(seed: int, sizes: list[int], rounds: int, budget: int) -> None:
    blocks = {f"block{number}": size * PAGE for number, size in enumerate(sizes)}
    guest = filled_guest(blocks, seed)
    copy = OpenGuest()
    load(ram_section(copy), *saved_records(ram_section(guest), rounds, budget, guest.play))
    assert copy.contents() == guest.contents()
