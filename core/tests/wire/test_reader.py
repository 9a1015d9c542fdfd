"""The window over a stream: what it keeps, what it asks for, and where it stops."""

from __future__ import annotations

import io
import mmap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from transship.errors import StreamError
from transship.wire.reader import InThread, Parsing, StreamReader, drive

if TYPE_CHECKING:
    from collections.abc import Callable


@given(st.binary(min_size=1, max_size=400), st.lists(st.integers(1, 60)), st.integers(60, 100))
def test_reader_gives_the_bytes_of_the_stream_in_order(
    data: bytes, sizes: list[int], capacity: int
) -> None:
    reader = StreamReader(capacity)

    def parse() -> Parsing[bytes]:
        taken = b""
        for size in sizes:
            if len(taken) + size > len(data):
                break
            assert reader.offset == len(taken)
            taken += yield from reader.take(size)
        return taken

    taken = drive(parse(), reader, io.BytesIO(data).readinto)
    assert data.startswith(taken)
    assert reader.offset == len(taken)


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 50))
def test_fill_lands_the_rest_directly(data: bytes, size: int, before: int) -> None:
    reader = StreamReader(64)
    target = bytearray(size)

    def parse() -> Parsing[None]:
        yield from reader.take(before)
        yield from reader.fill(memoryview(target))

    file = io.BytesIO(data)
    if before + size <= len(data):
        drive(parse(), reader, file.readinto)
        assert bytes(target) == data[before : before + size]
        assert reader.offset == before + size
    else:
        with pytest.raises(StreamError, match="ends early"):
            drive(parse(), reader, file.readinto)


def test_take_large_grows_only_as_bytes_arrive() -> None:
    reader = StreamReader(64)
    with pytest.raises(StreamError, match="ends early") as caught:
        drive(reader.take_large(1 << 40), reader, io.BytesIO(bytes(1000)).readinto)
    assert caught.value.offset == 1000


def test_bounded_stops_every_kind_of_read() -> None:
    reads: list[Callable[[StreamReader], Parsing[object]]] = [
        lambda reader: reader.take(5),
        lambda reader: reader.take_large(5),
        lambda reader: reader.fill(memoryview(bytearray(5))),
        lambda reader: reader.ensure(5),
        lambda reader: reader.drop(5),
    ]
    for read in reads:
        reader = StreamReader()
        with reader.bounded(4), pytest.raises(StreamError, match="beyond the package"):
            drive(read(reader), reader, io.BytesIO(bytes(10)).readinto)


def test_drive_lets_a_parser_rest_without_reading() -> None:
    reader = StreamReader()
    file = io.BytesIO(b"xy")

    def parse() -> Parsing[bytes]:
        yield 0
        assert file.tell() == 0
        first = yield from reader.take(1)
        yield 0
        return first + (yield from reader.take(1))

    assert drive(parse(), reader, file.readinto) == b"xy"


def test_failed_fill_holds_no_view_of_its_target() -> None:
    mapping = mmap.mmap(-1, 4096)
    reader = StreamReader()
    with memoryview(mapping) as view, pytest.raises(StreamError, match="ends early") as caught:
        drive(reader.fill(view), reader, io.BytesIO(bytes(100)).readinto)
    mapping.close()
    assert caught.value.__traceback__ is not None


def test_drive_closes_the_parser_when_reading_fails() -> None:
    closed = []

    def parse() -> Parsing[None]:
        try:
            yield 1
        finally:
            closed.append(True)

    def readinto(view: memoryview) -> int:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone") as caught:
        drive(parse(), StreamReader(), readinto)
    assert (closed, caught.value.args) == ([True], ("the disk is gone",))


def test_at_end_waits_until_it_knows() -> None:
    reader = StreamReader()
    file = io.BytesIO(b"x")
    assert drive(reader.at_end(), reader, file.readinto) is False
    drive(reader.take(1), reader, file.readinto)
    assert drive(reader.at_end(), reader, file.readinto) is True


def test_parser_has_something_done_before_it_goes_on() -> None:
    done: list[str] = []

    def parse() -> Parsing[list[str]]:
        yield InThread(lambda: done.append("blocked"))
        return [*done, "went on"]

    assert drive(parse(), StreamReader(), io.BytesIO().readinto) == ["blocked", "went on"]
