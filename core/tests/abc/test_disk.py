"""A disk: who may write to it, and what is remembered of writes."""

from __future__ import annotations

import threading

import pytest
import trio

from transship.abc import Disk, DiskBitmap, DiskState, Extent
from transship.errors import LocalError
from transship.testing.memory_device import HeldDevice, Medium, MemoryDevice

SIZE = 10_000
GRANULE = 1024


def active_disk(*bitmaps: DiskBitmap) -> Disk:
    disk = Disk("disk0", MemoryDevice(SIZE), bitmaps=bitmaps)
    disk.activate()
    return disk


def test_guest_writes_only_to_an_active_disk() -> None:
    disk = Disk("disk0", MemoryDevice(SIZE))
    with pytest.raises(LocalError, match="'disk0' is not active here"):
        disk.write(0, b"x")
    disk.activate()
    disk.write(0, b"x")
    disk.inactivate()
    with pytest.raises(LocalError, match="not active"):
        disk.write_zeroes(0, 1)
    assert bytes(disk.device.medium.data[:1]) == b"x"  # type: ignore[attr-defined]


def test_disk_that_is_given_up_is_flushed_first() -> None:
    device = MemoryDevice(SIZE)
    disk = Disk("disk0", device)
    disk.activate()
    disk.activate()
    disk.write(5, b"x")
    disk.inactivate()
    disk.inactivate()
    assert device.calls == ["acquire", "write", "release", "flush"]


def test_disk_that_cannot_be_flushed_stays_active() -> None:
    device = MemoryDevice(SIZE)
    disk = Disk("disk0", device)
    disk.activate()
    device.failing.add("flush")
    with pytest.raises(LocalError, match=r"could not be flushed.*Input/output error"):
        disk.inactivate()
    assert disk.is_active
    device.failing.clear()
    disk.write(0, b"x")


def test_two_disks_of_one_medium_are_never_both_active() -> None:
    medium = Medium(SIZE)
    ours, theirs = Disk("disk0", MemoryDevice(medium)), Disk("disk0", MemoryDevice(medium))
    ours.activate()
    with pytest.raises(LocalError, match="belongs to somebody else"):
        theirs.activate()
    with pytest.raises(LocalError, match="belongs to somebody else"):
        theirs.start_load().write(0, b"x")
    assert not theirs.is_active
    ours.inactivate()
    theirs.activate()
    assert theirs.is_active


def test_failure_to_acquire_names_the_disk() -> None:
    device = MemoryDevice(SIZE)
    device.failing.add("acquire")
    with pytest.raises(LocalError, match=r"'disk0' cannot be had.*Input/output error"):
        Disk("disk0", device).activate()


def test_loading_owns_the_device_without_letting_the_guest_write() -> None:
    device = MemoryDevice(SIZE)
    disk = Disk("disk0", device)
    load = disk.start_load()
    load.write(3, b"abc")
    load.write_zeroes(4, 1)
    assert device.is_acquired
    assert disk.state is DiskState.LOADING
    assert bytes(device.medium.data[3:6]) == b"a\0c"
    with pytest.raises(LocalError, match="not active"):
        disk.write(0, b"x")
    disk.inactivate()
    with pytest.raises(LocalError, match="nothing can be loaded to disk 'disk0' any more"):
        load.write(0, b"x")
    assert device.calls[-2:] == ["release", "flush"]


def test_disk_is_loaded_by_one_at_a_time() -> None:
    disk = Disk("disk0", MemoryDevice(SIZE))
    load = disk.start_load()
    with pytest.raises(LocalError, match="is being loaded already"):
        disk.start_load()
    load.end()
    load.end()
    disk.start_load().write(0, b"x")
    with pytest.raises(LocalError, match="any more"):
        load.write(0, b"x")


def test_right_to_load_does_not_come_back_when_the_guest_leaves() -> None:
    device = MemoryDevice(SIZE)
    disk = Disk("disk0", device)
    load = disk.start_load()
    disk.activate()
    disk.inactivate()
    with pytest.raises(LocalError, match="any more"):
        load.write_zeroes(0, 1)
    assert device.calls == ["acquire", "release", "flush"]


def test_quiesced_disk_is_still_had_and_takes_no_writes() -> None:
    device = MemoryDevice(SIZE)
    disk = Disk("disk0", device)
    disk.quiesce()
    states = [disk.state]
    disk.activate()
    disk.quiesce()
    assert [*states, disk.state] == [DiskState.INACTIVE, DiskState.QUIESCED]
    assert device.is_acquired
    with pytest.raises(LocalError, match="not active"):
        disk.write(0, b"x")
    with pytest.raises(LocalError, match="is the guest's"):
        disk.start_load()
    disk.activate()
    disk.write(0, b"x")
    disk.quiesce()
    disk.inactivate()
    assert not device.is_acquired


def test_quiescing_waits_for_a_write_that_has_begun() -> None:
    device = HeldDevice(SIZE)
    disk = Disk("disk0", device)
    disk.activate()
    log = disk.start_log(GRANULE)
    writing = threading.Thread(target=disk.write, args=(0, b"x"))
    quiescing = threading.Thread(target=disk.quiesce)
    writing.start()
    assert device.has_begun.wait(10)
    quiescing.start()
    quiescing.join(0.1)
    assert quiescing.is_alive()
    device.may_go_on.set()
    quiescing.join()
    assert log.count_dirty() == 1
    writing.join()


def test_write_whose_follower_fails_is_over_all_the_same() -> None:
    disk = active_disk()

    def fail(offset: int, length: int) -> None:
        raise RuntimeError("the follower is broken")

    disk.start_log(GRANULE).follow_with(fail)
    with pytest.raises(RuntimeError):
        disk.write(0, b"x")
    disk.inactivate()


def test_nothing_is_loaded_to_a_disk_that_the_guest_has() -> None:
    with pytest.raises(LocalError, match="is the guest's"):
        active_disk().start_load().write(0, b"x")


def test_log_gives_each_write_once() -> None:
    disk = active_disk()
    disk.write(0, b"before")
    log = disk.start_log(GRANULE)
    disk.write(GRANULE - 1, b"ab")
    disk.write(SIZE - 1, b"z")
    assert log.count_dirty() == 3
    assert [(run.first, run.count) for run in log.take().runs()] == [(0, 2), (9, 1)]
    assert log.take().is_clean
    disk.discard(5000, 1)
    disk.mark(6000, 1)
    assert [run.first for run in log.take().runs(1)] == [4, 5]
    log.stop()
    log.stop()
    disk.write(0, b"after")
    assert log.take().is_clean


def test_logs_do_not_take_from_each_other() -> None:
    disk = active_disk()
    coarse, fine = disk.start_log(4096), disk.start_log(512)
    disk.write(4096, b"x")
    assert coarse.take().count() == 1
    coarse.stop()
    disk.write(0, b"x")
    assert [run.first for run in fine.take().runs()] == [0, 8]


def test_write_is_logged_when_the_device_failed_half_way() -> None:
    device = MemoryDevice(SIZE)
    disk = Disk("disk0", device)
    disk.activate()
    log = disk.start_log(GRANULE)
    device.failing.add("write")
    with pytest.raises(OSError, match="Input/output"):
        disk.write(0, b"x")
    assert log.count_dirty() == 1


def test_write_beyond_the_end_is_refused_and_leaves_the_logs_in_order() -> None:
    disk = active_disk()
    log = disk.start_log(GRANULE)
    with pytest.raises(ValueError, match="not within"):
        disk.write(SIZE + GRANULE, b"x")
    assert log.take().is_clean


def test_bitmaps_record_what_is_written_while_they_are_enabled() -> None:
    kept = DiskBitmap("kept", SIZE, 4096, is_enabled=False)
    disk = active_disk(kept)
    disk.add_bitmap(DiskBitmap("backup", SIZE, 4096, is_persistent=True))
    disk.write(8192, b"x")
    assert list(disk.bitmaps) == ["kept", "backup"]
    assert disk.bitmaps["backup"].bits.is_dirty(2)
    assert kept.bits.is_clean
    with pytest.raises(LocalError, match="already has a bitmap 'backup'"):
        disk.add_bitmap(DiskBitmap("backup", SIZE, 4096))
    disk.remove_bitmap("backup")
    disk.remove_bitmap("backup")
    assert list(disk.bitmaps) == ["kept"]


def test_giving_up_waits_for_writes_that_have_begun() -> None:
    device = HeldDevice(SIZE)
    disk = Disk("disk0", device)
    disk.activate()
    log = disk.start_log(GRANULE)
    writing = threading.Thread(target=disk.write, args=(0, b"x"))
    writing.start()
    assert device.has_begun.wait(10)
    giving_up = threading.Thread(target=disk.inactivate)
    giving_up.start()
    while disk.is_active:
        pass
    with pytest.raises(LocalError, match="not active"):
        disk.write(1, b"y")
    assert device.is_acquired
    device.may_go_on.set()
    writing.join()
    giving_up.join()
    assert device.calls == ["acquire", "write", "release", "flush"]
    assert log.count_dirty() == 1


async def test_tasks_read_and_store_off_the_loop() -> None:
    threads = set()

    class Watched(MemoryDevice):
        def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
            threads.add(threading.get_ident())
            super().write(offset, data)

    disk = Disk("disk0", Watched(SIZE))
    disk.activate()
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(disk.store, number, bytes([number]))
    assert await disk.read(0, 10) == bytes(range(10))
    assert threading.get_ident() not in threads


def test_zeroes_are_written_where_a_device_knows_nothing_better() -> None:
    device = MemoryDevice(SIZE)
    device.acquire()
    device.write(0, b"x" * SIZE)
    device.write_zeroes(1, SIZE - 2)
    assert bytes(device.medium.data) == b"x" + bytes(SIZE - 2) + b"x"
    assert list(device.extents(5, 10)) == [Extent(5, 10)]
    assert list(device.extents(5, 0)) == []


def test_disk_waits_for_what_is_being_loaded_before_the_guest_has_it() -> None:
    device = HeldDevice(SIZE)
    disk = Disk("disk0", device)
    loading = threading.Thread(target=disk.start_load().write, args=(0, b"x"))
    activating = threading.Thread(target=disk.activate)
    loading.start()
    assert device.has_begun.wait(10)
    activating.start()
    activating.join(0.1)
    was_active = disk.is_active
    device.may_go_on.set()
    loading.join()
    activating.join()
    assert (was_active, disk.is_active) == (False, True)
    assert device.calls == ["acquire", "write"]


def test_loading_ends_with_a_flush_and_not_once_the_guest_has_the_disk() -> None:
    device = MemoryDevice(SIZE)
    disk = Disk("disk0", device)
    load = disk.start_load()
    load.write(0, b"x")
    load.end()
    assert device.calls == ["acquire", "write", "release", "flush"]
    assert disk.state is DiskState.INACTIVE
    load = disk.start_load()
    disk.activate()
    load.end()
    assert device.is_acquired


def test_loading_that_cannot_be_flushed_has_not_ended() -> None:
    device = MemoryDevice(SIZE)
    load = Disk("disk0", device).start_load()
    device.failing = {"flush"}
    with pytest.raises(LocalError, match="could not be flushed"):
        load.end()
    device.failing.clear()
    load.write(0, b"x")
    load.end()
    assert not device.is_acquired


def test_followed_write_is_told_and_not_noted() -> None:
    disk = active_disk()
    log, other = disk.start_log(GRANULE), disk.start_log(GRANULE)
    told: list[tuple[int, int]] = []
    log.follow_with(lambda offset, length: told.append((offset, length)))
    disk.write(10, b"abc")
    assert told == [(10, 3)]
    assert (log.count_dirty(), other.count_dirty()) == (0, 1)
    log.follow_with(None)
    disk.write(10, b"abc")
    assert told == [(10, 3)]
    assert log.count_dirty() == 1
