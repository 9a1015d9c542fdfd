"""Kernels with numpy: whole batches in a handful of array operations, without the GIL.

What each function promises is said in :class:`transship.memory.kernels.Kernels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from transship.memory._changes_np import WORD, Changes
from transship.memory._kernels_py import xbzrle_decode, xbzrle_encode
from transship.memory.arrays import Numbers, last_of_each

if TYPE_CHECKING:
    from transship.buffers import Buffer

__all__ = [
    "checksum",
    "find_records",
    "find_zero_pages",
    "load_records",
    "mark_ranges",
    "name",
    "pack_changes",
    "pack_pages",
    "scatter_pages",
    "xbzrle_decode",
    "xbzrle_encode",
]

name: Final = "numpy"

Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]

_HEADER: Final = 8
_ZERO_RECORD: Final = _HEADER + 1
_CHANGE_HEADER: Final = _HEADER + 3
_CHANGE_MARK: Final = 1
_CHANGE_MAX: Final = 0xFFFF
_CHUNK_BYTES: Final = 1 << 18
"""Pages are copied through a temporary of at most this size, which stays in the cache."""

_LOOKED_AT_BYTES: Final = 1 << 24
"""Guest memory that one call is for at most: some 5 ms, should all of it be zero pages."""

_LONG_RANGE: Final = 1024
"""Pages of a range that is marked by itself; shorter ones are marked all at once."""

_SUMMED_WORDS: Final = 1 << 16
_MASK: Final = (1 << 64) - 1
_MULTIPLIER: Final = 0x9E3779B97F4A7C15

_STREAK: Final = 8
"""So many records of one kind in a row, and the next ones are looked at together: twice as many,
and four times more whenever all of them were of that kind. Short streaks are cheaper one by one."""


def find_zero_pages(memory: Buffer, page_size: int, pages: Buffer | None = None) -> bytes:
    words = np.frombuffer(memory, np.uint64).reshape(-1, page_size // 8)
    if pages is not None:
        numbers = np.frombuffer(pages, np.int64)
        if not _is_run(numbers):
            return _find_scattered_zero_pages(words, numbers)
        words = _rows(words, numbers)
    return _are_zero(words).tobytes()


def pack_pages(
    memory: Buffer,
    page_size: int,
    pages: Buffer,
    zeros: Buffer,
    full_tag: int,
    zero_tag: int,
    budget_bytes: int,
    target: Buffer,
) -> int:
    numbers = np.frombuffer(pages, np.int64)
    is_zero = np.frombuffer(zeros, np.bool_)
    unknown = ~is_zero
    if unknown.any():
        found = find_zero_pages(memory, page_size, numbers[unknown].data)
        is_zero[unknown] = np.frombuffer(found, np.bool_)
    sizes = np.where(is_zero, _ZERO_RECORD, _HEADER + page_size)
    ends = np.cumsum(sizes)
    count = min(int(np.searchsorted(ends, budget_bytes)) + 1, len(ends)) if budget_bytes else 0
    if not count:
        return 0
    numbers, is_zero, ends = numbers[:count], is_zero[:count], ends[:count]
    starts = ends - sizes[:count]
    records = np.frombuffer(target, np.uint8)
    if ends[-1] > len(records):
        raise ValueError(f"{ends[-1]} bytes of records for a target of {len(records)}")

    words = numbers * page_size + np.where(is_zero, zero_tag, full_tag)
    headers = words.astype(">i8").view(np.uint8).reshape(-1, _HEADER)
    _windows(records, _HEADER)[starts] = headers
    records[ends[is_zero] - 1] = 0
    _gather_pages(memory, page_size, numbers[~is_zero], records, starts[~is_zero] + _HEADER)
    return count


def pack_changes(
    new: Buffer,
    page_size: int,
    pages: Buffer,
    zeros: Buffer,
    old: Buffer,
    places: Buffer,
    full_tag: int,
    zero_tag: int,
    change_tag: int,
    target: Buffer,
    lengths: Buffer,
) -> int:
    numbers = np.frombuffer(pages, np.int64)
    is_zero = np.frombuffer(zeros, np.bool_)
    partners = np.frombuffer(places, np.int64)
    compared = np.flatnonzero((partners >= 0) & ~is_zero)
    changes = _find_changes(old, partners[compared], new, compared, page_size)
    encoded = np.frombuffer(lengths, np.int64)
    encoded[:] = -1
    encoded[compared] = 0
    changed = compared[changes.pages]
    encoded[changed] = changes.sizes

    is_full = (encoded < 0) & ~is_zero
    is_change = encoded > 0
    sizes = np.where(is_change, _CHANGE_HEADER + encoded, 0)
    sizes[is_zero] = _ZERO_RECORD
    sizes[is_full] = _HEADER + page_size
    ends = np.cumsum(sizes)
    starts = ends - sizes
    size = int(ends[-1]) if len(ends) else 0
    records = np.frombuffer(target, np.uint8)
    if size > len(records):
        raise ValueError(f"{size} bytes of records for a target of {len(records)}")

    tags = np.where(is_zero, zero_tag, np.where(is_full, full_tag, change_tag))
    is_recorded = sizes > 0
    words = (numbers * page_size + tags)[is_recorded]
    headers = words.astype(">i8").view(np.uint8).reshape(-1, _HEADER)
    _windows(records, _HEADER)[starts[is_recorded]] = headers
    records[ends[is_zero] - 1] = 0
    _gather_pages(new, page_size, np.flatnonzero(is_full), records, starts[is_full] + _HEADER)
    marks = starts[is_change] + _HEADER
    records[marks] = _CHANGE_MARK
    records[marks + 1] = encoded[is_change] >> 8
    records[marks + 2] = encoded[is_change] & 0xFF
    changes.write(records, starts[changed] + _CHANGE_HEADER)
    return size


def find_records(
    window: Buffer,
    page_size: int,
    page_count: int,
    full_tag: int,
    zero_tag: int,
    pages: Buffer,
    zeros: Buffer,
) -> int:
    view = memoryview(window)
    numbers = memoryview(pages).cast("B").cast("q")
    marks = memoryview(zeros)
    size_of = {full_tag: _HEADER + page_size, zero_tag: _ZERO_RECORD}
    start = count = streak = 0
    reach = 2 * _STREAK
    last_tag = -1
    while count < len(marks):
        page, tag = divmod(int.from_bytes(view[start : start + _HEADER], "big"), page_size)
        size = size_of.get(tag)
        if size is None or start + size > len(view) or page >= page_count:
            break
        is_zero = tag == zero_tag
        if is_zero and view[start + _HEADER]:
            break
        if tag != last_tag:
            last_tag, streak, reach = tag, 0, 2 * _STREAK
        if streak < _STREAK:
            numbers[count] = page
            marks[count] = is_zero
            found = 1
        else:
            most = min((len(view) - start) // size, len(marks) - count, reach)
            alike = _pages_alike(view[start : start + most * size], page_size, size, tag)
            wrong = np.flatnonzero((alike < 0) | (alike >= page_count))
            found = int(wrong[0]) if len(wrong) else most
            numbers[count : count + found] = alike[:found].data.cast("B").cast("q")
            marks[count : count + found] = bytes([is_zero]) * found
            reach *= 4
        streak += 1
        count += found
        start += found * size
    return count


def load_records(
    window: Buffer, page_size: int, full_tag: int, zero_tag: int, memory: Buffer, touched: Buffer
) -> tuple[int, int, int]:
    page_count = len(memory) // page_size
    most = min(_LOOKED_AT_BYTES // page_size, len(window) // _ZERO_RECORD)
    pages, zeros = np.zeros(most, np.int64), np.zeros(most, np.bool_)
    count = find_records(
        window, page_size, page_count, full_tag, zero_tag, pages.data, zeros.data.cast("B")
    )
    if not count:
        return 0, 0, 0
    pages, zeros = pages[:count], zeros[:count]
    ends = np.cumsum(np.where(zeros, _ZERO_RECORD, _HEADER + page_size))
    cleared = int(np.count_nonzero(zeros))
    stays = last_of_each(pages)
    marks = np.frombuffer(touched, np.uint8)
    if cleared:
        wanted = pages[zeros & stays & (marks[pages] != 0)]
        found = np.frombuffer(find_zero_pages(memory, page_size, wanted.data), np.bool_)
        np.frombuffer(memory, np.uint8).reshape(-1, page_size)[wanted[~found]] = 0
    if cleared < count:
        filled = ~zeros & stays
        marks[pages[~zeros]] = 1
        places = ends[filled] - page_size
        scatter_pages(window, places.data, page_size, memory, pages[filled].data)
    return int(ends[-1]), count - cleared, cleared


def scatter_pages(
    source: Buffer, positions: Buffer, page_size: int, memory: Buffer, pages: Buffer
) -> None:
    places = np.frombuffer(positions, np.int64)
    numbers = np.frombuffer(pages, np.int64)
    received = _windows(np.frombuffer(source, np.uint8), page_size)
    view = np.frombuffer(memory, np.uint8).reshape(-1, page_size)
    stride = _stride(places)
    if stride and _is_run(numbers):
        _rows(view, numbers)[:] = received[places[0] : places[-1] + 1 : stride]
        return
    for part in _chunks(len(numbers), page_size):
        view[numbers[part]] = received[places[part]]


def mark_ranges(ranges: Buffer, start: int, page_size: int, marks: Buffer) -> int:
    numbers = np.frombuffer(ranges, np.int64)
    regions = numbers[: len(numbers) // 3 * 3].reshape(-1, 3)
    marked = np.frombuffer(marks, np.uint8)
    firsts = (regions[:, 0] - start) // page_size
    ends = -((start - regions[:, 1]) // page_size)
    if ((firsts < 0) | (regions[:, 1] < regions[:, 0]) | (ends > len(marked))).any():
        raise ValueError("a page that is not in the memory")
    is_long = ends - firsts > _LONG_RANGE
    fresh = 0
    for first, end in zip(firsts[is_long].tolist(), ends[is_long].tolist(), strict=True):
        fresh += end - first - int(np.count_nonzero(marked[first:end]))
        marked[first:end] = 1
    firsts, counts = firsts[~is_long], (ends - firsts)[~is_long]
    # All pages of all short ranges at once: each range's first, plus how far a page is into it.
    begins = np.cumsum(counts) - counts
    pages = np.arange(int(counts.sum())) + np.repeat(firsts - begins, counts)
    before = int(np.count_nonzero(marked))
    marked[pages] = 1
    return fresh + int(np.count_nonzero(marked)) - before


def checksum(memory: Buffer) -> int:
    words = np.frombuffer(memory, "<u8")
    plain = weighted = 0
    for start in range(0, len(words), _SUMMED_WORDS):
        part = words[start : start + _SUMMED_WORDS]
        places = np.arange(1, len(part) + 1, dtype=np.uint64)
        total = int(part.sum(dtype=np.uint64))
        plain += total
        weighted += int((part * places).sum(dtype=np.uint64)) + total * start
    return (plain * _MULTIPLIER & _MASK) ^ (weighted & _MASK)


def _gather_pages(
    memory: Buffer, page_size: int, numbers: Numbers, records: Bytes, places: Numbers
) -> None:
    view = np.frombuffer(memory, np.uint8).reshape(-1, page_size)
    stride = _stride(places)
    if stride and _is_run(numbers):
        targets = _windows(records, page_size)[places[0] : places[-1] + 1 : stride]
        targets[:] = _rows(view, numbers)
        return
    targets = _windows(records, page_size)
    for part in _chunks(len(numbers), page_size):
        targets[places[part]] = view[numbers[part]]


def _find_changes(
    old: Buffer, places: Numbers, new: Buffer, numbers: Numbers, page_size: int
) -> Changes:
    """Compare pages with those at ``places``, a word at a time; most words are the same."""
    per_page = page_size // WORD
    olds = _picked(np.frombuffer(old, np.uint64).reshape(-1, per_page), places)
    news = _picked(np.frombuffer(new, np.uint64).reshape(-1, per_page), numbers)
    olds, news = olds.reshape(-1), news.reshape(-1)
    words = np.flatnonzero(olds != news)
    return Changes(words, olds[words], news[words], page_size, min(page_size, _CHANGE_MAX))


def _picked(pages: np.ndarray[Any, Any], numbers: Numbers) -> np.ndarray[Any, Any]:
    """Those pages: a view where they lie side by side, else a copy."""
    return _rows(pages, numbers) if _is_run(numbers) else pages[numbers]


def _find_scattered_zero_pages(words: np.ndarray[Any, Any], numbers: Numbers) -> bytes:
    """Only pages that begin with a zero word are read to their end."""
    zeros: np.ndarray[Any, np.dtype[np.bool_]] = words[numbers, 0] == 0
    candidates = np.flatnonzero(zeros)
    for part in _chunks(len(candidates), words.shape[1] * 8):
        zeros[candidates[part]] = _are_zero(words[numbers[candidates[part]]])
    return zeros.tobytes()


def _are_zero(words: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    result: np.ndarray[Any, np.dtype[np.bool_]] = np.bitwise_or.reduce(words, axis=1) == 0
    return result


def _pages_alike(records: memoryview, page_size: int, size: int, tag: int) -> Numbers:
    """Page numbers of records of one size, where they are of that tag; -1 where they are not."""
    count = len(records) // size
    words = np.ndarray((count,), ">u8", records, 0, (size,)).astype(np.uint64)
    alike = words % np.uint64(page_size) == tag
    if size == _ZERO_RECORD:
        alike &= np.frombuffer(records, np.uint8)[_HEADER::size] == 0
    return np.where(alike, (words // np.uint64(page_size)).astype(np.int64), -1)


def _windows(data: Bytes, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``data`` as a row of ``size`` bytes for every position at which one begins."""
    rows = max(len(data) - size + 1, 0)
    return np.ndarray((rows, size), np.uint8, data, 0, (1, 1))


def _rows(pages: np.ndarray[Any, Any], numbers: Numbers) -> np.ndarray[Any, Any]:
    """The pages of a run."""
    return pages[numbers[0] : numbers[0] + len(numbers)]


def _is_run(numbers: Numbers) -> bool:
    """Whether these are consecutive numbers, at least one."""
    return _stride(numbers) == 1


def _stride(numbers: Numbers) -> int:
    """By how much these numbers grow, always; 0 if there are none or not by the same."""
    if len(numbers) < 2:
        return len(numbers)
    step = int(numbers[1] - numbers[0])
    return step if step > 0 and bool((numbers[1:] - numbers[:-1] == step).all()) else 0


def _chunks(count: int, page_size: int) -> list[slice]:
    step = max(_CHUNK_BYTES // page_size, 1)
    return [slice(start, start + step) for start in range(0, count, step)]
