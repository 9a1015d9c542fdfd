"""The cache does for a batch of pages what section 3.4 of the format says of one after another."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings, strategies as st

from transship_ram._cache import PageCache

PAGE = 64


@dataclass
class SlowCache:
    """The rules for single pages, one after another.

    Attributes:
        slots: By slot: address, age and content.
        hits: Which of all pages so far were found.
    """

    entries: int
    slots: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    hits: list[bool] = field(default_factory=list)

    def deal_with(self, address: int, now: int, content: bytes, *, is_zero: bool) -> None:
        slot = address % self.entries
        owner, age, kept = self.slots.get(slot, (-1, 0, b""))
        if owner == address:
            self.slots[slot] = (owner, now, kept)
        self.hits.append(owner == address and not is_zero)
        if owner == address or owner == -1 or age + 2 <= now:
            self.slots[slot] = (address, now, bytes(PAGE) if is_zero else content)


def content_of(cache: PageCache) -> list[bytes]:
    return [bytes(cache.memory[at : at + PAGE]) for at in range(0, cache.size_bytes, PAGE)]


@given(
    seed=st.integers(0, 1 << 32),
    entries=st.sampled_from([1, 2, 8, 32]),
    batches=st.integers(1, 30),
    pages=st.sampled_from([4, 20, 100]),
)
@settings(deadline=None, max_examples=150)
def test_batches_are_dealt_with_as_page_after_page(
    seed: int, entries: int, batches: int, pages: int
) -> None:
    source = random.Random(seed)
    cache, slow = PageCache(entries * PAGE, PAGE), SlowCache(entries)
    hits: list[bool] = []
    now = 2
    for _ in range(batches):
        now += source.choice([0, 0, 1, 1, 2, 5])
        batch = sorted(source.sample(range(pages), source.randrange(1, pages)))
        contents = [source.randbytes(PAGE) for _ in batch]
        zeros = np.array([source.random() < 0.2 for _ in batch], np.bool_)
        found = cache.look_up(np.array(batch, np.int64), now, may_change=True)
        count = source.choice([1, len(batch)])  # of the others the budget is spent
        known = content_of(cache)
        for row in range(count):
            if found.holds[row] and not zeros[row] and source.random() < 0.5:
                contents[row] = known[found.slots[row]]
        same = np.array(
            [known[slot] == content for slot, content in zip(found.slots, contents, strict=True)],
            np.bool_,
        )
        memory = memoryview(b"".join(contents))
        cache.put(found.first(count), now, zeros[:count], same[:count] & ~zeros[:count], memory)
        hits += (found.holds & ~zeros)[:count].tolist()
        for row in range(count):
            slow.deal_with(batch[row], now, contents[row], is_zero=bool(zeros[row]))
    assert hits == slow.hits
    known = content_of(cache)
    for slot, (address, _, content) in slow.slots.items():
        found = cache.look_up(np.array([address], np.int64), now, may_change=False)
        assert found.holds[0]
        assert known[slot] == content


def test_page_is_not_found_before_it_was_put() -> None:
    cache = PageCache(4 * PAGE, PAGE)
    for may_change in (True, False):
        found = cache.look_up(np.arange(8), 2, may_change=may_change)
        assert not found.holds.any()


def test_look_up_alone_changes_nothing() -> None:
    cache = PageCache(4 * PAGE, PAGE)
    for _ in range(2):
        found = cache.look_up(np.arange(8), 2, may_change=True)
        assert found.takes.tolist() == [True] * 4 + [False] * 4


def test_nothing_is_taken_where_nothing_may_change() -> None:
    cache = PageCache(4 * PAGE, PAGE)
    assert not cache.look_up(np.arange(4), 2, may_change=False).takes.any()
