"""Reference kernels: the standard library alone, written to be read. No numpy, no speed records.

What each function promises is said in :class:`transship.memory.kernels.Kernels`.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transship.buffers import Buffer

name: Final = "reference"

_ZERO_BYTE: Final = b"\0"
_DIFFERENT_RUN: Final = re.compile(rb"[^\0]+")
_LENGTH_MAX: Final = 0x3FFF
_LENGTH_ROOM: Final = 2
_CHANGE_MARK: Final = b"\1"
_CHANGE_MAX: Final = 0xFFFF
_WORD: Final = 8
_MASK: Final = (1 << 64) - 1
_MULTIPLIER: Final = 0x9E3779B97F4A7C15


def find_zero_pages(memory: Buffer, page_size: int, pages: Buffer | None = None) -> bytes:
    zero_page = bytes(page_size)
    view = memoryview(memory)
    numbers = range(len(view) // page_size) if pages is None else _numbers(pages)
    starts = (page * page_size for page in numbers)
    return bytes(bytes(view[start : start + page_size]) == zero_page for start in starts)


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
    source, records, marks = memoryview(memory), memoryview(target), memoryview(zeros).cast("B")
    zero_page = bytes(page_size)
    end = count = 0
    for page in _numbers(pages):
        if end >= budget_bytes:
            break
        offset = page * page_size
        content = source[offset : offset + page_size]
        marks[count] = marks[count] or bytes(content) == zero_page
        tag = zero_tag if marks[count] else full_tag
        payload = _ZERO_BYTE if marks[count] else content
        records[end : end + 8] = (offset | tag).to_bytes(8, "big")
        records[end + 8 : end + 8 + len(payload)] = payload
        end += 8 + len(payload)
        count += 1
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
    olds, news, records = memoryview(old), memoryview(new), memoryview(target)
    encoded = _numbers(lengths)
    encoding = memoryview(bytearray(min(page_size, _CHANGE_MAX)))
    end = 0
    numbered = zip(_numbers(pages), zeros, _numbers(places), strict=True)
    for row, (page, is_zero, place) in enumerate(numbered):
        content = news[row * page_size : (row + 1) * page_size]
        length = -1
        if place >= 0 and not is_zero:
            before = olds[place * page_size : (place + 1) * page_size]
            length = xbzrle_encode(before, content, encoding)
        encoded[row] = length
        if length == 0:
            continue
        tag, payload = full_tag, bytes(content)
        if is_zero:
            tag, payload = zero_tag, _ZERO_BYTE
        elif length > 0:
            tag = change_tag
            payload = _CHANGE_MARK + length.to_bytes(2, "big") + encoding[:length]
        records[end : end + 8] = (page * page_size | tag).to_bytes(8, "big")
        records[end + 8 : end + 8 + len(payload)] = payload
        end += 8 + len(payload)
    return end


def find_records(
    window: Buffer,
    page_size: int,
    page_count: int,
    full_tag: int,
    zero_tag: int,
    pages: Buffer,
    zeros: Buffer,
) -> int:
    records, numbers, marks = memoryview(window), _numbers(pages), memoryview(zeros)
    size_of = {full_tag: 8 + page_size, zero_tag: 8 + len(_ZERO_BYTE)}
    start = count = 0
    while count < len(marks):
        page, tag = divmod(int.from_bytes(records[start : start + 8], "big"), page_size)
        end = start + size_of.get(tag, len(records) + 1)
        if end > len(records) or page >= page_count:
            break
        is_zero = tag == zero_tag
        if is_zero and records[start + 8]:
            break
        numbers[count] = page
        marks[count] = is_zero
        count += 1
        start = end
    return count


def load_records(
    window: Buffer, page_size: int, full_tag: int, zero_tag: int, memory: Buffer, touched: Buffer
) -> tuple[int, int, int]:
    records, view, marks = memoryview(window), memoryview(memory), memoryview(touched)
    page, zero = memoryview(bytearray(8)), bytearray(1)
    at = normal = cleared = 0
    page_count = len(view) // page_size
    while find_records(records[at:], page_size, page_count, full_tag, zero_tag, page, zero):
        number = page.cast("q")[0]
        start = number * page_size
        content = view[start : start + page_size]
        if zero[0]:
            cleared += 1
            at += 8 + len(_ZERO_BYTE)
            if marks[number] and bytes(content).strip(_ZERO_BYTE):
                content[:] = bytes(page_size)
        else:
            normal += 1
            marks[number] = 1
            content[:] = records[at + 8 : at + 8 + page_size]
            at += 8 + page_size
    return at, normal, cleared


def scatter_pages(
    source: Buffer, positions: Buffer, page_size: int, memory: Buffer, pages: Buffer
) -> None:
    received, view = memoryview(source), memoryview(memory)
    for position, page in zip(_numbers(positions), _numbers(pages), strict=True):
        start = page * page_size
        view[start : start + page_size] = received[position : position + page_size]


def xbzrle_encode(old: Buffer, new: Buffer, target: Buffer) -> int:
    different = int.from_bytes(old, "big") ^ int.from_bytes(new, "big")
    encoding = bytearray()
    equal_from = 0
    for run in _DIFFERENT_RUN.finditer(different.to_bytes(len(new), "big")):
        for length in (run.start() - equal_from, len(run[0])):
            if len(encoding) + _LENGTH_ROOM > len(target) or length > _LENGTH_MAX:
                return -1
            encoding += _encode_length(length)
        encoding += new[run.start() : run.end()]
        if len(encoding) > len(target):
            return -1
        equal_from = run.end()
    if equal_from < len(new) and len(encoding) + _LENGTH_ROOM > len(target):
        return -1
    memoryview(target)[: len(encoding)] = encoding
    return len(encoding)


def xbzrle_decode(delta: Buffer, page: Buffer) -> int:
    source, view = memoryview(delta), memoryview(page)
    at = end = 0
    while at < len(source):
        is_first = at == 0
        equal, at = _decode_length(source, at)
        different, at = _decode_length(source, at)
        start = end + equal
        end = start + different
        if equal < 0 or different <= 0 or not (equal or is_first):
            return -1
        if end > len(view) or at + different > len(source):
            return -1
        view[start:end] = source[at : at + different]
        at += different
    return end


def mark_ranges(ranges: Buffer, start: int, page_size: int, marks: Buffer) -> int:
    numbers, marked = _numbers(ranges), memoryview(marks)
    fresh = 0
    for at in range(0, len(numbers) - 2, 3):
        low, high = numbers[at], numbers[at + 1]
        first, end = (low - start) // page_size, -(-(high - start) // page_size)
        if first < 0 or high < low or end > len(marked):
            raise ValueError("a page that is not in the memory")
        fresh += bytes(marked[first:end]).count(0)
        marked[first:end] = b"\1" * (end - first)
    return fresh


def checksum(memory: Buffer) -> int:
    if len(memory) % _WORD:
        raise ValueError(f"{len(memory)} bytes are no whole words")
    plain = weighted = 0
    for place, (word,) in enumerate(struct.iter_unpack("<Q", memory), 1):
        plain += word
        weighted += word * place
    return (plain * _MULTIPLIER & _MASK) ^ (weighted & _MASK)


def _numbers(buffer: Buffer) -> memoryview:
    return memoryview(buffer).cast("B").cast("q")


def _encode_length(length: int) -> bytes:
    return bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])


def _decode_length(source: memoryview, at: int) -> tuple[int, int]:
    """The length at ``at``, and where it ends; the length is -1 if there is none.

    Two bytes must be left even for a length of one, since after it something has to follow.
    """
    if at + _LENGTH_ROOM > len(source):
        return -1, at
    low, high = source[at], source[at + 1]
    if low < 0x80:
        return low, at + 1
    if high < 0x80:
        return low & 0x7F | high << 7, at + 2
    return -1, at
