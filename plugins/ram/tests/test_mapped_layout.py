"""Headers of ``mapped-ram`` that make no sense are refused for what is wrong with them."""

from __future__ import annotations

import struct

import pytest

from transship.errors import StreamError
from transship.wire.reader import StreamReader
from transship_ram._layout import HEADER_BYTES, Placing

PAGE = 4096
PAGES = 512
POSITION = 0x1000
"""Where the header ends in the file."""


def read(bitmap_offset: int, pages_offset: int) -> Placing:
    reader = StreamReader(offset=POSITION)
    header = struct.pack(">IQQQ", 1, PAGE, bitmap_offset, pages_offset)
    placing = Placing.read(header, reader, PAGE, PAGES)
    placing.check_behind(POSITION, reader)
    return placing


def test_what_is_written_is_read() -> None:
    placing = Placing.behind(POSITION - HEADER_BYTES, PAGES)
    assert read(*placing) == placing


@pytest.mark.parametrize(
    ("bitmap_offset", "pages_offset", "words"),
    [
        (0, 1 << 20, "a bitmap that is not behind its header"),
        (POSITION - 1, 1 << 20, "a bitmap that is not behind its header"),
        (1 << 63, 1 << 20, "a bitmap beyond the end of every file"),
        (POSITION, (1 << 64) - PAGE, "pages beyond the end of every file"),
        (POSITION, (1 << 20) + 1, "pages that are not aligned"),
        ((1 << 20) - 8, 1 << 20, "pages that are not behind their bitmap"),
        (1 << 40, 1 << 20, "pages that are not behind their bitmap"),
    ],
)
def test_header_is_refused_for_what_is_wrong(
    bitmap_offset: int, pages_offset: int, words: str
) -> None:
    with pytest.raises(StreamError, match=words):
        read(bitmap_offset, pages_offset)
