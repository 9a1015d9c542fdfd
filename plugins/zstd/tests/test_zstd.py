"""What goes over a channel is one zstd frame, as in QEMU; and what only that can do wrong."""

from __future__ import annotations

import hashlib
import lzma
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import zstandard

from transship.abc import Parameters
from transship.wire.multifd import (
    HEADER_BYTES,
    INITIAL_BYTES,
    packet_bytes,
    parse_packet_header,
)
from transship_zstd.plugin import create_compression

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN: Final = Path(__file__).parent / "golden" / "qemu-10.0-channel.bin.xz"
PAGE: Final = 4096
KIB: Final = 1 << 10
GIB: Final = 1 << 30
MAGIC: Final = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES: Final = 128 * KIB
"""Most that one block stands for."""


def packets(channel: bytes) -> Iterator[tuple[bytes, int]]:
    """The data of each packet of a recorded channel, and how many bytes they stand for."""
    rest = channel[INITIAL_BYTES:]
    while rest:
        header = parse_packet_header(rest[:HEADER_BYTES])
        rest = rest[packet_bytes(PAGE) :]
        if header.normal_pages:
            yield rest[: header.data_bytes], header.normal_pages * PAGE
            rest = rest[header.data_bytes :]


def frame(window_log: int) -> bytes:
    """How a frame begins that wants so large a window."""
    return MAGIC + bytes([0, (window_log - 10) << 3])


def repeated(byte: bytes, count: int) -> bytes:
    """A block that stands for one byte, many times."""
    return (1 << 1 | count << 3).to_bytes(3, "little") + byte


def test_channel_that_a_qemu_wrote_decompresses_to_its_pages() -> None:
    decompressor = create_compression().decompressor()
    pages = hashlib.sha256()
    for data, size in packets(lzma.decompress(GOLDEN.read_bytes())):
        room = bytearray(size)
        decompressor.decompress(data, [memoryview(room)])
        pages.update(room)
    assert pages.hexdigest() == "b765210de1f5f2a7d45b6ff1605d625743f2e05974bc51e8fa3db04f8813b715"


@pytest.mark.parametrize("level", [0, 1, 10, 20])
def test_packets_of_a_channel_are_one_frame_that_is_flushed_and_never_ended(level: int) -> None:
    compressor = create_compression().compressor(Parameters(multifd_zstd_level=level))
    pages = [bytes([number]) * PAGE for number in range(8)]
    data = [bytes(compressor.compress([page, page])) for page in pages]
    assert [one.startswith(MAGIC) for one in data] == [True, *[False] * 7]
    stream = zstandard.ZstdDecompressor().decompressobj()
    for one, page in zip(data, pages, strict=True):
        assert stream.decompress(one) == page * 2
    assert not stream.eof


def test_page_that_came_before_costs_next_to_nothing() -> None:
    compressor = create_compression().compressor(Parameters())
    page = hashlib.shake_128(b"page").digest(PAGE)
    first, second = (len(compressor.compress([page])) for _ in range(2))
    assert first > PAGE
    assert second < 200


def test_higher_level_compresses_more() -> None:
    text = b"".join(b"%d bottles of beer on the wall, " % number for number in range(10_000))
    sizes = [
        len(create_compression().compressor(Parameters(multifd_zstd_level=level)).compress([text]))
        for level in (1, 19)
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_window_of_the_highest_level_fits() -> None:
    compression = create_compression()
    compressor = compression.compressor(Parameters(multifd_zstd_level=20))
    decompressor = compression.decompressor()
    room = bytearray(PAGE)
    decompressor.decompress(compressor.compress([b"x" * PAGE]), [memoryview(room)])
    assert room == b"x" * PAGE


@pytest.mark.parametrize("page_size", [PAGE, PAGE - 1, 1])
def test_block_that_fills_many_targets_fills_them_all(page_size: int) -> None:
    room = bytearray(BLOCK_BYTES)
    view = memoryview(room)
    targets = [view[start : start + page_size] for start in range(0, BLOCK_BYTES, page_size)]
    decompressor = create_compression().decompressor()
    decompressor.decompress(frame(20) + repeated(b"x", BLOCK_BYTES), targets)
    assert room == b"x" * BLOCK_BYTES
    decompressor.decompress(repeated(b"y", BLOCK_BYTES), targets)
    assert room == b"y" * BLOCK_BYTES


@pytest.mark.parametrize("most", [PAGE, 4 * BLOCK_BYTES])
def test_bomb_of_gigabytes_is_refused_in_little_memory(most: int) -> None:
    bomb = frame(25) + repeated(b"\0", BLOCK_BYTES) * (16 * GIB // BLOCK_BYTES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"more than {most} bytes"):
        create_compression().decompressor().decompress(bomb, [memoryview(bytearray(most))])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * KIB


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(26) + repeated(b"\0", PAGE), "too much memory"),
        (frame(20) + repeated(b"\0", PAGE + 1), f"more than {PAGE} bytes"),
        (frame(20) + repeated(b"\0", PAGE - 1), f"less than {PAGE} bytes"),
        (frame(20) + repeated(b"\0", PAGE) * 2, f"more than {PAGE} bytes"),
        (frame(20) + (3 << 1).to_bytes(3, "little"), "zstd decompress error"),
        (b"no frame of zstd", "Unknown frame descriptor"),
        (MAGIC, f"less than {PAGE} bytes"),
        (b"", f"less than {PAGE} bytes"),
    ],
)
def test_data_that_are_no_part_of_such_a_frame_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        create_compression().decompressor().decompress(data, [memoryview(bytearray(PAGE))])
