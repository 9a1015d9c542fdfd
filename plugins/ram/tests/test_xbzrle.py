"""XBZRLE on the source: what is sent as a change, what is not, and what is counted."""

from __future__ import annotations

import random
import resource
import tracemalloc

import pytest
from ram_helpers import (
    CONTINUE,
    EOS,
    FULL,
    PAGE,
    XBZRLE,
    ZERO,
    collect,
    name,
    page,
    ram_section,
    record,
    word,
    xbzrle,
    xbzrle_section,
)
from xbzrle_helpers import UNLIMITED, Passage, cached, filled, started

from transship.abc import Parameters
from transship.errors import LocalError
from transship.testing.guests import FakeGuest

KIB, MIB = 1024, 1024 * 1024


def guest_of(pages: int, *others: int, page_size: int = PAGE) -> FakeGuest:
    """A guest with blocks ``a``, ``b`` and so on of so many pages, each with other content."""
    blocks = {chr(ord("a") + at): size for at, size in enumerate((pages, *others))}
    guest = FakeGuest(
        {idstr: size * page_size for idstr, size in blocks.items()}, page_size=page_size
    )
    source = random.Random(pages)
    for idstr, size in blocks.items():
        guest.write(idstr, 0, source.randbytes(size * page_size))
    return guest


# When it starts.


def test_first_round_is_sent_in_full_and_not_cached() -> None:
    passage = Passage(guest_of(4))
    body = passage.part()
    assert len(body) == 4 * (8 + PAGE) + len(name("a"))
    assert passage.counted("pages", "cache_miss") == (0, 0)


def test_page_of_the_first_round_is_sent_in_full_again_and_then_as_a_change() -> None:
    passage = started(guest_of(4))
    content = bytes(passage.guest.block("a").view)
    second = passage.round({2: b"one"})
    assert second == record(2 * PAGE, FULL, b"one" + content[2 * PAGE + 3 : 3 * PAGE])
    assert passage.counted("pages", "cache_miss") == (0, 1)
    third = passage.round({2: b"two"})
    assert third == record(2 * PAGE, XBZRLE, xbzrle(b"\0\3two"))
    assert passage.counted("pages", "cache_miss") == (1, 1)
    passage.check()


def test_page_written_again_before_the_first_round_is_over_is_not_cached() -> None:
    passage = Passage(guest_of(4))
    passage.part(1)
    passage.guest.write("a", 3 * PAGE, b"ahead of the scan")
    passage.guest.write("a", 0, b"behind it")
    passage.sync()
    body = passage.part()
    assert len(body) == 4 * (8 + PAGE)
    assert passage.counted("cache_miss") == (1,), "only what came after the last page"


def test_without_the_capability_nothing_of_it_is_seen() -> None:
    guest = guest_of(4)
    section = ram_section(guest)
    collect(section.begin())
    collect(section.iterate(UNLIMITED))
    for text in (b"one", b"two", b"six"):
        guest.write("a", 0, text)
        section.pending(exact=True)
        body = collect(section.iterate(UNLIMITED)).body
        assert len(body) == 8 + PAGE + len(EOS)
    assert not [key for key in section.statistics() if "xbzrle" in key]


# Hits.


def test_page_that_has_not_changed_is_not_sent() -> None:
    guest = guest_of(4)
    passage = cached(guest, range(4))
    guest.log.mark(guest.block("a"), 1, 2)
    assert passage.round() == b""
    assert passage.counted("pages", "bytes", "overflow", "remaining") == (2, 0, 0, 0)


def test_page_that_has_changed_too_much_is_sent_in_full_and_cached() -> None:
    passage = cached(guest_of(4), range(4))
    assert passage.round({1: page(7)}) == record(PAGE, FULL, page(7))
    assert passage.counted("pages", "bytes", "overflow", "cache_miss") == (1, PAGE, 1, 4)
    assert passage.round({1: b"\7\7\1"}) == record(PAGE, XBZRLE, xbzrle(b"\2\1\1"))


def test_change_is_made_against_what_was_last_sent_of_the_page() -> None:
    passage = cached(guest_of(2), range(2))
    for text in (b"one", b"two", b"too", b"to "):
        passage.round({0: text})
        passage.check()
    assert passage.round({0: b"too"}) == record(0, XBZRLE, xbzrle(b"\2\1o"))


def test_pages_of_all_fates_come_in_order() -> None:
    guest = guest_of(8)
    passage = cached(guest, range(1, 8))
    guest.log.mark(guest.block("a"), 3)
    body = passage.round({0: page(1), 1: b"one", 5: bytes(PAGE), 6: page(2), 7: b"two"})
    assert body == b"".join(
        [
            record(0, FULL, page(1)),
            record(PAGE, XBZRLE, xbzrle(b"\0\3one")),
            record(5 * PAGE, ZERO, b"\0"),
            record(6 * PAGE, FULL, page(2)),
            record(7 * PAGE, XBZRLE, xbzrle(b"\0\3two")),
        ]
    )
    passage.check()


def test_change_as_long_as_a_page_fits_its_buffer() -> None:
    guest = guest_of(256)
    guest.write("a", 0, b"\7" * (256 * PAGE))
    passage = cached(guest, range(256))
    guest.write("a", 0, b"\7\7\7".ljust(PAGE, b"\1") * 256)
    passage.sync()
    body = passage.part()
    assert len(body) == 256 * (11 + PAGE)
    passage.check()


# Zero pages.


def test_page_that_becomes_zero_is_cached_as_zero() -> None:
    passage = started(guest_of(4))
    assert passage.round({1: bytes(PAGE)}) == record(PAGE, ZERO, b"\0")
    assert passage.round({1: b"one"}) == record(PAGE, XBZRLE, xbzrle(b"\0\3one"))
    assert passage.counted("pages", "cache_miss", "duplicate") == (1, 0, 1)


def test_cached_page_that_becomes_zero_is_cached_as_zero() -> None:
    passage = cached(guest_of(4), range(4))
    assert passage.round({1: bytes(PAGE)}) == record(PAGE, ZERO, b"\0")
    assert passage.round({1: b"\0\0x"}) == record(PAGE, XBZRLE, xbzrle(b"\2\1x"))
    assert passage.counted("pages", "cache_miss") == (1, 4)
    passage.check()


def test_zero_page_of_the_first_round_is_not_cached() -> None:
    passage = started(FakeGuest({"a": 4 * PAGE}))
    assert passage.round({1: b"one"}) == record(PAGE, FULL, filled(b"one"))
    assert passage.counted("cache_miss") == (1,)


# The last stage.


def test_last_stage_sends_changes_against_what_was_cached() -> None:
    guest = guest_of(4)
    passage = cached(guest, range(3))
    guest.write("a", PAGE, b"one")
    guest.log.mark(guest.block("a"), 2)
    guest.write("a", 3 * PAGE, page(1))
    assert passage.end() == (
        record(3 * PAGE, FULL, page(1)) + record(PAGE, XBZRLE, xbzrle(b"\0\3one"))
    ), "from where the scan was, and around"
    assert passage.counted("pages", "cache_miss") == (2, 4)


def test_last_stage_keeps_nothing_and_lets_nothing_go() -> None:
    """Pages 0 and 4 share a slot, and page 4 is there, and old enough to be replaced."""
    guest = guest_of(8)
    passage = cached(guest, range(4, 5), cache_pages=4)
    passage.sync()
    passage.sync()
    guest.write("a", 0, page(1))
    guest.write("a", 4 * PAGE, b"one")
    body = passage.end()
    assert body == record(0, FULL, page(1)) + record(4 * PAGE, XBZRLE, xbzrle(b"\0\3one"))


def test_same_pages_before_the_last_stage_replace_each_other() -> None:
    guest = guest_of(8)
    passage = cached(guest, range(4, 5), cache_pages=4)
    passage.sync()
    guest.write("a", 4 * PAGE, b"one")
    body = passage.round({0: page(1)})
    assert len(body) == 2 * (8 + PAGE)
    assert passage.counted("pages", "cache_miss") == (0, 3)


def test_last_stage_without_any_round_is_like_the_first_round() -> None:
    passage = Passage(guest_of(4))
    assert len(passage.end()) == 4 * (8 + PAGE) + len(name("a"))
    assert passage.counted("cache_miss", "pages") == (0, 0)


def test_memory_of_the_cache_is_given_back_at_the_end() -> None:
    guest = FakeGuest({"a": 64 * MIB})
    guest.write("a", 0, b"\1" * (64 * MIB))
    tracemalloc.start()  # numpy tells it of its arrays
    try:
        passage = started(guest, cache_pages=64 * MIB // PAGE)
        guest.log.mark(guest.block("a"), 0, 64 * MIB // PAGE)
        passage.round()
        assert tracemalloc.get_traced_memory()[0] > 64 * MIB
        passage.section.cancel()
        assert tracemalloc.get_traced_memory()[0] < 16 * MIB
    finally:
        tracemalloc.stop()
    assert passage.counted("cache_size") == (64 * MIB,)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


# Slots and ages.


def test_cached_page_keeps_its_slot_for_two_syncs() -> None:
    """Pages 0 and 4 share the slot; that of sync 2 may be replaced at sync 4."""
    passage = cached(guest_of(8), range(1), cache_pages=4)
    assert passage.counted("dirty_sync_count") == (2,)
    assert len(passage.round({4: b"one"})) == 8 + PAGE
    assert len(passage.round({4: b"two"})) == 8 + PAGE
    assert passage.round({4: b"six"}) == record(4 * PAGE, XBZRLE, xbzrle(b"\0\3six"))
    assert passage.counted("pages", "cache_miss") == (1, 3)


@pytest.mark.parametrize("write", [b"", b"new", page(9), bytes(PAGE)])
def test_page_that_is_looked_up_stays_young(write: bytes) -> None:
    """Whether it is unchanged, changed, changed too much, or zero."""
    passage = cached(guest_of(8), range(1), cache_pages=4)
    passage.guest.log.mark(passage.guest.block("a"), 0)
    passage.round({0: write})
    assert len(passage.round({4: b"one"})) == 8 + PAGE
    assert passage.round({0: b"more"}).startswith(word(XBZRLE | CONTINUE))
    passage.check()


def test_zero_page_does_not_drive_out_a_young_one() -> None:
    passage = cached(guest_of(8), range(1), cache_pages=4)
    passage.round({4: bytes(PAGE)})
    assert passage.round({0: b"one"}) == record(0, XBZRLE, xbzrle(b"\0\3one"))
    assert len(passage.round({4: b"two"})) == 8 + PAGE


def test_of_pages_that_share_a_slot_the_first_one_gets_it() -> None:
    guest = guest_of(12)
    passage = cached(guest, range(12), cache_pages=4)
    for number in range(12):
        guest.write("a", number * PAGE, b"one")
    body = passage.round()
    assert passage.counted("pages", "cache_miss") == (4, 12 + 8)
    assert len(body) == 4 * (11 + 5) + 8 * (8 + PAGE)
    passage.check()


def test_cache_of_a_single_page_works() -> None:
    guest = guest_of(4)
    passage = cached(guest, range(4), cache_pages=1)
    assert passage.round({0: b"one", 3: b"two"})[:16] == record(0, XBZRLE, xbzrle(b"\0\3one"))
    assert passage.counted("pages", "cache_miss") == (1, 5)


# Several blocks.


def test_pages_of_several_blocks_are_counted_through() -> None:
    """Of 8 slots the blocks take 4 each; of 4 slots both want the same."""
    for slots, hits in ((8, 8), (4, 4)):
        guest = guest_of(4, 4)
        passage = started(guest, cache_pages=slots)
        for _ in range(2):
            for idstr in "ab":
                guest.log.mark(guest.block(idstr), 0, 4)
            passage.round()
        assert passage.counted("pages", "cache_miss") == (hits, 16 - hits)


def test_block_is_named_by_the_first_record_whatever_that_is() -> None:
    guest = guest_of(2, 2)
    passage = started(guest)
    for idstr in "ab":
        guest.log.mark(guest.block(idstr), 0, 2)
    passage.round()
    guest.log.mark(guest.block("a"), 0)
    guest.write("a", PAGE, b"one")
    guest.write("b", 0, bytes(PAGE))
    guest.write("b", PAGE, b"two")
    assert passage.round() == b"".join(
        [
            record(PAGE, XBZRLE, xbzrle(b"\0\3one"), "a"),
            record(0, ZERO, b"\0", "b"),
            record(PAGE, XBZRLE, xbzrle(b"\0\3two")),
        ]
    )
    passage.check()
    assert passage.counted("bytes") == (3 + 5 + len(name("a")) + 3 + 5,)


def test_block_of_which_nothing_is_sent_is_not_named() -> None:
    guest = guest_of(2, 2)
    passage = started(guest)
    for idstr in "ab":
        guest.log.mark(guest.block(idstr), 0, 2)
    passage.round()
    guest.log.mark(guest.block("a"), 0, 2)
    assert passage.round() == b""
    assert passage.round({0: b"one"}, block="b") == record(0, XBZRLE, xbzrle(b"\0\3one"))


# Budgets.


def test_record_that_reaches_the_budget_is_the_last() -> None:
    passage = cached(guest_of(8), range(8))
    for number in range(8):
        passage.guest.write("a", number * PAGE, b"one")
    passage.sync()
    size = 11 + 5
    assert [len(passage.part(budget)) for budget in (1, size, size + 1, 1000)] == [
        size,
        size,
        2 * size,
        4 * size,
    ]
    assert passage.counted("pages", "cache_miss") == (8, 8)


def test_pages_beyond_the_budget_are_neither_counted_nor_cached() -> None:
    guest = guest_of(8)
    passage = started(guest)
    guest.log.mark(guest.block("a"), 0, 8)
    passage.sync()
    passage.part(1)
    assert passage.counted("cache_miss", "handled_pages") == (1, 9)
    guest.write("a", PAGE, b"not sent before")
    passage.part()
    assert passage.counted("cache_miss", "handled_pages") == (8, 16)
    passage.check()


def test_change_beyond_the_budget_is_made_anew_when_its_turn_comes() -> None:
    guest = guest_of(4)
    passage = cached(guest, range(4))
    guest.write("a", 0, b"one")
    guest.write("a", PAGE, b"one")
    passage.sync()
    passage.part(1)
    guest.write("a", PAGE, b"two")
    assert passage.part() == record(PAGE, XBZRLE, xbzrle(b"\0\3two"))
    passage.check()


def test_unchanged_pages_cost_nothing_of_the_budget() -> None:
    guest = guest_of(600)
    passage = cached(guest, range(600))
    guest.log.mark(guest.block("a"), 0, 599)
    guest.write("a", 599 * PAGE, b"one")
    passage.sync()
    assert passage.part(1) == record(599 * PAGE, XBZRLE, xbzrle(b"\0\3one"))


def test_record_ends_after_a_gibibyte_of_which_nothing_had_to_be_sent() -> None:
    guest = FakeGuest({"a": 1040 * MIB})
    section = xbzrle_section(guest)
    collect(section.begin())
    assert not collect(section.iterate(UNLIMITED)).is_through
    assert 0 < section.pending(exact=False).must_precopy <= 16 * MIB
    assert collect(section.iterate(UNLIMITED)).is_through


# The size of the cache.


def test_resized_cache_is_empty_and_works() -> None:
    guest = guest_of(8)
    passage = cached(guest, range(8), cache_pages=8)
    for cache_pages in (16, 4):
        passage.resize(cache_pages * PAGE)
        assert len(passage.round({0: b"one"})) == 8 + PAGE
        assert passage.round({0: b"two"}) == record(0, XBZRLE, xbzrle(b"\0\3two"))
        assert passage.counted("cache_size") == (cache_pages * PAGE,)
    assert passage.counted("pages", "cache_miss") == (2, 10)
    passage.end()


def test_cache_is_resized_between_two_batches_of_one_record() -> None:
    guest = guest_of(600)
    passage = cached(guest, range(600))
    for number in range(600):
        guest.write("a", number * PAGE, b"\1" + bytes(PAGE - 1))
    passage.sync()
    segments = passage.section.iterate(UNLIMITED)
    next(segments)
    hits = passage.counted("pages")[0]
    passage.resize(2048 * PAGE)
    for _ in segments:
        pass
    assert hits > 0
    assert passage.counted("pages", "cache_miss") == (hits, 600 + 600 - hits)


def test_other_parameters_leave_the_cache_alone() -> None:
    passage = cached(guest_of(4), range(4), cache_pages=8)
    passage.settings.parameters = Parameters(
        max_bandwidth_bytes_per_s=1, xbzrle_cache_bytes=8 * PAGE
    )
    passage.round({0: b"one"})
    assert passage.counted("pages") == (1,)


def test_size_of_less_than_a_page_is_a_page() -> None:
    passage = started(guest_of(4))
    passage.resize(1)
    passage.round({0: b"one"})
    assert passage.counted("cache_size") == (PAGE,)
    passage.round({0: b"two"})
    assert passage.counted("pages") == (1,)


def test_cache_that_can_never_be_is_refused_and_logging_ends() -> None:
    guest = guest_of(4)
    section = xbzrle_section(guest, cache_pages=1 << 50)
    with pytest.raises(LocalError, match="no room for the cache"):
        collect(section.begin())
    section.cancel()
    assert (guest.log.starts, guest.log.stops) == (1, 1)


def test_cache_that_cannot_become_so_large_stays_as_it_is() -> None:
    passage = cached(guest_of(4), range(4), cache_pages=4)
    passage.resize(1 << 62)
    assert passage.round({0: b"one"}) == record(0, XBZRLE, xbzrle(b"\0\3one"))
    assert passage.counted("cache_size") == (4 * PAGE,)


def test_cache_takes_no_memory_before_pages_come() -> None:
    before = resident_bytes()
    passage = started(guest_of(4), cache_pages=1024 * MIB // PAGE)
    passage.round({0: b"one"})
    assert resident_bytes() - before < 64 * MIB


# Statistics.


def test_statistics_say_what_became_of_each_page() -> None:
    guest = guest_of(8)
    passage = cached(guest, range(8), cache_pages=8)
    guest.log.mark(guest.block("a"), 0, 2)
    body = passage.round({2: b"one", 3: page(1), 4: bytes(PAGE), 5: b"three"})
    changes = [11 + 5, 11 + 7]
    assert len(body) == sum(changes) + 8 + PAGE + 9
    statistics = passage.section.statistics()
    assert {key: value for key, value in statistics.items() if "xbzrle" in key} == {
        "xbzrle_cache_size": 8 * PAGE,
        "xbzrle_bytes": sum(changes) - 2 * 8 + PAGE,
        "xbzrle_pages": 5,
        "xbzrle_cache_miss": 8,
        "xbzrle_overflow": 1,
        "xbzrle_raw_bytes": 2 * PAGE,
        "xbzrle_encoded_bytes": 5 + 7,
    }
    assert (statistics["normal"], statistics["duplicate"]) == (8 + 8 + 1, 1)
    assert statistics["handled_pages"] == 8 + 8 + 6
    assert passage.section.live_counters().handled_pages == 8 + 8 + 6
    assert statistics["transferred"] == 8 * (8 + PAGE) * 2 + len(name("a")) + len(body) + 3 * 8


def test_bytes_of_changes_count_the_name_of_a_block() -> None:
    guest = guest_of(2, 2)
    passage = started(guest)
    for idstr in "ab":
        guest.log.mark(guest.block(idstr), 0, 2)
    passage.round()
    body = passage.round({0: b"one"})
    assert body == record(0, XBZRLE, xbzrle(b"\0\3one"), "a")
    assert passage.counted("bytes") == (len(body) - 8,)


def test_statistics_are_there_before_the_migration_begins() -> None:
    statistics = xbzrle_section(guest_of(1)).statistics()
    assert {value for key, value in statistics.items() if "xbzrle" in key} == {0}
