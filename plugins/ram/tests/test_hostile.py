"""Streams that nobody should send: refused with a place and a reason, and nothing else harmed."""

from __future__ import annotations

import tracemalloc
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from ram_helpers import (
    COMPRESS,
    CONTINUE,
    END,
    EOS,
    FLUSH,
    FULL,
    HOOK,
    MEM_SIZE,
    PAGE,
    XBZRLE,
    ZERO,
    EndedElsewhereError,
    OpenGuest,
    fenced_block,
    load,
    name,
    page,
    ram_section,
    record,
    table,
    word,
    xbzrle,
)

from transship.errors import RemoteError, StreamError
from transship.testing.guests import FakeGuest
from transship.wire.limits import RAM_BLOCKS, RAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = table({"a": 4 * PAGE})
START = 1000
FIRST = record(0, FULL, page(1), "a")


@contextmanager
def refused(cause: str, offset: int) -> Iterator[None]:
    """The stream is refused with that reason at that offset, and every fact is there."""
    with pytest.raises(StreamError, match=cause) as raised:
        yield
    error = raised.value
    assert error.offset == START + offset
    assert error.section == "ram"
    assert error.expected is not None
    assert error.found is not None


def load_refused(*bodies: bytes, cause: str, at: int, step: int = 1 << 20) -> None:
    block, mapping = fenced_block("a", 4)
    other, _ = fenced_block("other", 4)
    with refused(cause, at):
        load(ram_section(FakeGuest([block, other])), *bodies, step=step, offset=START)
    assert mapping[4 * PAGE :] == page(0xEE) * 4
    assert other.view == bytes(4 * PAGE)


# The table.


@pytest.mark.parametrize(
    ("body", "cause", "at"),
    [
        (word(1 << 63 | MEM_SIZE), "more RAM than is accepted", 0),
        (word(RAM_BYTES + PAGE | MEM_SIZE), "more RAM than is accepted", 0),
        (word(PAGE | MEM_SIZE) + name("a") + word(0), "impossible length", 10),
        (word(PAGE | MEM_SIZE) + name("a") + word(1), "impossible length", 10),
        (word(PAGE | MEM_SIZE) + name("a") + word(2 * PAGE), "impossible length", 10),
        (word(PAGE | MEM_SIZE) + name("a") + word(1 << 63), "impossible length", 10),
        (word(2 * PAGE | MEM_SIZE) + (name("a") + word(PAGE)) * 2, "listed twice", 18),
        (word(PAGE | MEM_SIZE) + b"\x01\xff" + word(PAGE), "a name is not text", 8),
        (word(PAGE | MEM_SIZE) + name("b") + word(PAGE), "that this machine lacks", 8),
        (word(8 * PAGE | MEM_SIZE) + name("a") + word(8 * PAGE), "the source's length", 8),
        (TABLE[:-8] + TABLE, "a second table", len(TABLE) - 8),
        (word(2 * PAGE | MEM_SIZE) + name("a") + word(PAGE), "ends early", 18),
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_table_is_refused(body: bytes, cause: str, at: int, step: int) -> None:
    block, _ = fenced_block("a", 4)
    block.resize(4 * PAGE)
    guest = FakeGuest({"a": 4 * PAGE})
    with refused(cause, at):
        load(ram_section(guest), body, step=step, offset=START)


def test_table_with_too_many_blocks_is_refused_before_any_is_made() -> None:
    guest = OpenGuest()
    entries = b"".join(name(str(number)) + word(PAGE) for number in range(RAM_BLOCKS + 1))
    with refused("too many RAM blocks", len(entries) - len(name("4096")) - 8 + 8):
        load(
            ram_section(guest),
            word((RAM_BLOCKS + 1) * PAGE | MEM_SIZE) + entries,
            offset=START,
        )
    assert not guest.ram_blocks()


def test_table_that_is_wrong_at_its_end_makes_no_block() -> None:
    guest = OpenGuest()
    with pytest.raises(StreamError):
        load(
            ram_section(guest),
            word(2 * PAGE | MEM_SIZE) + name("a") + word(PAGE) + name("b") + word(3 * PAGE),
        )
    assert not guest.ram_blocks()


def test_error_of_the_guest_gets_the_place_of_its_entry() -> None:
    with pytest.raises(StreamError) as raised:
        load(ram_section(FakeGuest({"a": PAGE})), table({"a": PAGE, "b": PAGE}))
    assert raised.value.offset == 8 + 10
    assert type(raised.value.__cause__) is RemoteError


# Page records, alone and behind many good ones, so that both ways of loading meet them.

GOOD = FIRST + b"".join(record(number % 4 * PAGE, FULL, page(2)) for number in range(20))
GOOD_ZEROS = FIRST + b"".join(record(number % 4 * PAGE, ZERO, b"\0") for number in range(20))


@pytest.mark.parametrize("before", [FIRST, GOOD, GOOD_ZEROS], ids=["alone", "full", "zero"])
@pytest.mark.parametrize(
    ("bad", "cause", "at"),
    [
        (record(4 * PAGE, FULL, page(1)), "beyond the end of RAM block 'a'", 0),
        (record(4 * PAGE, ZERO, b"\0"), "beyond the end", 0),
        (record(4 * PAGE, FULL, page(1), "a"), "beyond the end", 0),
        (record(1 << 63, FULL, page(1)), "beyond the end", 0),
        (record((1 << 64) - PAGE, ZERO, b"\0"), "beyond the end", 0),
        (record(4 * PAGE, XBZRLE, xbzrle(b"\0\1\1")), "beyond the end", 0),
        (record(0, ZERO, b"\1"), "a zero page with a fill byte", 8),
        (record(0, FULL, page(1), "b"), "that the table does not list", 8),
        (record(0, FULL, page(1), "other"), "that the table does not list", 8),
        (record(0, FULL, page(1), ""), "that the table does not list", 8),
        (word(0), "impossible flags", 0),
        (word(CONTINUE), "impossible flags", 0),
        (word(FULL | ZERO), "impossible flags", 0),
        (word(FULL | 1), "impossible flags", 0),
        (word(0x400), "impossible flags", 0),
        (word(0x800 | FULL | CONTINUE), "impossible flags", 0),
        (word(END | CONTINUE), "impossible flags", 0),
        (word(MEM_SIZE | CONTINUE), "impossible flags", 0),
        (word(FLUSH | CONTINUE), "impossible flags", 0),
        (word(PAGE | END), "an offset in a word that has none", 0),
        (word(PAGE | FLUSH), "an offset in a word that has none", 0),
        (word(HOOK), "RDMA", 0),
        (TABLE, "a second table", 0),
        (record(0, XBZRLE, b"\2\0\0"), "unknown encoding", 8),
        (record(0, XBZRLE, b"\1\x10\x01"), "an encoded page longer than any", 9),
        (record(0, XBZRLE, xbzrle(bytes.fromhex("ff1f0201"))), "malformed XBZRLE", 11),
        (record(0, XBZRLE, xbzrle(bytes.fromhex("ff1f020101"))), "malformed XBZRLE", 11),
        (record(0, XBZRLE, xbzrle(b"\0")), "malformed XBZRLE", 11),
        (record(0, COMPRESS, b"\xff\xff\xff\xff"), "an encoded page longer than any", 8),
        (record(0, COMPRESS, b"\0\0\x20\0" + bytes(0x2000)), "an encoded page longer", 8),
        (record(0, COMPRESS, b"\0\0\0\0"), "malformed zlib", 12),
        (record(0, COMPRESS, b"\0\0\0\4abcd"), "malformed zlib", 12),
    ],
)
def test_record_is_refused(before: bytes, bad: bytes, cause: str, at: int) -> None:
    load_refused(TABLE, before + bad + EOS, cause=cause, at=len(TABLE) + len(before) + at)


@pytest.mark.parametrize(
    "content",
    [bytes(PAGE - 1), bytes(PAGE + 1), bytes(1 << 20), b""],
    ids=["short", "long", "bomb", "empty"],
)
def test_compressed_page_of_another_length_is_refused(content: bytes) -> None:
    deflated = zlib.compress(content, 9)
    body = FIRST + record(0, COMPRESS, len(deflated).to_bytes(4, "big") + deflated) + EOS
    load_refused(TABLE, body, cause="malformed zlib", at=len(TABLE) + len(FIRST) + 12)


@pytest.mark.parametrize("change", ["cut", "trailing", "checksum"])
def test_compressed_page_that_is_not_one_zlib_stream_is_refused(change: str) -> None:
    deflated = zlib.compress(page(7))
    deflated = {
        "cut": deflated[:-1],
        "trailing": deflated + b"\0",
        "checksum": deflated[:-1] + b"\0",
    }[change]
    body = FIRST + record(0, COMPRESS, len(deflated).to_bytes(4, "big") + deflated) + EOS
    load_refused(TABLE, body, cause="malformed zlib", at=len(TABLE) + len(FIRST) + 12)


@pytest.mark.parametrize("kind", [FULL, ZERO, XBZRLE, COMPRESS])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_first_page_must_name_its_block(kind: int, step: int) -> None:
    load_refused(
        TABLE, record(0, kind, bytes(PAGE)), cause="names no RAM block", at=len(TABLE), step=step
    )


@pytest.mark.parametrize("body", [FIRST, EOS[:3], word(FULL) + name("a")])
def test_page_before_the_table_or_cut_off_is_refused(body: bytes) -> None:
    with pytest.raises(StreamError):
        load(ram_section(FakeGuest({"a": 4 * PAGE})), body)


def test_block_context_does_not_outlive_a_refused_name() -> None:
    section = ram_section(FakeGuest({"a": 4 * PAGE}))
    with pytest.raises(StreamError, match="does not list"):
        load(section, TABLE, FIRST + record(0, FULL, page(1), "b"))
    with pytest.raises(StreamError, match="names no RAM block"):
        load(section, record(0, FULL, page(1)))


# Memory.


def test_hostile_streams_cost_little_memory() -> None:
    """A page bomb, a table of 16 TiB for a guest that refuses it, and endless zero pages."""
    bomb = zlib.compress(bytes(3 << 20), 9)
    streams = [
        (TABLE, FIRST + record(0, COMPRESS, len(bomb).to_bytes(4, "big") + bomb) + EOS),
        (table({"b": RAM_BYTES}),),
        (TABLE, FIRST + record(0, ZERO, b"\0") * 50_000 + EOS),
        (TABLE, FIRST + record(0, FULL, page(1)) * 500 + EOS),
    ]
    for bodies in streams:
        section = ram_section(FakeGuest({"a": 4 * PAGE}))
        size = sum(map(len, bodies))
        tracemalloc.start()
        try:
            load(section, *bodies)
        except StreamError:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 2 * size + 8 * (1 << 20)


# Mutation.


def good_stream() -> list[bytes]:
    """All kinds of records, with runs long enough for both ways of loading."""
    deflated = zlib.compress(page(9))
    first = FIRST + b"".join(
        record(
            number % 4 * PAGE,
            ZERO if number % 5 == 0 else FULL,
            b"\0" if number % 5 == 0 else page(2),
        )
        for number in range(12)
    )
    second = (
        record(0, ZERO, b"\0", "bb")
        + b"".join(record(number % 4 * PAGE, ZERO, b"\0") for number in range(20))
        + record(PAGE, XBZRLE, xbzrle(bytes.fromhex("10015fef0f025f56")))
        + record(2 * PAGE, COMPRESS, len(deflated).to_bytes(4, "big") + deflated)
        + record(3 * PAGE, FULL, page(3))
        + word(FLUSH)
    )
    return [table({"a": 4 * PAGE, "bb": 4 * PAGE}), first + EOS, second + EOS]


INTERESTING = st.one_of(
    st.integers(0, 255),
    st.sampled_from([0x02, 0x08, 0x10, 0x20, 0x22, 0x28, 0x30, 0x40, 0x60, 0x7F, 0x80, 0xFF]),
)


@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), INTERESTING), max_size=6),
    headers=st.booleans(),
    step=st.sampled_from([1 << 20, 5000, 333]),
)
@settings(deadline=None, max_examples=300)
def test_mutated_stream_is_refused_or_loaded_and_writes_nowhere_else(
    changes: list[tuple[float, int]], headers: bool, step: int
) -> None:
    stream = bytearray(b"".join(good_stream()))
    # Most bytes are content of pages: change the others only, half of the time.
    places = [at for at, value in enumerate(stream) if value not in (1, 2, 3)]
    for where, value in changes:
        at = places[int(where * len(places))] if headers else int(where * len(stream))
        stream[at] = value
    first, first_mapping = fenced_block("a", 4)
    second, second_mapping = fenced_block("bb", 4)
    other, other_mapping = fenced_block("other", 4)
    section = ram_section(FakeGuest([first, second, other]))
    with suppress(RemoteError, EndedElsewhereError):
        load(section, bytes(stream), step=step)
    assert first_mapping[4 * PAGE :] == page(0xEE) * 4
    assert second_mapping[4 * PAGE :] == page(0xEE) * 4
    assert other_mapping[:] == bytes(4 * PAGE) + page(0xEE) * 4


@given(body=st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_noise_is_refused(body: bytes) -> None:
    block, mapping = fenced_block("a", 4)
    section = ram_section(FakeGuest([block]))
    load(section, TABLE)
    with suppress(RemoteError, EndedElsewhereError):
        load(section, FIRST + body)
    assert mapping[4 * PAGE :] == page(0xEE) * 4
