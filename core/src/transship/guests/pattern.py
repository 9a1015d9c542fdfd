"""What the synthetic guest's RAM holds: a pure function of its traits and its counter.

RAM is filled in chunks of 1 MiB. A chunk begins with its zero pages; the rest is a slice of one
random template, at an offset that no other chunk uses, so that no two pages are alike. Each tick
of the guest stamps the next pages of the working set, round and round, as many as its dirty rate
asks for. Which tick stamped a page last can therefore be computed, and so can every byte.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from transship.memory.runs import PageRun

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = 4096
_CHUNK_PAGES: Final = 256
_CHUNK: Final = _CHUNK_PAGES * PAGE
_STEP: Final = 8
_SPREAD: Final = 2654435761
"""Odd, so multiplying by it permutes the ``_CHUNK / _STEP`` offsets: none repeats in 128 GiB."""

ROM_BYTES: Final = 16 * PAGE
HEADER_BYTES: Final = PAGE

_STAMP: Final = struct.Struct("<QQQ")
_STAMP_OFFSET: Final = PAGE // 2
_HEADER: Final = struct.Struct("<16sQQQQQQQQ")
_HEADER_MAGIC: Final = b"transship-synth1"
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True)
class Traits:
    """What is fixed for a synthetic guest's whole life, wherever it runs.

    Args:
        seed: Of all that is random in its RAM; 64 bits.
        ram_bytes: Of its main block; whole pages.
        working_pages: How many pages, from the first, it writes.
        dirty_rate_bytes_per_s: How fast it writes them.
        tick_ns: Time between two ticks.
        zero_pages: How many of every 256 pages are zero at first.
    """

    seed: int
    ram_bytes: int
    working_pages: int
    dirty_rate_bytes_per_s: int
    tick_ns: int
    zero_pages: int

    def __post_init__(self) -> None:
        if self.ram_bytes <= 0 or self.ram_bytes % PAGE:
            raise ValueError(f"RAM is whole pages of {PAGE} bytes, not {self.ram_bytes} bytes")
        if not 0 <= self.working_pages <= self.ram_bytes // PAGE:
            raise ValueError(f"a working set of {self.working_pages} pages does not fit in RAM")
        if not 0 <= self.zero_pages <= _CHUNK_PAGES:
            raise ValueError(f"of {_CHUNK_PAGES} pages, {self.zero_pages} cannot be zero")
        if not 0 < self.tick_ns <= 10**9:
            raise ValueError(f"a tick takes up to a second, not {self.tick_ns} ns")
        if not 0 <= self.dirty_rate_bytes_per_s <= 1 << 50 or not 0 <= self.seed <= _MASK:
            raise ValueError("seed or dirty rate is out of range")

    # When which page is written.

    def writes(self, counter: int) -> int:
        """How many pages have been stamped when the counter has this value."""
        if not self.working_pages:
            return 0
        return counter * self.dirty_rate_bytes_per_s * self.tick_ns // (PAGE * 10**9)

    def runs(self, counter: int) -> Iterator[PageRun]:
        """The pages stamped by the tick that makes the counter ``counter``."""
        start, end = self.writes(counter - 1), self.writes(counter)
        count = min(end - start, self.working_pages)
        while count:
            first = start % self.working_pages
            run = PageRun(first, min(count, self.working_pages - first))
            yield run
            start += run.count
            count -= run.count

    def last_tick(self, page: int, counter: int) -> int:
        """Which tick stamped a page of the working set last; 0 if none did."""
        writes = self.writes(counter)
        if writes <= page:
            return 0
        last = page + (writes - 1 - page) // self.working_pages * self.working_pages
        return -(-(last + 1) * PAGE * 10**9 // (self.dirty_rate_bytes_per_s * self.tick_ns))

    # What is written.

    def fill(self, ram: memoryview) -> None:
        """Write main RAM as it is before the first tick; every page is touched."""
        for number, start in enumerate(range(0, self.ram_bytes, _CHUNK)):
            chunk = self._chunk(number)
            ram[start : start + len(chunk)] = chunk

    def stamp(self, ram: memoryview, run: PageRun, counter: int) -> None:
        """Stamp pages of main RAM, or of a part of it that begins with page 0."""
        check = self._check(counter)
        pack, start = _STAMP.pack_into, _STAMP_OFFSET
        for page in range(run.first, run.end):
            pack(ram, page * PAGE + start, counter, page, check)

    def header(self, counter: int) -> bytes:
        """The header page: traits and counter."""
        return _HEADER.pack(_HEADER_MAGIC, *astuple(self), counter, self._check(counter)).ljust(
            HEADER_BYTES, b"\0"
        )

    @cached_property
    def rom(self) -> bytes:
        """The block that never changes."""
        return self._random("rom", ROM_BYTES)

    def first_wrong_page(self, ram: memoryview, counter: int) -> int | None:
        """The first page of main RAM that is not as it must be at this counter, or None."""
        for number, start in enumerate(range(0, self.ram_bytes, _CHUNK)):
            expected = self._chunk(number)
            first = number * _CHUNK_PAGES
            for page in range(first, min(first + _CHUNK_PAGES, self.working_pages)):
                if tick := self.last_tick(page, counter):
                    _STAMP.pack_into(
                        expected,
                        (page - first) * PAGE + _STAMP_OFFSET,
                        tick,
                        page,
                        self._check(tick),
                    )
            with ram[start : start + len(expected)] as found:
                if expected != found:
                    return first + _first_difference(expected, found)
        return None

    @cached_property
    def _template(self) -> bytes:
        return self._random("ram", 2 * _CHUNK)

    def _chunk(self, number: int) -> bytearray:
        length = min(_CHUNK, self.ram_bytes - number * _CHUNK)
        zeros = min(length, self.zero_pages * PAGE)
        offset = number * _SPREAD % (_CHUNK // _STEP) * _STEP
        chunk = bytearray(zeros)
        chunk += self._template[offset : offset + length - zeros]
        return chunk

    def _random(self, purpose: str, length: int) -> bytes:
        """The same bytes on every machine and in every Python, for this seed."""
        return hashlib.shake_128(f"{purpose} {self.seed}".encode()).digest(length)

    def _check(self, counter: int) -> int:
        return ((self.seed ^ counter) * 0x9E3779B97F4A7C15 + counter) & _MASK


def _first_difference(expected: bytearray, found: memoryview) -> int:
    for page in range(len(expected) // PAGE):
        part = slice(page * PAGE, (page + 1) * PAGE)
        if expected[part] != found[part]:
            return page
    raise AssertionError("the chunks are alike after all")
