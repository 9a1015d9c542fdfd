"""XBZRLE for many pages at once, with numpy: runs of different bytes, and their encoding.

What an encoding is, is said in :meth:`transship.memory.kernels.Kernels.xbzrle_encode`. Nothing
here costs a step for each page or run; the work grows with the words that differ. A word is eight
bytes, and what is true of some of them is eight bits of one byte, the lowest for the first.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]
Marks: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
Words: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint64]]

WORD: Final = 8
"""Bytes compared at once."""

_WORD_SHIFT: Final = 3
_LENGTH_MAX: Final = 0x3FFF
_LENGTH_SHORT: Final = 0x7F
_LENGTH_ROOM: Final = 2
_ONE: Final = np.uint8(1)
_HIGH_BIT: Final = np.uint8(0x80)


class Changes:
    """What differs between pages and what they were, and the encodings of it.

    Args:
        words: Numbers of the words that differ, ascending, counted over all pages.
        before: Those words as they were.
        after: Those words as they are.
        page_size: Bytes of a page, a power of two.
        limit: The most bytes that an encoding may have.

    Attributes:
        pages: Numbers of the pages that differ, ascending.
        sizes: For each of them the bytes of its encoding; -1 if it does not fit.
    """

    def __init__(
        self, words: Numbers, before: Words, after: Words, page_size: int, limit: int
    ) -> None:
        per_page = page_size // WORD
        differs = np.packbits((before ^ after).view(np.uint8) != 0, bitorder="little")
        begins, ends = _run_bounds(differs, words, per_page)
        of_word = words // per_page
        firsts = np.flatnonzero(np.diff(of_word, prepend=-1) != 0)
        self.pages = of_word[firsts]
        self.sizes: Numbers = np.full(len(firsts), -1, np.int64)

        # Of pages with too many runs and bytes, whatever their lengths are, the runs stay unseen.
        counts = _sums_of_bits(begins, firsts)
        may_fit = _sums_of_bits(differs, firsts) + counts * _LENGTH_ROOM <= limit
        if not may_fit.all():
            kept = np.repeat(may_fit, np.diff(firsts, append=len(words)))
            words, after, begins, ends = words[kept], after[kept], begins[kept], ends[kept]
        self._after = after.view(np.uint8)
        self._runs = _Runs(words, begins, ends, counts[may_fit], page_size, limit)
        self.sizes[may_fit] = self._runs.sizes

    def write(self, target: Bytes, places: Numbers) -> None:
        """Write the encodings that fit.

        Args:
            target: Has room for them.
            places: For each page that differs, where its encoding begins.
        """
        self._runs.write(self._after, target, places[self.sizes >= 0])


class _Runs:
    """The runs of some pages, in order; their bytes lie in words that differ, and only in those.

    Args:
        words: Numbers of the words.
        begins: At which bytes of each word a run begins.
        ends: Which bytes are the last of one.
        counts: How many runs each page has.
        page_size: Bytes of a page.
        limit: The most bytes that an encoding may have.

    Attributes:
        sizes: For each page the bytes of its encoding; -1 if it does not fit.
    """

    def __init__(
        self,
        words: Numbers,
        begins: Bytes,
        ends: Bytes,
        counts: Numbers,
        page_size: int,
        limit: int,
    ) -> None:
        self._counts = counts
        self._sources = _set_bits(begins)
        self._lengths = _set_bits(ends) + 1 - self._sources
        places = words[self._sources >> _WORD_SHIFT] << _WORD_SHIFT | self._sources & (WORD - 1)
        starts = places & (page_size - 1)
        stops = starts + self._lengths
        firsts = _starts(counts)
        self._gaps = starts.copy()
        self._gaps[1:] -= stops[:-1]
        self._gaps[firsts] = starts[firsts]
        self._gap_room = _room(self._gaps)
        self._heads = self._gap_room + _room(self._lengths)

        self.sizes: Numbers = np.add.reduceat(self._heads + self._lengths, firsts)
        goes_on = stops[firsts + counts - 1] < page_size
        is_over = self.sizes + _LENGTH_ROOM * goes_on > limit
        if page_size > _LENGTH_MAX:
            longest = np.maximum.reduceat(np.maximum(self._gaps, self._lengths), firsts)
            is_over |= longest > _LENGTH_MAX
        if is_over.any():
            self.sizes[is_over] = -1
            self._keep(~is_over)

    def _keep(self, pages: Marks) -> None:
        """Forget the runs of the other pages."""
        kept = np.repeat(pages, self._counts)
        self._counts = self._counts[pages]
        self._sources, self._lengths = self._sources[kept], self._lengths[kept]
        self._gaps, self._gap_room = self._gaps[kept], self._gap_room[kept]
        self._heads = self._heads[kept]

    def write(self, content: Bytes, target: Bytes, places: Numbers) -> None:
        """Write those that fit, a page's to each place; ``content`` are the words as they are."""
        at = _starts(self._heads + self._lengths)
        at += np.repeat(places - at[_starts(self._counts)], self._counts)
        _write_lengths(target, at, self._gaps)
        _write_lengths(target, at + self._gap_room, self._lengths)
        moves = at + self._heads - self._sources
        sources = np.repeat(self._sources - _starts(self._lengths), self._lengths)
        sources += np.arange(len(sources))
        target[sources + np.repeat(moves, self._lengths)] = content[sources]


def _run_bounds(differs: Bytes, words: Numbers, per_page: int) -> tuple[Bytes, Bytes]:
    """Which bytes of each word are the first of a run, and which the last.

    Runs cross from word to word, but not from page to page.
    """
    follows = (np.diff(words) == 1) & (words[1:] & (per_page - 1) != 0)
    before: Bytes = differs << _ONE
    before[1:] |= (differs[:-1] >> 7) & follows
    behind: Bytes = differs >> _ONE
    behind[:-1] |= (differs[1:] << 7) & (follows * _HIGH_BIT)
    return differs & ~before, differs & ~behind


def _set_bits(masks: Bytes) -> Numbers:
    """The positions of the bits that are set."""
    return np.flatnonzero(np.unpackbits(masks, bitorder="little").view(np.bool_))


def _sums_of_bits(masks: Bytes, firsts: Numbers) -> Numbers:
    """How many bits are set from each of those bytes to the next of them."""
    return np.add.reduceat(np.bitwise_count(masks).astype(np.int64), firsts)


def _starts(sizes: Numbers) -> Numbers:
    """Where things of those sizes begin, one after another."""
    return np.cumsum(sizes) - sizes


def _room(lengths: Numbers) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many bytes those lengths take."""
    return np.where(lengths > _LENGTH_SHORT, 2, 1)


def _write_lengths(target: Bytes, at: Numbers, lengths: Numbers) -> None:
    """Write a length at each place. Always two bytes; where it has one, the other is rubbish."""
    target[at] = lengths & _LENGTH_SHORT | (lengths > _LENGTH_SHORT) * _HIGH_BIT
    target[at + 1] = lengths >> 7
