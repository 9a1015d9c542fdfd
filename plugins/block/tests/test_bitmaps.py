"""Dirty bitmaps: the bytes, what they are called, and what cannot be taken."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from block_helpers import DiskGuest, load, named

from transship.abc import BitmapAlias, Capability, DiskBitmap, NodeAlias, Parameters, Settings
from transship.errors import BlockedError, StreamError
from transship.testing.carrying import collect
from transship.wire.limits import KIB, MIB
from transship_block._bitmaps import BitmapSection

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 3 * MIB + 512 * KIB
EOS = b"\x01"


def guest_with(*bitmaps: tuple[str, int], size: int = SIZE, name: str = "disk0") -> DiskGuest:
    guest = DiskGuest({name: bytes(size)})
    for bitmap, granularity in bitmaps:
        guest.disks()[0].add_bitmap(DiskBitmap(bitmap, size, granularity))
    return guest


def destination(size: int = SIZE, name: str = "disk0") -> DiskGuest:
    return DiskGuest({name: bytes(size)}, is_active=False)


def section_of(guest: DiskGuest, mapping: Sequence[NodeAlias] | None = None) -> BitmapSection:
    parameters = Parameters(block_bitmap_mapping=None if mapping is None else tuple(mapping))
    return BitmapSection(guest, Settings(frozenset({Capability.DIRTY_BITMAPS}), parameters))


def saved(guest: DiskGuest, mapping: Sequence[NodeAlias] | None = None) -> list[bytes]:
    section = section_of(guest, mapping)
    bodies = (section.begin(), section.iterate(), section.complete())
    return [collect(body).body for body in bodies]


def loaded(
    bodies: list[bytes], guest: DiskGuest, mapping: Sequence[NodeAlias] | None = None
) -> dict[str, DiskBitmap]:
    load(section_of(guest, mapping), *bodies)
    return guest.disks()[0].bitmaps


def test_stream_is_that_of_the_reference() -> None:
    guest = guest_with(("bm1", 4 * KIB), ("bm0", 64 * KIB))
    guest.disks()[0].write(64 * KIB, bytes(512))
    guest.disks()[0].write(MIB, bytes(128 * KIB))
    start, part, end = saved(guest)
    fine = bytearray(128)
    fine[2], fine[32:36] = 1, b"\xff" * 4
    coarse = bytes.fromhex("02000300").ljust(32, b"\0")
    whole_disk = bytes.fromhex("0000000000000000 00001c00")
    assert start == bytes.fromhex(
        "1c 05 6469736b30 03 626d31 00001000 01  14 03 626d30 00010000 01  01"
    )
    assert part == EOS
    assert end == (
        b"\x44\x03bm1" + whole_disk + (128).to_bytes(8, "big") + bytes(fine)
        + b"\x44\x03bm0" + whole_disk + (32).to_bytes(8, "big") + coarse
        + b"\x24\x03bm1\x24\x03bm0" + EOS
    )  # fmt: skip


@pytest.mark.parametrize("size", [512, SIZE, 40 * MIB + 3 * 512])
def test_bitmaps_arrive_as_they_were(size: int) -> None:
    chance = random.Random(size)
    guest = guest_with(("fine", 512), ("coarse", 64 * KIB), ("huge", 1 << 30), size=size)
    disk = guest.disks()[0]
    disk.bitmaps["coarse"].is_enabled = False
    disk.bitmaps["fine"].is_persistent = True
    for _ in range(200):
        disk.mark(chance.randrange(size), 512)
    bitmaps = loaded(saved(guest), destination(size))
    assert list(bitmaps) == ["fine", "coarse", "huge"]
    for name, bitmap in disk.bitmaps.items():
        there = bitmaps[name]
        assert there.bits.marks == bitmap.bits.marks
        assert there.granularity_bytes == bitmap.granularity_bytes
        assert there.is_enabled == bitmap.is_enabled
        assert there.is_persistent == bitmap.is_persistent
    assert not disk.bitmaps["coarse"].bits.count()
    assert bitmaps["fine"].bits.count()


def test_bitmap_goes_on_recording_where_it_arrives() -> None:
    guest = destination()
    bitmaps = loaded(saved(guest_with(("bm", 64 * KIB))), guest)
    guest.disks()[0].activate()
    guest.disks()[0].write(0, b"written here")
    assert bitmaps["bm"].bits.count() == 1


def test_mapping_renames_and_leaves_out_what_it_does_not_name() -> None:
    source = guest_with(("bm", 4 * KIB), ("other", 4 * KIB))
    source.disks()[0].mark(0, 1)
    outwards = [NodeAlias("disk0", "n", (BitmapAlias("bm", "b", is_persistent=True),))]
    bodies = saved(source, outwards)
    assert bodies[0].startswith(b"\x1c\x01n\x01b")
    assert b"other" not in b"".join(bodies)
    inwards = [NodeAlias("hda", "n", (BitmapAlias("backup", "b"),))]
    bitmaps = loaded(bodies, destination(name="hda"), inwards)
    assert list(bitmaps) == ["backup"]
    assert bitmaps["backup"].is_persistent
    assert bitmaps["backup"].bits.count() == 1


@pytest.mark.parametrize(
    ("guest", "mapping", "reason"),
    [
        (destination(name="hda"), None, "there is no disk 'disk0' here"),
        (destination(), [], "no alias 'disk0'"),
        (destination(), [NodeAlias("disk0", "disk0")], "no alias 'bm' of 'disk0'"),
        (
            destination(),
            [NodeAlias("gone", "disk0", (BitmapAlias("bm", "bm"),))],
            "no disk with the node name 'gone'",
        ),
        (destination(size=SIZE // 2), None, "not those of disk 'disk0'"),
        (guest_with(("bm", 512)), None, "has a bitmap 'bm' already"),
    ],
)
def test_bitmap_that_cannot_be_taken_is_dropped_and_the_rest_is_read(
    guest: DiskGuest,
    mapping: list[NodeAlias] | None,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = set(guest.disks()[0].bitmaps)
    source = guest_with(("bm", 4 * KIB))
    source.disks()[0].mark(0, 1)
    bitmaps = loaded(saved(source), guest, mapping)
    assert set(bitmaps) == before
    assert reason in caplog.text


def test_bitmap_without_its_end_is_not_there() -> None:
    start, part, end = saved(guest_with(("bm", 4 * KIB)))
    guest = destination()
    assert loaded([start, part, end[: -len(b"\x20\x01")] + EOS], guest) == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x1c" + named("disk0") + named("b") + bytes.fromhex("00001001 01"), "granularity"),
        (b"\x1c" + named("disk0") + named("b") + bytes.fromhex("00001000 08"), "traits"),
        (b"\x4c" + named("disk0") + named("b") + bytes(20), "not announced"),
        (b"\x10" + bytes(5), "without a name"),
    ],
)
def test_stream_that_nobody_sends_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(StreamError, match=reason):
        load(section_of(destination()), body + EOS)


def test_section_is_needed_only_where_there_is_a_bitmap_to_send() -> None:
    guest = guest_with(("bm", 4 * KIB))
    assert section_of(guest).is_needed()
    assert not section_of(guest, []).is_needed()
    assert not section_of(guest_with()).is_needed()
    assert not BitmapSection(guest, Settings()).is_needed()


def test_name_that_does_not_fit_the_stream_is_refused() -> None:
    with pytest.raises(BlockedError, match="does not fit"):
        saved(guest_with(("x" * 256, 512)))


def test_mapping_in_which_a_name_is_twice_is_refused() -> None:
    twice = NodeAlias("disk0", "n", (BitmapAlias("a", "x"), BitmapAlias("b", "x")))
    with pytest.raises(ValueError, match="bitmap alias 'x' is there twice"):
        Parameters(block_bitmap_mapping=(twice,))
