"""A total bandwidth: divided fairly, at any moment, and kept to by migrations that share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from engine_channels import Watched
from engine_machine import PAGE
from engine_pair import Pair
from hypothesis import given, strategies as st

from transship.abc.settings import Parameters
from transship.engine.limiter import BandwidthLimiter, fair_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

totals = st.integers(0, 1 << 50)
caps_of_all = st.lists(st.integers(0, 1 << 50), min_size=1, max_size=12)


@given(totals, caps_of_all)
def test_no_share_is_above_its_cap_and_together_they_are_the_total(
    total: int, caps: list[int]
) -> None:
    shares = fair_shares(total, caps)
    assert all(share <= (cap or total) for share, cap in zip(shares, caps, strict=True))
    assert all(share >= 0 for share in shares)
    wanted = total if 0 in caps else min(total, sum(caps))
    assert sum(shares) == pytest.approx(wanted)


@given(totals, caps_of_all)
def test_whoever_gets_less_than_another_is_at_its_cap(total: int, caps: list[int]) -> None:
    shares = fair_shares(total, caps)
    largest = max(shares)
    for share, cap in zip(shares, caps, strict=True):
        assert share == pytest.approx(largest) or share == pytest.approx(cap)


@given(totals, caps_of_all, st.data())
def test_share_does_not_depend_on_the_order_of_coming(
    total: int, caps: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(caps))))
    shares = fair_shares(total, caps)
    others = fair_shares(total, [caps[number] for number in order])
    assert others == pytest.approx([shares[number] for number in order])


@given(totals, caps_of_all, st.integers(0, 1 << 50))
def test_one_more_never_makes_the_share_of_another_larger(
    total: int, caps: list[int], newcomer: int
) -> None:
    before = fair_shares(total, caps)
    after = fair_shares(total, [*caps, newcomer])[:-1]
    for ours, theirs in zip(before, after, strict=True):
        assert theirs <= ours * (1 + 1e-9)


@pytest.mark.parametrize(
    ("caps", "shares"),
    [
        ([0], [100]),
        ([0, 0], [50, 50]),
        ([10, 0, 0], [10, 45, 45]),
        ([10, 20], [10, 20]),
        ([90, 90, 20], [40, 40, 20]),
        ([500, 0], [50, 50]),
    ],
)
def test_total_of_a_hundred_is_divided(caps: list[int], shares: list[int]) -> None:
    assert fair_shares(100, caps) == pytest.approx(shares)


def test_share_changes_as_members_come_and_go_and_as_caps_and_total_change() -> None:
    limiter = BandwidthLimiter(1000)
    caps = {"first": 0, "second": 0}
    with limiter.member(lambda: caps["first"]) as first:
        assert first() == 1000
        with limiter.member(lambda: caps["second"]) as second:
            assert (first(), second()) == (500, 500)
            caps["second"] = 100
            assert (first(), second()) == (900, 100)
            limiter.total_bytes_per_s = 150
            assert (first(), second()) == (75, 75)
            with limiter.member(lambda: 0) as third:
                assert (first(), second(), third()) == (50, 50, 50)
        assert first() == 150


def test_member_that_fails_leaves_its_share_to_the_others() -> None:
    limiter = BandwidthLimiter(1000)
    with limiter.member(lambda: 0) as stays:
        with pytest.raises(OSError, match="gone"), limiter.member(lambda: 0):
            raise OSError("gone")
        assert stays() == 1000


def test_share_is_never_zero_which_would_be_no_limit() -> None:
    limiter = BandwidthLimiter(2)
    with limiter.member(lambda: 0) as one, limiter.member(lambda: 0), limiter.member(lambda: 0):
        assert one() == 1
        limiter.total_bytes_per_s = 0
        assert one() == 1


# Several migrations of one process.

TOTAL = 40 * PAGE
_PAGES = 120
_SLACK = 6 * PAGE
"""What is sent when it has been decided on goes: a page, and its record, of each."""


def pair(limiter: BandwidthLimiter, cap_bytes_per_s: int = 0) -> Pair:
    parameters = Parameters(max_bandwidth_bytes_per_s=cap_bytes_per_s, downtime_limit_s=0)
    return Pair(near=Watched, parameters=parameters, limiter=limiter, pages=_PAGES)


def sent_between(pairs: Sequence[Pair], start_s: float, end_s: float) -> int:
    return sum(
        length
        for one in pairs
        if isinstance(one.near, Watched)
        for at_s, length in one.near.sent
        if start_s <= at_s < end_s
    )


async def run(pairs: Sequence[Pair]) -> float:
    """Run all to their ends. Returns when they began."""
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for one in pairs:
            nursery.start_soon(one.run)
    assert all(one.destination.is_running for one in pairs)
    return started_s


@pytest.mark.seed("S33")
async def test_several_migrations_share_a_total_evenly_and_keep_to_it(
    autojump_clock: MockClock,
) -> None:
    limiter = BandwidthLimiter(TOTAL)
    pairs = [pair(limiter) for _ in range(3)]
    started_s = await run(pairs)
    took_s = trio.current_time() - started_s
    assert took_s == pytest.approx(3 * _PAGES * PAGE / TOTAL, rel=0.1)
    for second in range(int(took_s)):
        at_s = started_s + second
        assert sent_between(pairs, at_s, at_s + 1) <= TOTAL * 1.1 + _SLACK
    each = [sent_between([one], started_s, started_s + 6) for one in pairs]
    assert each == pytest.approx([6 * TOTAL / 3] * 3, rel=0.1)


async def test_one_that_has_left_makes_room_for_the_others(autojump_clock: MockClock) -> None:
    limiter = BandwidthLimiter(TOTAL)
    short, long = pair(limiter), pair(limiter)
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(long.run)
        nursery.start_soon(short.run)
        await trio.sleep(2.0)
        short.migration.cancel()
    assert sent_between([long], started_s, started_s + 2) == pytest.approx(TOTAL, rel=0.15)
    assert sent_between([long], started_s + 2.2, started_s + 3.2) == pytest.approx(TOTAL, rel=0.15)


async def test_one_with_a_cap_of_its_own_leaves_the_rest_to_the_others(
    autojump_clock: MockClock,
) -> None:
    limiter = BandwidthLimiter(TOTAL)
    capped, free = pair(limiter, TOTAL // 10), pair(limiter)
    started_s = await run([capped, free])
    span = started_s + 1, started_s + 3
    assert sent_between([capped], *span) == pytest.approx(2 * TOTAL / 10, rel=0.3)
    assert sent_between([free], *span) == pytest.approx(2 * TOTAL * 9 / 10, rel=0.15)


async def test_total_that_is_changed_while_they_run_holds_from_the_next_slice_on(
    autojump_clock: MockClock,
) -> None:
    limiter = BandwidthLimiter(TOTAL)
    pairs = [pair(limiter), pair(limiter)]
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for one in pairs:
            nursery.start_soon(one.run)
        await trio.sleep(2.05)
        limiter.total_bytes_per_s = TOTAL // 4
        await trio.sleep(2.0)
        limiter.total_bytes_per_s = TOTAL
    before = sent_between(pairs, started_s, started_s + 2)
    slow = sent_between(pairs, started_s + 2.2, started_s + 4)
    after = sent_between(pairs, started_s + 4.2, started_s + 5.2)
    assert before == pytest.approx(2 * TOTAL, rel=0.1)
    assert slow == pytest.approx(1.8 * TOTAL / 4, rel=0.3)
    assert after == pytest.approx(TOTAL, rel=0.15)
