"""The compiled kernels, as :class:`transship.memory.kernels.Kernels` wants them.

What each function promises is said there. The lock of the interpreter is not held while one runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Self

from transship_accel._native import ffi, lib

if TYPE_CHECKING:
    from typing import Any

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
    "receive_packets",
    "scatter_pages",
    "send_packets",
    "xbzrle_decode",
    "xbzrle_encode",
]

name: Final = "native"

_WHY: Final = {
    -1: "a page that is not in the memory",
    -2: "the target is too small for the records",
    -3: "bytes that are not in the source",
}


_BYTES: Final = ffi.typeof("uint8_t[]")
_NUMBERS: Final = ffi.typeof("int64_t[]")


class _Views:
    """Buffers as C sees them, until the end of a ``with``; an ``ExitStack`` would cost more."""

    __slots__ = ("_views",)

    def __init__(self) -> None:
        self._views: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for view in self._views:
            ffi.release(view)

    def bytes(self, buffer: Buffer, *, writable: bool = False) -> Any:
        return self._view(_BYTES, buffer, writable)

    def numbers(self, buffer: Buffer, *, writable: bool = False) -> Any:
        return self._view(_NUMBERS, buffer, writable)

    def _view(self, kind: Any, buffer: Buffer, writable: bool) -> Any:
        view = ffi.from_buffer(kind, buffer, writable)
        self._views.append(view)
        return view


def find_zero_pages(memory: Buffer, page_size: int, pages: Buffer | None = None) -> bytes:
    with _Views() as views:
        view = views.bytes(memory)
        numbers = ffi.NULL if pages is None else views.numbers(pages)
        count = len(view) // page_size if pages is None else len(numbers)
        zeros = bytearray(count)
        marks = views.bytes(zeros, writable=True)
        _checked(lib.transship_find_zero_pages(view, len(view), page_size, numbers, count, marks))
    return bytes(zeros)


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
    with _Views() as views:
        view, numbers = views.bytes(memory), views.numbers(pages)
        marks, records = views.bytes(zeros, writable=True), views.bytes(target, writable=True)
        _check_counts(len(numbers), len(marks))
        return _checked(
            lib.transship_pack_pages(
                view,
                len(view),
                page_size,
                numbers,
                marks,
                len(numbers),
                full_tag,
                zero_tag,
                budget_bytes,
                records,
                len(records),
            )
        )


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
    with _Views() as views:
        news, olds = views.bytes(new), views.bytes(old)
        numbers, marks, partners = views.numbers(pages), views.bytes(zeros), views.numbers(places)
        records = views.bytes(target, writable=True)
        encoded = views.numbers(lengths, writable=True)
        _check_counts(len(numbers), len(marks), len(partners), len(encoded))
        return _checked(
            lib.transship_pack_changes(
                news,
                len(news),
                page_size,
                numbers,
                marks,
                len(numbers),
                olds,
                len(olds),
                partners,
                full_tag,
                zero_tag,
                change_tag,
                records,
                len(records),
                encoded,
            )
        )


def find_records(
    window: Buffer,
    page_size: int,
    page_count: int,
    full_tag: int,
    zero_tag: int,
    pages: Buffer,
    zeros: Buffer,
) -> int:
    with _Views() as views:
        records = views.bytes(window)
        numbers, marks = views.numbers(pages, writable=True), views.bytes(zeros, writable=True)
        if len(numbers) < len(marks):
            raise ValueError(f"room for {len(numbers)} numbers, but for {len(marks)} marks")
        return _checked(
            lib.transship_find_records(
                records,
                len(records),
                page_size,
                page_count,
                full_tag,
                zero_tag,
                numbers,
                marks,
                len(marks),
            )
        )


def load_records(
    window: Buffer, page_size: int, full_tag: int, zero_tag: int, memory: Buffer, touched: Buffer
) -> tuple[int, int, int]:
    counts = ffi.new("int64_t[2]")
    with _Views() as views:
        records, view = views.bytes(window), views.bytes(memory, writable=True)
        marks = views.bytes(touched, writable=True)
        _check_counts(len(marks), len(view) // page_size)
        taken = lib.transship_load_records(
            records, len(records), page_size, full_tag, zero_tag, view, len(view), marks, counts
        )
    return taken, counts[0], counts[1]


def receive_packets(
    descriptor: int,
    packet: Buffer,
    like: Buffer,
    page_size: int,
    memory: Buffer,
    touched: Buffer,
    most_ns: int,
) -> tuple[int, int, int, int]:
    counts = ffi.new("int64_t[4]")
    with _Views() as views:
        header, view = views.bytes(packet, writable=True), views.bytes(memory, writable=True)
        template, marks = views.bytes(like), views.bytes(touched, writable=True)
        _check_counts(len(marks), len(view) // page_size)
        _check_counts(len(template), len(header))
        outcome = _checked(
            lib.transship_receive_packets(
                descriptor,
                header,
                len(header),
                template,
                page_size,
                view,
                len(view),
                marks,
                most_ns,
                counts,
            )
        )
    if counts[3]:
        raise OSError(counts[3], os.strerror(counts[3]))
    return outcome, counts[0], counts[1], counts[2]


def send_packets(
    descriptor: int,
    packet: Buffer,
    number: int,
    page_size: int,
    memory: Buffer,
    pages: Buffer,
    zeros: Buffer,
    finds_zeros: bool,
) -> tuple[int, int]:
    counts = ffi.new("int64_t[3]")
    with _Views() as views:
        header, view = views.bytes(packet, writable=True), views.bytes(memory)
        numbers, marks = views.numbers(pages), views.bytes(zeros)
        _check_counts(len(marks), len(numbers))
        _checked(
            lib.transship_send_packets(
                descriptor,
                header,
                len(header),
                number,
                page_size,
                view,
                len(view),
                numbers,
                marks,
                len(numbers),
                finds_zeros,
                counts,
            )
        )
    if counts[2]:
        raise OSError(counts[2], os.strerror(counts[2]))
    return counts[0], counts[1]


def scatter_pages(
    source: Buffer, positions: Buffer, page_size: int, memory: Buffer, pages: Buffer
) -> None:
    with _Views() as views:
        received, places = views.bytes(source), views.numbers(positions)
        view, numbers = views.bytes(memory, writable=True), views.numbers(pages)
        _check_counts(len(numbers), len(places))
        _checked(
            lib.transship_scatter_pages(
                received,
                len(received),
                places,
                page_size,
                view,
                len(view),
                numbers,
                len(numbers),
            )
        )


def xbzrle_encode(old: Buffer, new: Buffer, target: Buffer) -> int:
    with _Views() as views:
        before, after = views.bytes(old), views.bytes(new)
        encoding = views.bytes(target, writable=True)
        _check_counts(len(after), len(before))
        return int(lib.transship_xbzrle_encode(before, after, len(after), encoding, len(encoding)))


def xbzrle_decode(delta: Buffer, page: Buffer) -> int:
    with _Views() as views:
        source, patched = views.bytes(delta), views.bytes(page, writable=True)
        return int(lib.transship_xbzrle_decode(source, len(source), patched, len(patched)))


def mark_ranges(ranges: Buffer, start: int, page_size: int, marks: Buffer) -> int:
    with _Views() as views:
        listed, marked = views.numbers(ranges), views.bytes(marks, writable=True)
        return _checked(
            lib.transship_mark_ranges(
                listed, len(listed) // 3, start, page_size, marked, len(marked)
            )
        )


def checksum(memory: Buffer) -> int:
    with _Views() as views:
        view = views.bytes(memory)
        if len(view) % 8:
            raise ValueError(f"{len(view)} bytes are no whole words")
        return int(lib.transship_checksum(view, len(view) // 8))


def _check_counts(count: int, *others: int) -> None:
    if any(other != count for other in others):
        raise ValueError(f"{count} pages, but {', '.join(map(str, others))} of what goes with them")


def _checked(result: int) -> int:
    if result < 0:
        raise ValueError(_WHY[result])
    return int(result)
