"""What goes over a channel is one deflate stream, as in QEMU; and what only that can do wrong."""

from __future__ import annotations

import hashlib
import lzma
import resource
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from transship.abc import Parameters
from transship.wire.multifd import (
    HEADER_BYTES,
    INITIAL_BYTES,
    packet_bytes,
    parse_packet_header,
)
from transship_zlib.plugin import create_compression

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN: Final = Path(__file__).parent / "golden" / "qemu-10.0-channel.bin.xz"
PAGE: Final = 4096
MIB: Final = 1 << 20
SYNC_FLUSH: Final = b"\0\0\xff\xff"


def packets(channel: bytes) -> Iterator[tuple[bytes, int]]:
    """The data of each packet of a recorded channel, and how many bytes they stand for."""
    rest = channel[INITIAL_BYTES:]
    while rest:
        header = parse_packet_header(rest[:HEADER_BYTES])
        rest = rest[packet_bytes(PAGE) :]
        if header.normal_pages:
            yield rest[: header.data_bytes], header.normal_pages * PAGE
            rest = rest[header.data_bytes :]


def test_channel_that_a_qemu_wrote_decompresses_to_its_pages() -> None:
    decompressor = create_compression().decompressor()
    pages = hashlib.sha256()
    for data, size in packets(lzma.decompress(GOLDEN.read_bytes())):
        room = bytearray(size)
        decompressor.decompress(data, [memoryview(room)])
        pages.update(room)
    assert pages.hexdigest() == "de8b0dd53a41659b7dbb3c627d86925c22900ee6837c7316ae8292c881c8034b"


@pytest.mark.parametrize("level", range(10))
def test_packets_of_a_channel_are_one_stream_that_is_flushed_and_never_ended(level: int) -> None:
    compressor = create_compression().compressor(Parameters(multifd_zlib_level=level))
    pages = [bytes([number]) * PAGE for number in range(8)]
    data = [bytes(compressor.compress([page, page])) for page in pages]
    assert all(one.endswith(SYNC_FLUSH) for one in data)
    assert [one.startswith(b"\x78") for one in data] == [True, *[False] * 7]
    stream = zlib.decompressobj()
    assert stream.decompress(b"".join(data)) == b"".join(page * 2 for page in pages)
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
        len(create_compression().compressor(Parameters(multifd_zlib_level=level)).compress([text]))
        for level in (0, 1, 9)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > len(text)


def test_bomb_of_gigabytes_is_refused_in_little_memory() -> None:
    stream = zlib.compressobj()
    start = stream.compress(bytes(16 * MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    more = stream.compress(bytes(16 * MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    bomb = start + more * 256
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target = memoryview(bytearray(PAGE))
    with pytest.raises(ValueError, match=f"more than {PAGE} bytes"):
        create_compression().decompressor().decompress(bomb, [target])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zlib.compress(bytes(PAGE)), "the stream of the channel ends"),
        (zlib.compress(bytes(PAGE)) + b"rest", "the stream of the channel ends"),
        (b"no stream of deflate", "incorrect header check"),
        (b"\x78\xbb\0\0\0\1", "Error 2"),  # it asks for a dictionary
        (b"", f"less than {PAGE} bytes"),
    ],
)
def test_data_that_are_no_part_of_such_a_stream_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        create_compression().decompressor().decompress(data, [memoryview(bytearray(PAGE))])
