"""What of the disks goes into the stream, and when."""

from __future__ import annotations

import pytest
from block_helpers import EOS, DiskGuest, block_settings, chunk, load, whole_copy, word

from transship.abc import Capability, Settings
from transship.errors import BlockedError, LocalError
from transship.testing.carrying import collect
from transship.wire.limits import KIB, MIB
from transship_block._block import BlockSection

SIZE = 3 * MIB + 512 * KIB


def content(size: int = SIZE) -> bytes:
    """Of which every chunk differs."""
    return b"".join(bytes([number + 1]) * MIB for number in range(-(-size // MIB)))[:size]


def progress(percent: int) -> bytes:
    return word(percent, 0x4)


def arrived(bodies: list[bytes], sizes: dict[str, int]) -> dict[str, bytes]:
    """What a destination makes of records."""
    guest = DiskGuest({name: b"\7" * size for name, size in sizes.items()}, is_active=False)
    load(BlockSection(guest, block_settings()), *bodies)
    assert guest.has_whole_fences()
    return guest.contents()


def test_first_copy_is_progress_and_then_chunks_as_qemu_has_them() -> None:
    whole = content()
    section = BlockSection(DiskGuest({"disk0": whole}), block_settings())
    start, part, end = whole_copy(section)
    padded = whole.ljust(4 * MIB, b"\0")
    chunks = [
        chunk("disk0", number, padded[number * MIB : (number + 1) * MIB]) for number in range(4)
    ]
    assert start == EOS
    assert part == b"".join(map(progress, (0, 28, 57, 85))) + b"".join(chunks) + EOS
    assert end == progress(100) + EOS


def test_zero_chunks_go_as_a_mark_only_with_zero_blocks() -> None:
    whole = bytearray(content())
    whole[MIB : 2 * MIB] = bytes(MIB)
    marked = BlockSection(DiskGuest({"d": bytes(whole)}), block_settings(Capability.ZERO_BLOCKS))
    _, part, _ = whole_copy(marked)
    assert chunk("d", 1, None) in part
    assert (marked.statistics()["chunks"], marked.statistics()["zero_chunks"]) == (3, 1)

    full = BlockSection(DiskGuest({"d": bytes(whole)}), block_settings())
    _, part, _ = whole_copy(full)
    assert chunk("d", 1, bytes(MIB)) in part
    assert (full.statistics()["chunks"], full.statistics()["zero_chunks"]) == (4, 0)


@pytest.mark.parametrize("capabilities", [(), (Capability.ZERO_BLOCKS,)])
def test_holes_are_not_read(capabilities: tuple[Capability, ...]) -> None:
    guest = DiskGuest({"d": content(MIB) + bytes(2 * MIB)})
    device = guest.devices_of["d"]
    device.holes = {1, 2}
    bodies = whole_copy(BlockSection(guest, block_settings(*capabilities)))
    assert device.reads == 1
    assert arrived(bodies, {"d": 3 * MIB})["d"] == device.content


def test_incremental_copy_leaves_out_what_only_the_base_has() -> None:
    guest = DiskGuest({"d": content(4 * MIB)})
    guest.devices_of["d"].unallocated = {0, 2}
    section = BlockSection(guest, block_settings(is_incremental=True))
    bodies = whole_copy(section)
    after = arrived(bodies, {"d": 4 * MIB})["d"]
    base = b"\7" * MIB
    assert after == base + b"\2" * MIB + base + b"\4" * MIB
    assert section.statistics()["skipped_chunks"] == 2


def test_incremental_copy_sends_what_is_written_to_the_base_meanwhile() -> None:
    guest = DiskGuest({"d": content(30 * MIB)})
    guest.devices_of["d"].unallocated = set(range(30))
    guest.devices_of["d"].unallocated.remove(0)
    section = BlockSection(guest, block_settings(is_incremental=True))

    def write(number: int) -> None:
        if not number:
            guest.disks()[0].write(29 * MIB + 5, b"new")

    after = arrived(whole_copy(section, 1, write), {"d": 30 * MIB})["d"]
    assert after[29 * MIB :] == guest.contents()["d"][29 * MIB :]
    assert after[MIB : 29 * MIB] == b"\7" * (28 * MIB)


@pytest.mark.parametrize("zero_blocks", [False, True])
def test_what_is_written_meanwhile_arrives_wherever_the_copy_is(zero_blocks: bool) -> None:
    capabilities = (Capability.ZERO_BLOCKS,) if zero_blocks else ()
    guest = DiskGuest({"a": content(20 * MIB), "b": bytes(20 * MIB)})
    guest.devices_of["b"].holes = set(range(20))
    a, b = guest.disks()

    def write(number: int) -> None:
        """Behind the copy, at it, and ahead of it, then nothing more."""
        guest.devices_of["b"].holes = set()
        if number < 30:
            a.write((7 * number) % 20 * MIB + number, b"%d" % number)
            b.write((3 * number) % 20 * MIB + MIB - 512, b"x" * 512)
            b.write_zeroes((5 * number) % 20 * MIB, MIB)

    section = BlockSection(guest, block_settings(*capabilities))
    bodies = whole_copy(section, MIB, write)
    assert arrived(bodies, {"a": 20 * MIB, "b": 20 * MIB}) == guest.contents()


def test_write_ahead_of_the_copy_is_not_sent_twice() -> None:
    guest = DiskGuest({"d": content(40 * MIB)})
    section = BlockSection(guest, block_settings())

    def write(number: int) -> None:
        if number < 3:
            guest.disks()[0].write(39 * MIB, b"new")

    whole_copy(section, MIB, write)
    assert section.statistics()["chunks"] == 40


def test_completion_waits_for_the_first_copy() -> None:
    section = BlockSection(DiskGuest({"d": content(20 * MIB)}), block_settings())
    collect(section.begin())
    assert section.pending(False).must_go_on
    collect(section.iterate(1))
    assert section.pending(True).must_go_on
    assert section.pending(True).must_precopy == 19 * MIB
    collect(section.iterate(1 << 30))
    assert not section.pending(False).must_go_on
    assert section.pending(False).must_precopy == 0
    assert section.statistics()["transferred"] == 20 * MIB


def test_part_keeps_its_budget_to_a_chunk() -> None:
    section = BlockSection(DiskGuest({"d": content(20 * MIB)}), block_settings())
    collect(section.begin())
    for _ in range(3):
        assert len(collect(section.iterate(3 * MIB)).body) < 4 * MIB


def test_end_leaves_no_log_behind() -> None:
    for finish in ("complete", "cancel"):
        guest = DiskGuest({"d": content(2 * MIB)})
        section = BlockSection(guest, block_settings())
        collect(section.begin())
        collect(section.iterate(1))
        collect(section.complete()) if finish == "complete" else section.cancel()
        guest.disks()[0].write(0, b"still writable")
        assert guest.contents()["d"].startswith(b"still writable")
        assert not guest.disks()[0]._logs


def test_disk_that_cannot_be_read_is_named() -> None:
    guest = DiskGuest({"broken": content(2 * MIB)})
    guest.devices_of["broken"].refuses_reads = True
    section = BlockSection(guest, block_settings())
    collect(section.begin())
    with pytest.raises(LocalError, match=r"'broken' cannot be read.*Input/output error"):
        collect(section.iterate(1))
    section.cancel()


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 128])
def test_name_that_does_not_fit_the_stream_is_refused(name: str) -> None:
    section = BlockSection(DiskGuest({name: b"1"}), block_settings())
    with pytest.raises(BlockedError, match="does not fit"):
        collect(section.begin())


def test_section_is_needed_only_where_disks_are_to_be_copied() -> None:
    guest = DiskGuest({"d": b"1"})
    assert BlockSection(guest, block_settings()).is_needed()
    assert not BlockSection(guest, Settings()).is_needed()


def test_empty_and_tiny_disks_arrive() -> None:
    guest = DiskGuest({"empty": b"", "tiny": b"abc"})
    bodies = whole_copy(BlockSection(guest, block_settings()))
    assert arrived(bodies, {"empty": 0, "tiny": 3}) == {"empty": b"", "tiny": b"abc"}


def test_no_more_than_sixteen_chunks_are_read_ahead() -> None:
    guest = DiskGuest({"d": content(40 * MIB)})
    section = BlockSection(guest, block_settings())
    collect(section.begin())
    collect(section.iterate(1))
    section.cancel()
    assert guest.devices_of["d"].reads <= 16
