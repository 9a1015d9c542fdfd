"""The window over a stream: what it keeps, what it asks for, and where it stops."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from transship.errors import StreamError
from transship.wire.reader import Parsing, StreamReader, drive

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


def test_at_end_waits_until_it_knows() -> None:
    reader = StreamReader()
    file = io.BytesIO(b"x")
    assert drive(reader.at_end(), reader, file.readinto) is False
    drive(reader.take(1), reader, file.readinto)
    assert drive(reader.at_end(), reader, file.readinto) is True
