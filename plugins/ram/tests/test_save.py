"""What the source sends, byte by byte."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, cast

import pytest
from ram_helpers import (
    EOS,
    FULL,
    PAGE,
    ZERO,
    collect,
    name,
    page,
    ram_section,
    record,
    saved_records,
    word,
)

from transship.abc import LiveCounters, Pending, Settings
from transship.errors import LocalError
from transship.memory.bitmap import DirtyBitmap
from transship.memory.ramblock import RAMBlock
from transship.plugin.registry import SectionRegistry
from transship.testing.guests import FakeGuest
from transship_ram import plugin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.buffers import Buffer
    from transship_ram._section import RAMSection

KIB, MIB = 1024, 1024 * 1024
UNLIMITED = 1 << 40


def begun(guest: FakeGuest) -> RAMSection:
    section = ram_section(guest)
    collect(section.begin())
    return section


def block_of(idstr: str, max_length: int, used_length: int) -> RAMBlock:
    return RAMBlock(idstr, mmap.mmap(-1, max_length), used_length)


# The hooks.


def test_factory_makes_a_section_for_a_guest_with_ram() -> None:
    (section,) = plugin.create_sections(FakeGuest({"pc.ram": PAGE}), Settings())
    assert (section.idstr, section.version_id, section.is_live) == ("ram", 4, True)


def test_factory_makes_none_for_a_guest_without_ram() -> None:
    assert not plugin.create_sections(FakeGuest({}), Settings())


def test_section_is_accepted_by_the_registry() -> None:
    registry = SectionRegistry([ram_section(FakeGuest({"pc.ram": PAGE}))])
    (section,) = registry
    assert collect(registry.begin(section)).body.endswith(EOS)
    assert registry.pending(section, exact=False) == Pending(must_precopy=PAGE)


# The table.


def test_table_is_that_of_a_real_machine() -> None:
    """The START body of a QEMU 10.0.2 pc machine with 16 MiB, recorded."""
    guest = FakeGuest(
        [
            block_of("pc.rom", 128 * KIB, 128 * KIB),
            block_of("pc.ram", 16 * MIB, 16 * MIB),
            block_of("/rom@etc/table-loader", 64 * KIB, 4 * KIB),
            block_of("/rom@etc/acpi/tables", 2 * MIB, 128 * KIB),
            block_of("/rom@etc/acpi/rsdp", 4 * KIB, 4 * KIB),
            block_of("pc.bios", 256 * KIB, 256 * KIB),
        ]
    )
    assert collect(ram_section(guest).begin()).body == bytes.fromhex(
        "0000000001082004"
        "0670632e72616d0000000001000000"
        "142f726f6d406574632f616370692f7461626c65730000000000020000"
        "0770632e62696f730000000000040000"
        "0670632e726f6d0000000000020000"
        "152f726f6d406574632f7461626c652d6c6f616465720000000000001000"
        "122f726f6d406574632f616370692f727364700000000000001000"
        "0000000000000010"
    )


def test_table_lists_blocks_of_one_size_as_the_guest_does() -> None:
    guest = FakeGuest({"b": PAGE, "a": PAGE, "large": 2 * PAGE, "c": PAGE})
    body = collect(ram_section(guest).begin()).body
    assert (
        body
        == word(5 * PAGE | 4)
        + b"".join(
            name(idstr) + word(length)
            for idstr, length in [("large", 2 * PAGE), ("b", PAGE), ("a", PAGE), ("c", PAGE)]
        )
        + EOS
    )


def test_begin_refuses_two_blocks_of_one_name() -> None:
    guest = FakeGuest([RAMBlock.anonymous("m0", PAGE), RAMBlock.anonymous("m0", PAGE)])
    with pytest.raises(LocalError, match="each once; found 'm0'"):
        collect(ram_section(guest).begin())


def test_begin_refuses_a_name_that_is_too_long() -> None:
    with pytest.raises(LocalError, match="at most 255 bytes"):
        collect(ram_section(FakeGuest({"ö" * 128: PAGE})).begin())


def test_begin_refuses_a_block_of_another_page_size() -> None:
    guest = FakeGuest([RAMBlock.anonymous("m0", 4 * PAGE, page_size=2 * PAGE)])
    with pytest.raises(LocalError, match="another page size"):
        collect(ram_section(guest).begin())


# Pages.


def test_pages_are_named_once_and_zero_ones_are_short() -> None:
    guest = FakeGuest({"pc.ram": 4 * PAGE})
    guest.write("pc.ram", 0, page(1))
    guest.write("pc.ram", 2 * PAGE + 17, b"x")
    section = begun(guest)
    body, is_through = collect(section.iterate(UNLIMITED))
    assert body == b"".join(
        [
            record(0, FULL, page(1), "pc.ram"),
            record(PAGE, ZERO, b"\0"),
            record(2 * PAGE, FULL, bytes(17) + b"x" + bytes(PAGE - 18)),
            record(3 * PAGE, ZERO, b"\0"),
            EOS,
        ]
    )
    assert is_through


def test_first_page_of_a_stream_may_be_zero() -> None:
    body = collect(begun(FakeGuest({"pc.ram": PAGE})).iterate(UNLIMITED)).body
    assert body == record(0, ZERO, b"\0", "pc.ram") + EOS


def test_block_is_named_only_when_it_changes_also_over_records() -> None:
    guest = FakeGuest({"a": 3 * PAGE, "b": 2 * PAGE})
    section = begun(guest)
    bodies = [collect(section.iterate(1)).body for _ in range(5)]
    assert bodies == [
        record(0, ZERO, b"\0", "a") + EOS,
        record(PAGE, ZERO, b"\0") + EOS,
        record(2 * PAGE, ZERO, b"\0") + EOS,
        record(0, ZERO, b"\0", "b") + EOS,
        record(PAGE, ZERO, b"\0") + EOS,
    ]


def test_scan_goes_on_where_it_was_and_wraps() -> None:
    guest = FakeGuest({"a": 4 * PAGE, "b": 2 * PAGE})
    section = begun(guest)
    collect(section.iterate(38))
    guest.write("a", 0, b"x")
    section.pending(exact=True)
    body, is_through = collect(section.iterate(UNLIMITED))
    assert body == b"".join(
        [
            record(0, ZERO, b"\0", "b"),
            record(PAGE, ZERO, b"\0"),
            record(0, FULL, b"x" + bytes(PAGE - 1), "a"),
            EOS,
        ]
    )
    assert is_through


def test_page_that_becomes_dirty_ahead_of_the_scan_is_sent_once() -> None:
    guest = FakeGuest({"a": 4 * PAGE})
    section = begun(guest)
    collect(section.iterate(1))
    guest.write("a", 3 * PAGE, b"x")
    section.pending(exact=True)
    body = collect(section.iterate(UNLIMITED)).body
    assert len(body) == 2 * 9 + 8 + PAGE + len(EOS)


def test_scattered_pages_come_in_ascending_order() -> None:
    guest = FakeGuest({"a": 64 * PAGE})
    section = begun(guest)
    collect(section.iterate(UNLIMITED))
    for number in (40, 3, 63, 0, 41):
        guest.write("a", number * PAGE, bytes([number + 1]))
    assert section.pending(exact=True).must_precopy == 5 * PAGE
    body = collect(section.iterate(UNLIMITED)).body
    assert (
        body
        == b"".join(
            record(number * PAGE, FULL, bytes([number + 1]) + bytes(PAGE - 1))
            for number in (0, 3, 40, 41, 63)
        )
        + EOS
    )


def test_part_with_nothing_dirty_is_an_end_word() -> None:
    section = begun(FakeGuest({"a": PAGE}))
    collect(section.iterate(UNLIMITED))
    assert collect(section.iterate(UNLIMITED)) == (EOS, True)


@pytest.mark.parametrize("budget", [0, 1, 9, 5000, 100_000, 2 * MIB])
def test_iterate_stops_at_its_budget(budget: int) -> None:
    guest = FakeGuest({"a": 4 * MIB})
    guest.write("a", 0, b"\1" * (4 * MIB))
    section = begun(guest)
    before = section.pending(exact=False).must_precopy
    body, is_through = collect(section.iterate(budget))
    sent = len(body) - len(EOS)
    assert budget <= sent < budget + 8 + PAGE + 2 or sent == 8 + PAGE + 2
    assert section.pending(exact=False).must_precopy == before - sent // (PAGE + 8) * PAGE
    assert not is_through


def test_many_zero_pages_come_in_bounded_steps() -> None:
    guest = FakeGuest({"a": 64 * MIB})
    section = begun(guest)
    segments = [bytes(cast("Buffer", one)) for one in section.iterate(UNLIMITED)]
    assert len(segments) >= 4 + 1
    assert max(map(len, segments)) <= 17 * MIB // PAGE * 9
    assert len(b"".join(segments)) == 64 * MIB // PAGE * 9 + len(name("a")) + len(EOS)


def test_buffer_stays_as_it_is_until_two_more_were_asked_for() -> None:
    guest = FakeGuest({"a": 8 * MIB})
    guest.write("a", 0, bytes(range(1, 256)) * (8 * MIB // 255))
    section = begun(guest)
    kept: list[tuple[object, bytes]] = []
    for segment in cast("Iterator[Buffer]", section.iterate(UNLIMITED)):
        kept.append((segment, bytes(segment)))
        for borrowed, content in kept[-3:]:
            assert borrowed == content


def test_pages_of_a_larger_size_travel_whole() -> None:
    guest = FakeGuest({"a": 4 * 16 * KIB}, page_size=16 * KIB)
    guest.write("a", 16 * KIB, b"x")
    body = collect(begun(guest).iterate(UNLIMITED)).body
    assert body == b"".join(
        [
            record(0, ZERO, b"\0", "a"),
            record(16 * KIB, FULL, b"x" + bytes(16 * KIB - 1)),
            record(32 * KIB, ZERO, b"\0"),
            record(48 * KIB, ZERO, b"\0"),
            EOS,
        ]
    )


def test_holes_of_a_file_are_sent_as_zero_and_stay_holes() -> None:
    descriptor = os.memfd_create("a")
    os.ftruncate(descriptor, 64 * PAGE)
    block = RAMBlock("a", mmap.mmap(descriptor, 64 * PAGE), descriptor=descriptor)
    block.view[7 * PAGE] = 1
    before = os.fstat(descriptor).st_blocks
    body = collect(begun(FakeGuest([block])).iterate(UNLIMITED)).body
    assert len(body) == 64 * 9 + PAGE - 1 + len(name("a")) + len(EOS)
    assert os.fstat(descriptor).st_blocks == before
    block.close()


# The dirty log.


def test_log_is_started_before_anything_is_sent() -> None:
    guest = FakeGuest({"a": PAGE})
    section = ram_section(guest)
    assert guest.log.starts == 0
    next(section.begin())
    assert (guest.log.starts, guest.log.is_logging) == (1, True)


def test_pending_counts_dirty_pages_and_syncs_only_if_it_must_be_exact() -> None:
    guest = FakeGuest({"a": 4 * PAGE})
    section = begun(guest)
    collect(section.iterate(UNLIMITED))
    guest.write("a", PAGE, b"x")
    assert section.pending(exact=False) == Pending()
    assert section.pending(exact=True) == Pending(must_precopy=PAGE)
    assert section.pending(exact=False) == Pending(must_precopy=PAGE)


class WrittenWhileRead(RAMBlock):
    """A block that its guest writes to just before the source looks at its memory."""

    guest: FakeGuest | None = None

    def find_holes(self, first: int, count: int) -> bytes:
        guest, self.guest = self.guest, None
        if guest:
            guest.write(self.idstr, first * PAGE, b"late")
        return super().find_holes(first, count)


def test_page_written_while_it_is_sent_is_sent_again() -> None:
    block = WrittenWhileRead("a", mmap.mmap(-1, 2 * PAGE))
    guest = FakeGuest([block])
    section = begun(guest)
    block.guest = guest
    collect(section.iterate(UNLIMITED))
    assert section.pending(exact=True).must_precopy == PAGE


def test_complete_sends_what_the_last_sync_finds_and_stops_the_log() -> None:
    guest = FakeGuest({"a": 4 * PAGE})
    section = begun(guest)
    collect(section.iterate(UNLIMITED))
    guest.write("a", 2 * PAGE, b"x")
    body, is_through = collect(section.complete())
    assert body == record(2 * PAGE, FULL, b"x" + bytes(PAGE - 1)) + EOS
    assert is_through
    assert not guest.log.is_logging


def test_complete_with_nothing_dirty_is_an_end_word() -> None:
    section = begun(FakeGuest({"a": PAGE}))
    collect(section.iterate(UNLIMITED))
    assert collect(section.complete()) == (EOS, True)


def test_cancel_stops_the_log_whenever_it_comes() -> None:
    guest = FakeGuest({"a": 2 * PAGE})
    section = ram_section(guest)
    section.cancel()
    assert guest.log.stops == 0
    collect(section.begin())
    segments = section.iterate(UNLIMITED)
    next(segments)
    section.cancel()
    section.cancel()
    assert (guest.log.stops, guest.log.is_logging) == (1, False)


def test_second_migration_of_a_guest_is_refused_and_leaves_the_first_alone() -> None:
    guest = FakeGuest({"a": 4 * PAGE})
    first, second = begun(guest), ram_section(guest)
    with pytest.raises(LocalError, match="dirty log is in use"):
        collect(second.begin())
    second.cancel()
    assert (guest.log.stops, guest.log.is_logging) == (0, True)
    collect(first.iterate(UNLIMITED))
    guest.write("a", PAGE, b"x")
    assert first.pending(exact=True) == Pending(must_precopy=PAGE)


def test_completing_a_cancelled_section_is_an_error_of_this_side() -> None:
    section = begun(FakeGuest({"a": PAGE}))
    section.cancel()
    with pytest.raises(LocalError):
        collect(section.complete())


# Statistics.


def test_statistics_count_what_was_sent() -> None:
    guest = FakeGuest({"a": 8 * PAGE, "b": PAGE})
    guest.write("a", 0, page(1) * 3)
    section = ram_section(guest)
    assert section.statistics()["dirty_sync_count"] == 0
    collect(section.begin())
    assert section.statistics() == {
        "total": 9 * PAGE,
        "remaining": 9 * PAGE,
        "transferred": 0,
        "normal": 0,
        "normal_bytes": 0,
        "duplicate": 0,
        "handled_pages": 0,
        "dirty_sync_count": 1,
        "dirtied_pages": 0,
        "page_size": PAGE,
    }
    body = collect(section.iterate(UNLIMITED)).body
    guest.write("b", 0, b"x")
    section.pending(exact=True)
    guest.write("b", 0, b"y")
    end = collect(section.complete()).body
    assert section.statistics() == {
        "total": 9 * PAGE,
        "remaining": 0,
        "transferred": len(body) + len(end) - len(EOS),
        "normal": 4,
        "normal_bytes": 4 * PAGE,
        "duplicate": 6,
        "handled_pages": 10,
        "dirty_sync_count": 3,
        "dirtied_pages": 1,
        "page_size": PAGE,
    }


def test_engine_counts_by_what_was_sent_synchronised_and_left() -> None:
    guest = FakeGuest({"a": 8 * PAGE})
    guest.write("a", 0, page(1) * 3)
    section = ram_section(guest)
    assert section.live_counters() == LiveCounters(page_size=PAGE)
    collect(section.begin())
    assert section.live_counters() == LiveCounters(
        remaining_bytes=8 * PAGE, page_size=PAGE, dirty_syncs=1
    )
    body = collect(section.iterate(1)).body
    guest.write("a", 0, b"x")
    section.pending(exact=True)
    assert section.live_counters() == LiveCounters(
        sent_bytes=len(body),
        handled_pages=1,
        dirtied_pages=1,
        remaining_bytes=8 * PAGE,
        page_size=PAGE,
        dirty_syncs=2,
    )


def test_every_dirty_page_is_sent_exactly_once_a_round() -> None:
    guest = FakeGuest({"a": 600 * PAGE, "b": 300 * PAGE})
    guest.write("a", 17 * PAGE, b"\1" * (200 * PAGE))
    section = ram_section(guest)
    saved_records(section, 4, 100_000, lambda: None)
    statistics = section.statistics()
    assert statistics["normal"] == 200
    assert statistics["duplicate"] == 700


def test_bitmap_of_a_block_has_a_mark_for_each_page_in_use() -> None:
    block = block_of("a", 8 * PAGE, 3 * PAGE)
    section = begun(FakeGuest([block]))
    assert section.pending(exact=True).must_precopy == 3 * PAGE
    assert len(DirtyBitmap(block.pages)) == 3
