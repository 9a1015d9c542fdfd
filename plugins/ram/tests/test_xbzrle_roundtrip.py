"""Whatever a guest does while XBZRLE is on: what was saved loads as the same memory."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from ram_helpers import PAGE, OpenGuest, collect, load, ram_section, xbzrle_settings
from xbzrle_helpers import UNLIMITED, Passage

from transship.abc import Parameters
from transship.testing.guests import FakeGuest, GuestWrite
from transship_ram._section import RAMSection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024


def small_changes(blocks: dict[str, int], seed: int, page_size: int) -> Iterator[list[GuestWrite]]:
    """Endless steps of writes: mostly a few bytes, at places that come again."""
    source = random.Random(seed)
    places = [
        (idstr, source.randrange(blocks[idstr]))
        for idstr in blocks
        for _ in range(max(blocks[idstr] // page_size // 2, 1))
    ]
    while True:
        step = []
        for _ in range(source.randrange(30)):
            idstr, start = source.choice(places)
            size = source.choice([1, 1, 8, 8, 64, 64, 300, page_size, 3 * page_size])
            size = min(size, blocks[idstr])
            start = min(start, blocks[idstr] - size)
            content = bytes(size) if source.random() < 0.2 else source.randbytes(size)
            step.append(GuestWrite(idstr, start, content))
        yield step


def busy_guest(blocks: dict[str, int], seed: int, page_size: int = PAGE) -> FakeGuest:
    guest = FakeGuest(blocks, script=small_changes(blocks, seed, page_size), page_size=page_size)
    for _ in range(20):
        guest.play()
    return guest


def bodies_of(
    section: RAMSection,
    guest: FakeGuest,
    budgets: list[int],
    before: Callable[[int], None] = lambda number: None,
) -> list[bytes]:
    """The bodies of START, of a PART for each budget, and of END, while the guest goes on.

    Args:
        section: The source's.
        guest: The source.
        budgets: Of the PARTs.
        before: Called before each of them, with its number.
    """
    bodies = [collect(section.begin()).body]
    for number, budget in enumerate(budgets):
        before(number)
        if section.pending(exact=False).must_precopy == 0 or number % 3 == 0:
            section.pending(exact=True)
        bodies.append(collect(section.iterate(budget), guest.play).body)
    bodies.append(collect(section.complete()).body)
    return bodies


def load_both(bodies: list[bytes], guest: FakeGuest) -> RAMSection:
    """Load, and compare what arrived."""
    copy = OpenGuest(guest.page_size)
    target = ram_section(copy)
    load(target, *bodies)
    assert copy.contents() == guest.contents()
    return target


@pytest.mark.parametrize("cache_pages", [1, 16, 256, 4096])
@pytest.mark.parametrize("budget", [5000, 100_000, UNLIMITED])
def test_busy_guest_arrives(cache_pages: int, budget: int) -> None:
    blocks = {"pc.ram": 2 * MIB, "vga": 64 * 1024, "rom": PAGE}
    guest = busy_guest(blocks, cache_pages + budget)
    section = RAMSection(guest, xbzrle_settings(cache_pages * PAGE))
    target = load_both(bodies_of(section, guest, [UNLIMITED] + [budget] * 40), guest)
    sent, received = section.statistics(), target.statistics()
    assert received["normal"] == sent["normal"]
    assert received["duplicate"] == sent["duplicate"]
    assert received["xbzrle"] == sent["xbzrle_raw_bytes"] // PAGE
    assert cache_pages == 1 or received["xbzrle"] > 0


@pytest.mark.parametrize("page_size", [1024, 16 * 1024, 64 * 1024])
def test_pages_of_other_sizes_arrive(page_size: int) -> None:
    guest = busy_guest({"pc.ram": 40 * page_size, "rom": page_size}, page_size, page_size)
    section = RAMSection(guest, xbzrle_settings(64 * page_size))
    target = load_both(bodies_of(section, guest, [UNLIMITED] * 12), guest)
    assert target.statistics()["xbzrle"] > 10


@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    budgets=st.lists(st.integers(0, 100_000), max_size=25),
    cache_pages=st.lists(st.sampled_from([1, 2, 8, 32, 128]), min_size=1, max_size=6),
)
@settings(deadline=None, max_examples=100)
def test_any_guest_arrives_whatever_the_cache(
    seed: int, sizes: list[int], budgets: list[int], cache_pages: list[int]
) -> None:
    blocks = {f"block{number}": size * PAGE for number, size in enumerate(sizes)}
    guest = busy_guest(blocks, seed)
    chosen = xbzrle_settings(PAGE)

    def resize(number: int) -> None:
        pages = cache_pages[number // 3 % len(cache_pages)]
        chosen.parameters = Parameters(xbzrle_cache_bytes=pages * PAGE)

    section = RAMSection(guest, chosen)
    load_both(bodies_of(section, guest, [UNLIMITED, *budgets], resize), guest)


def test_guest_that_writes_at_any_moment_arrives() -> None:
    """A thread writes, and then marks, while pages are looked at, copied and compared."""
    guest = FakeGuest({"pc.ram": 4 * MIB})
    guest.write("pc.ram", 0, random.Random(1).randbytes(4 * MIB))
    block = guest.block("pc.ram")
    is_over = threading.Event()

    def live() -> None:
        source = random.Random(2)
        while not is_over.is_set():
            start = source.randrange(4 * MIB - 9)
            block.view[start : start + 9] = source.randbytes(9)
            guest.log.mark(block, start // PAGE, (start + 8) // PAGE - start // PAGE + 1)

    passage = Passage(guest)
    passage.part()
    life = threading.Thread(target=live)
    life.start()
    ends_s = time.monotonic() + 1.0
    while time.monotonic() < ends_s:
        passage.sync()
        passage.part()
    is_over.set()
    life.join()
    passage.end()
    assert passage.counted("pages")[0] > 1000


def test_guest_that_changes_64_bytes_a_page_takes_a_tenth_of_the_bytes_or_less() -> None:
    sent = {}
    for capability in ("xbzrle", "none"):
        guest = FakeGuest({"pc.ram": 4 * MIB})
        guest.write("pc.ram", 0, random.Random(1).randbytes(4 * MIB))
        chosen = xbzrle_settings(4 * MIB)
        if capability == "none":
            chosen.capabilities = frozenset()
        section = RAMSection(guest, chosen)
        bodies = [collect(section.begin()).body, collect(section.iterate(UNLIMITED)).body]
        source = random.Random(2)
        rounds = []
        for _ in range(5):
            for start in range(0, 4 * MIB, PAGE):
                guest.write("pc.ram", start + source.randrange(PAGE - 64), source.randbytes(64))
            section.pending(exact=True)
            rounds.append(collect(section.iterate(UNLIMITED)).body)
        load_both([*bodies, *rounds, collect(section.complete()).body], guest)
        sent[capability] = [len(body) for body in rounds]
    assert sent["xbzrle"][0] == sent["none"][0], "the first of them fills the cache"
    for with_xbzrle, without in zip(sent["xbzrle"][1:], sent["none"][1:], strict=True):
        assert 10 * with_xbzrle <= without
