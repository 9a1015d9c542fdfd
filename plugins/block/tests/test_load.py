"""What comes of disks: where it goes, and what is refused."""

from __future__ import annotations

import threading

import pytest
from block_helpers import EOS, DiskGuest, block_settings, chunk, load, named, word

from transship.errors import LocalError, StreamError
from transship.wire.limits import KIB, MIB
from transship_block._block import BlockSection

SIZE = MIB + 300 * KIB
BEFORE = b"\7"


def destination(size: int = SIZE) -> DiskGuest:
    return DiskGuest({"disk0": BEFORE * size}, is_active=False)


def data(value: int) -> bytes:
    return bytes([value]) * MIB


def section_of(guest: DiskGuest) -> BlockSection:
    return BlockSection(guest, block_settings())


@pytest.mark.parametrize("step", [1 << 20, 4099])
def test_chunks_land_where_they_belong_in_any_order(step: int) -> None:
    guest = destination()
    body = chunk("disk0", 1, data(2)) + word(50, 4) + chunk("disk0", 0, data(1)) + EOS
    load(section_of(guest), EOS, body, word(100, 4) + EOS, step=step)
    assert guest.contents()["disk0"] == data(1) + data(2)[: 300 * KIB]
    assert guest.has_whole_fences()


def test_of_a_chunk_that_comes_again_the_last_one_stays() -> None:
    guest = destination()
    body = b"".join(chunk("disk0", 0, data(value)) for value in range(1, 40))
    body += chunk("disk0", 1, None) + chunk("disk0", 1, data(9)) + chunk("disk0", 1, None)
    load(section_of(guest), EOS, body + EOS)
    assert guest.contents()["disk0"] == data(39) + bytes(300 * KIB)


def test_disk_is_flushed_before_the_end_counts_as_loaded() -> None:
    guest = destination()
    load(section_of(guest), EOS, chunk("disk0", 0, data(1)) + EOS, word(100, 4) + EOS)
    assert guest.devices_of["disk0"].flushes == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (chunk("disk0", 2, data(1)), "beyond the end of disk 'disk0'.*sector below"),
        (chunk("disk0", 2, None), "beyond the end"),
        (chunk("disk0", (1 << 43) - 1, data(1)), "beyond the end"),
        (word(2047, 0x1) + named("disk0") + data(1), "does not lie where chunks lie"),
        (chunk("disk9", 0, data(1)), "has a disk 'disk9' that this machine lacks.*'disk0'"),
        (chunk("", 0, data(1)), "has a disk ''"),
        (word(0, 0x10) + named("disk0"), "unknown meaning"),
        (word(0, 0x8), "unknown meaning"),
        (word(0, 0x3), "unknown meaning"),
        (word(101, 0x4), "unknown meaning"),
        (chunk("disk0", 0, data(1)[:-1]), "ends early"),
        (word(0, 0x1) + b"\x02\xff\xfe" + data(1), "not text"),
    ],
)
def test_hostile_chunk_is_refused_and_nothing_but_what_came_before_may_be_there(
    body: bytes, reason: str
) -> None:
    guest = destination()
    with pytest.raises(StreamError, match=reason):
        load(section_of(guest), EOS, chunk("disk0", 1, data(3)) + body)
    for disk in guest.disks():
        disk.inactivate()  # waits for what was being written
    written = BEFORE * MIB + data(3)[: 300 * KIB]
    assert guest.contents()["disk0"] in (written, BEFORE * (MIB + 300 * KIB))
    assert guest.has_whole_fences()


def test_disk_that_is_full_is_named() -> None:
    guest = destination()
    guest.devices_of["disk0"].refuses_writes = True
    with pytest.raises(LocalError, match=r"'disk0' cannot be written.*No space left"):
        load(section_of(guest), EOS, chunk("disk0", 0, data(1)) + EOS)


def test_disk_that_the_guest_writes_to_is_not_loaded() -> None:
    guest = DiskGuest({"disk0": BEFORE * SIZE})
    with pytest.raises(LocalError, match="is the guest's"):
        load(section_of(guest), EOS, chunk("disk0", 0, data(1)) + EOS)


def test_nothing_is_written_any_more_when_the_disk_of_a_closed_parser_is_given_up() -> None:
    guest = destination()
    body = b"".join(chunk("disk0", number % 2, data(number)) for number in range(1, 30))
    with pytest.raises(StreamError):
        load(section_of(guest), EOS, body)
    for disk in guest.disks():
        disk.inactivate()
    before = guest.contents()
    for thread in threading.enumerate():
        if "transship-disk" in thread.name:
            thread.join(10)
            assert not thread.is_alive()
    assert guest.contents() == before
