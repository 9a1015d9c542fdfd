"""Both ends of a migration with XBZRLE, record by record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ram_helpers import PAGE, OpenGuest, collect, load, ram_section, xbzrle_settings

from transship.abc import Parameters
from transship_ram._section import RAMSection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.testing.guests import FakeGuest

UNLIMITED: Final = 1 << 40


class Passage:
    """A guest on its way: its section has begun, and whatever it sends is loaded at once.

    Args:
        guest: The source.
        cache_pages: Size of the cache, in pages of the guest.

    Attributes:
        guest: As given.
        section: The source's.
        copy: The destination's guest.
    """

    def __init__(self, guest: FakeGuest, cache_pages: int = 1 << 10) -> None:
        self.guest = guest
        self.settings = xbzrle_settings(cache_pages * guest.page_size)
        self.section = RAMSection(guest, self.settings)
        self.copy = OpenGuest(guest.page_size)
        self._target = ram_section(self.copy)
        load(self._target, collect(self.section.begin()).body)

    def resize(self, cache_bytes: int) -> None:
        """Set the size of the cache, as an operator does."""
        self.settings.parameters = Parameters(xbzrle_cache_bytes=cache_bytes)

    def part(self, budget_bytes: int = UNLIMITED) -> bytes:
        """One more record; returns its body, without the end word."""
        body = collect(self.section.iterate(budget_bytes)).body
        load(self._target, body)
        return body[:-8]

    def sync(self) -> None:
        """Ask the dirty log."""
        self.section.pending(exact=True)

    def round(self, writes: Mapping[int, bytes] | None = None, block: str = "a") -> bytes:
        """Let the guest write, ask the dirty log, and send all there is; returns the records.

        Args:
            writes: What to write to the start of which page.
            block: Of which block.
        """
        for page, content in (writes or {}).items():
            self.guest.write(block, page * self.guest.page_size, content)
        self.sync()
        return self.part()

    def end(self) -> bytes:
        """The guest stands still: send the rest, and compare the two; returns the records."""
        body = collect(self.section.complete()).body
        load(self._target, body)
        self.check()
        return body[:-8]

    def check(self) -> None:
        """Fail unless both sides have the same."""
        assert self.copy.contents() == self.guest.contents()

    def counted(self, *names: str) -> tuple[int, ...]:
        """Statistics of those names; of XBZRLE's without its prefix."""
        statistics = self.section.statistics()
        return tuple(statistics[name if name in statistics else f"xbzrle_{name}"] for name in names)


def started(guest: FakeGuest, cache_pages: int = 1 << 10) -> Passage:
    """A passage of which the first round is over, so that XBZRLE starts."""
    passage = Passage(guest, cache_pages)
    passage.part()
    return passage


def cached(guest: FakeGuest, pages: range, cache_pages: int = 1 << 10) -> Passage:
    """A passage in whose cache are those pages of block ``a``."""
    passage = started(guest, cache_pages)
    for page in pages:
        guest.log.mark(guest.block("a"), page)
    passage.round()
    return passage


def filled(text: bytes) -> bytes:
    """A page that begins with a text."""
    return text.ljust(PAGE, b"\0")
