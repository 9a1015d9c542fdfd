"""Words of the RAM section: an offset in a block and, in the bits below the page size, flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from transship.wire.constants import PageFlag

KINDS: Final = (
    PageFlag.ZERO
    | PageFlag.MEM_SIZE
    | PageFlag.PAGE
    | PageFlag.EOS
    | PageFlag.XBZRLE
    | PageFlag.HOOK
    | PageFlag.COMPRESS_PAGE
    | PageFlag.MULTIFD_FLUSH
)
"""Exactly one of these is set in a word; CONTINUE may come with those that carry a page."""

CARRIES_PAGE: Final = PageFlag.ZERO | PageFlag.PAGE | PageFlag.XBZRLE | PageFlag.COMPRESS_PAGE


@dataclass(frozen=True, slots=True)
class PageWord:
    """A decoded word: which kind, for which offset, and whether the block is the same as before."""

    kind: PageFlag
    offset: int
    continues: bool


def split_word(word: int, page_size: int) -> PageWord | None:
    """Decode a word of the RAM section; None if its flags are no legal combination."""
    flags = word & (page_size - 1)
    kind = flags & ~int(PageFlag.CONTINUE)
    continues = bool(flags & PageFlag.CONTINUE)
    if kind not in _LEGAL or (continues and not kind & CARRIES_PAGE):
        return None
    return PageWord(PageFlag(kind), word - flags, continues)


_LEGAL: Final = frozenset(int(flag) for flag in KINDS)
