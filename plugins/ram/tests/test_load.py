"""What the destination makes of every kind of record, written by hand."""

from __future__ import annotations

import mmap
import os
import zlib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ram_helpers import (
    COMPRESS,
    EOS,
    FLUSH,
    FULL,
    PAGE,
    XBZRLE,
    ZERO,
    OpenGuest,
    fenced_block,
    load,
    page,
    ram_section,
    record,
    table,
    word,
    xbzrle,
)

from transship.errors import CheckpointError, LocalError, StreamError
from transship.memory.ramblock import RAMBlock
from transship.testing.guests import FakeGuest
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader
from transship.wire.limits import MIB
from transship_ram._target import PageCounts

if TYPE_CHECKING:
    from transship.wire.reader import StreamReader
    from transship_ram._section import RAMSection

STEPS = [1, 7, 1000, 1 << 20]


@pytest.fixture(params=STEPS, ids=lambda step: f"{step} bytes at a time")
def step(request: pytest.FixtureRequest) -> int:
    result: int = request.param
    return result


def loaded(step: int, blocks: dict[str, int], *bodies: bytes) -> OpenGuest:
    """A guest with those blocks, full of 0xaa, after it has loaded those records."""
    guest = OpenGuest(filling=0xAA)
    section = ram_section(guest)
    reader = load(section, table(blocks), step=step)
    load(section, *bodies, step=step, offset=reader.offset)
    return guest


def test_table_attaches_the_blocks(step: int) -> None:
    guest = OpenGuest()
    section = ram_section(guest)
    load(section, table({"pc.ram": 3 * PAGE, "ö": PAGE}), step=step)
    assert [(block.idstr, block.used_length) for block in guest.ram_blocks()] == [
        ("pc.ram", 3 * PAGE),
        ("ö", PAGE),
    ]
    assert [(block.idstr, block.used_length) for block in section.loaded_blocks] == [
        ("pc.ram", 3 * PAGE),
        ("ö", PAGE),
    ]


def test_table_resizes_a_block_of_the_guest() -> None:
    guest = FakeGuest([RAMBlock("rom", mmap.mmap(-1, 8 * PAGE), 2 * PAGE)])
    load(ram_section(guest), table({"rom": 5 * PAGE}))
    assert guest.block("rom").used_length == 5 * PAGE


def test_table_without_blocks_is_accepted() -> None:
    load(ram_section(OpenGuest()), table({}), EOS)


def test_body_may_be_an_end_word_alone(step: int) -> None:
    assert loaded(step, {"a": PAGE}, EOS, EOS).contents() == {"a": page(0xAA)}


def test_full_and_zero_pages_land_at_their_offset(step: int) -> None:
    guest = loaded(
        step,
        {"a": 4 * PAGE, "b": 2 * PAGE},
        record(2 * PAGE, FULL, page(1), "a")
        + record(0, ZERO, b"\0")
        + record(PAGE, FULL, page(2), "b")
        + record(0, FULL, page(3))
        + EOS,
    )
    assert guest.contents() == {
        "a": page(0) + page(0xAA) + page(1) + page(0xAA),
        "b": page(3) + page(2),
    }


def test_block_continues_over_records(step: int) -> None:
    guest = loaded(
        step,
        {"a": PAGE, "b": 2 * PAGE},
        record(0, FULL, page(1), "b") + EOS,
        EOS,
        record(PAGE, FULL, page(2)) + EOS,
    )
    assert guest.contents()["b"] == page(1) + page(2)


def test_last_copy_of_a_page_wins(step: int) -> None:
    guest = loaded(
        step,
        {"a": 4 * PAGE},
        record(0, FULL, page(1), "a")
        + record(PAGE, FULL, page(1))
        + record(PAGE, FULL, page(2))
        + record(2 * PAGE, ZERO, b"\0")
        + record(3 * PAGE, FULL, page(3))
        + record(2 * PAGE, FULL, page(4))
        + record(3 * PAGE, ZERO, b"\0")
        + record(PAGE, FULL, page(5))
        + EOS,
    )
    assert guest.contents()["a"] == page(1) + page(5) + page(4) + page(0)


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("zero_every", [1, 2, 3, 50, 1000])
def test_many_pages_land_whatever_their_order(order: str, zero_every: int) -> None:
    count = 900
    numbers = list(range(count))
    if order == "descending":
        numbers.reverse()
    if order == "shuffled":
        numbers = [number * 7 % count for number in numbers]
    body = record(0, ZERO, b"\0", "a")
    expected = bytearray(page(0xAA) * count)
    expected[:PAGE] = page(0)
    for number in numbers:
        if number % zero_every == 0:
            body += record(number * PAGE, ZERO, b"\0")
            expected[number * PAGE : (number + 1) * PAGE] = page(0)
        else:
            content = page(number % 250 + 1)
            body += record(number * PAGE, FULL, content)
            expected[number * PAGE : (number + 1) * PAGE] = content
    guest = loaded(1 << 20, {"a": count * PAGE}, body + EOS)
    assert guest.contents()["a"] == expected


def test_xbzrle_patches_the_page(step: int) -> None:
    guest = loaded(
        step,
        {"a": 2 * PAGE},
        record(PAGE, XBZRLE, xbzrle(bytes.fromhex("10015fef0f025f56")), "a") + EOS,
    )
    expected = bytearray(page(0xAA))
    expected[16] = 0x5F
    expected[0x800:0x802] = b"\x5f\x56"
    assert guest.contents()["a"] == page(0xAA) + expected


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_compressed_page_is_inflated(step: int, level: int) -> None:
    content = os.urandom(PAGE // 2) + bytes(PAGE // 2)
    deflated = zlib.compress(content, level)
    body = record(0, COMPRESS, len(deflated).to_bytes(4, "big") + deflated, "a") + EOS
    assert loaded(step, {"a": PAGE}, body).contents()["a"] == content


def test_incompressible_page_is_accepted_at_every_level() -> None:
    content = os.urandom(PAGE)
    for level in range(10):
        deflated = zlib.compress(content, level)
        body = record(0, COMPRESS, len(deflated).to_bytes(4, "big") + deflated, "a") + EOS
        assert loaded(1 << 20, {"a": PAGE}, body).contents()["a"] == content


def test_multifd_flush_is_nothing_without_multifd(step: int) -> None:
    body = word(FLUSH) + record(0, FULL, page(1), "a") + word(FLUSH) + EOS
    assert loaded(step, {"a": PAGE}, body).contents()["a"] == page(1)


def test_flush_and_end_may_follow_the_table_directly(step: int) -> None:
    guest = OpenGuest()
    load(ram_section(guest), table({"a": PAGE})[: -len(EOS)] + word(FLUSH) + EOS, step=step)
    assert guest.contents() == {"a": page(0)}


def test_pages_of_a_larger_size_are_loaded() -> None:
    size = 4 * PAGE
    guest = OpenGuest(page_size=size)
    body = record(0, FULL, b"\1" * size, "a") + b"".join(
        record(number * size, FULL, bytes([number]) * size) for number in range(1, 9)
    )
    load(ram_section(guest), table({"a": 9 * size}), body + record(size, ZERO, b"\0") + EOS)
    expected = [1, 0, 2, 3, 4, 5, 6, 7, 8]
    assert guest.contents()["a"] == b"".join(bytes([value]) * size for value in expected)


# What it costs the memory.


def test_zero_pages_that_are_zero_already_are_not_written() -> None:
    """Where a file's page is a hole, it stays one; where one was written, it becomes zero."""
    descriptor = os.memfd_create("a")
    os.ftruncate(descriptor, 64 * PAGE)
    block = RAMBlock("a", mmap.mmap(descriptor, 64 * PAGE), descriptor=descriptor)
    block.view[5 * PAGE] = 1
    before = os.fstat(descriptor).st_blocks
    body = record(0, ZERO, b"\0", "a") + b"".join(
        record(number * PAGE, ZERO, b"\0") for number in range(1, 64)
    )
    load(ram_section(FakeGuest([block])), table({"a": 64 * PAGE}), body + EOS)
    assert os.fstat(descriptor).st_blocks == before
    assert block.view == bytes(64 * PAGE)
    block.close()


class FullDisk(RAMBlock):
    """A block without room for more than its first page."""

    error: Exception = OSError(28, "No space left on device")

    def reserve(self, first: int, count: int) -> None:
        if first + count > 1:
            raise self.error


@pytest.mark.parametrize(
    "body",
    [
        record(0, FULL, page(1), "a") + record(PAGE, FULL, page(1)),
        record(0, FULL, page(1), "a")
        + b"".join(record(number * PAGE, FULL, page(1)) for number in range(1, 9)),
        record(PAGE, XBZRLE, xbzrle(b"\0\1\1"), "a"),
    ],
    ids=["one", "many", "xbzrle"],
)
def test_full_disk_is_an_error_that_names_the_block(body: bytes) -> None:
    block = FullDisk("a", mmap.mmap(-1, 9 * PAGE))
    with pytest.raises(LocalError, match=r"'a' has no room .* No space left") as raised:
        load(ram_section(FakeGuest([block])), table({"a": 9 * PAGE}), body + EOS)
    assert isinstance(raised.value.__cause__, OSError)
    assert block.view[PAGE:] == bytes(8 * PAGE)


def test_error_that_a_block_raises_itself_stays_as_it_is() -> None:
    block = FullDisk("a", mmap.mmap(-1, 2 * PAGE))
    block.error = CheckpointError("the image cannot grow")
    with pytest.raises(CheckpointError, match="the image cannot grow"):
        load(
            ram_section(FakeGuest([block])),
            table({"a": 2 * PAGE}),
            record(PAGE, FULL, page(1), "a") + EOS,
        )


def test_nothing_is_written_behind_the_bytes_in_use() -> None:
    block, mapping = fenced_block("a", 3)
    body = (
        record(0, FULL, page(1), "a")
        + record(PAGE, FULL, page(2))
        + record(2 * PAGE, FULL, page(3))
    )
    load(ram_section(FakeGuest([block])), table({"a": 3 * PAGE}), body + EOS)
    assert mapping[:] == page(1) + page(2) + page(3) + page(0xEE) * 4


def test_guest_that_gives_a_block_of_another_length_is_at_fault() -> None:
    class Odd(OpenGuest):
        def attach_ram_block(self, idstr: str, used_length: int) -> RAMBlock:
            return super().attach_ram_block(idstr, used_length + PAGE)

    with pytest.raises(LocalError, match="another block for 'a'"):
        load(ram_section(Odd()), table({"a": PAGE}))


@pytest.mark.parametrize("kind", [FULL, XBZRLE])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_stream_cut_inside_a_page_leaves_no_view_of_the_guest(kind: int, step: int) -> None:
    """The error, whose traceback shows what had views, is alive while the block is closed."""
    block = RAMBlock.anonymous("a", 4 * PAGE)
    section = ram_section(FakeGuest([block]))
    reader = load(section, table({"a": 4 * PAGE}))
    content = page(1) if kind == FULL else xbzrle(b"\0\1\1")
    body = b"".join(record(number * PAGE, kind, content, "a") for number in range(4))
    with pytest.raises(StreamError, match="ends early") as caught:
        load(section, body[:-2], step=step, offset=reader.offset)
    block.close()
    assert caught.value.__traceback__ is not None


def test_page_that_is_refused_at_once_leaves_no_view_of_the_guest() -> None:
    """Here the error comes from the parser itself, whose frames the traceback shows."""
    block = RAMBlock.anonymous("a", 4 * PAGE)
    section = ram_section(FakeGuest([block]))
    reader = load(section, table({"a": 4 * PAGE}))
    body = record(0, FULL, page(1)[:-1], "a")
    reader.writable()[: len(body)] = body
    reader.received(len(body))
    reader.finish()
    header = SectionHeader(RecordType.SECTION_PART, 1, "ram", 0, 4)
    with pytest.raises(StreamError, match="ends early") as caught:
        next(section.load(header, reader))
    block.close()
    assert caught.value.__traceback__ is not None


def test_full_disk_leaves_no_view_of_the_guest() -> None:
    block = FullDisk("a", mmap.mmap(-1, 9 * PAGE))
    block.view[PAGE] = 1
    body = record(0, ZERO, b"\0", "a") + record(PAGE, ZERO, b"\0")
    with pytest.raises(LocalError, match="no room") as caught:
        load(ram_section(FakeGuest([block])), table({"a": 9 * PAGE}), body + EOS)
    block.close()
    assert caught.value.__traceback__ is not None


# What it costs the others.


@pytest.mark.parametrize("page_size", [PAGE, 16 * PAGE])
def test_window_full_of_zero_pages_is_taken_in_small_steps(page_size: int) -> None:
    """No step between two wants does more than 16 MiB of guest memory."""
    pages = 100 * MIB // page_size
    guest = OpenGuest(page_size=page_size, filling=0)
    section = ram_section(guest)
    reader = load(section, table({"a": pages * page_size}))
    body = record(0, ZERO, b"\0", "a") + b"".join(
        record(number * page_size, ZERO, b"\0") for number in range(1, pages)
    )
    assert largest_step(section, reader, body + EOS) * page_size <= 16 * MIB + page_size
    assert section.statistics()["duplicate"] == pages


def test_zero_pages_of_fresh_memory_are_not_looked_at() -> None:
    """Seen by the memory that they cost: none."""
    pages = 64 * MIB // PAGE
    guest = OpenGuest()
    section = ram_section(guest)
    reader = load(section, table({"a": pages * PAGE}))
    before = _resident_bytes()
    body = record(0, ZERO, b"\0", "a") + b"".join(
        record(number * PAGE, ZERO, b"\0") for number in range(1, pages)
    )
    load(section, body + EOS, offset=reader.offset)
    assert section.statistics()["duplicate"] == pages
    assert _resident_bytes() - before < 16 * MIB
    assert not any(guest.contents()["a"])


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_records_taken_one_by_one_are_taken_in_small_steps() -> None:
    section = ram_section(OpenGuest())
    reader = load(section, table({"a": 1000 * PAGE}))
    body = b"".join(record(number * PAGE, ZERO, b"\0", "a") for number in range(1000))
    assert largest_step(section, reader, body + EOS) <= 64
    assert section.statistics()["duplicate"] == 1000


def largest_step(section: RAMSection, reader: StreamReader, body: bytes) -> int:
    """The most pages that were loaded between two wants, all of the body being at hand."""
    header = SectionHeader(RecordType.SECTION_PART, 1, "ram", 0, 4)
    room = reader.writable()
    room[: len(body)] = body
    reader.received(len(body))
    counts = [0]
    for want in section.load(header, reader):
        assert want == 0
        counts.append(section.statistics()["duplicate"])
    counts.append(section.statistics()["duplicate"])
    return max(after - before for before, after in pairwise(counts))


# Statistics.


def test_statistics_count_pages_by_kind(step: int) -> None:
    guest = OpenGuest()
    section = ram_section(guest)
    deflated = zlib.compress(page(9))
    body = (
        record(0, FULL, page(1), "a")
        + b"".join(record(number * PAGE, FULL, page(2)) for number in range(1, 6))
        + record(0, FULL, page(1))
        + record(6 * PAGE, ZERO, b"\0")
        + record(0, XBZRLE, xbzrle(b"\0\1\1"), "b")
        + record(0, ZERO, b"\0")
        + record(PAGE, COMPRESS, len(deflated).to_bytes(4, "big") + deflated)
        + EOS
    )
    load(section, table({"b": 2 * PAGE, "a": 8 * PAGE}), body, step=step)
    assert section.statistics() == {
        "total": 10 * PAGE,
        "normal": 7,
        "duplicate": 2,
        "xbzrle": 1,
        "compressed": 1,
        "page_size": PAGE,
    }
    assert [(block.idstr, block.counts) for block in section.loaded_blocks] == [
        ("b", PageCounts(duplicate=1, xbzrle=1, compressed=1)),
        ("a", PageCounts(normal=7, duplicate=1)),
    ]
