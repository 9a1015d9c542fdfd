"""A disk is copied while its guest writes: the copy is the disk, and the guest notices nothing."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import BlockDevice, Disk, Extent
from transship.errors import BlockedError, LocalError, MigrationError
from transship.hosting.storage.mirror import GRANULE_BYTES, Mirror
from transship.testing.memory_device import HeldDevice, MemoryDevice

if TYPE_CHECKING:
    from collections.abc import Iterator


SIZE = 80 * GRANULE_BYTES + 512
PATIENCE_S = 10.0


class Sparse(MemoryDevice):
    """Says which granules are zero, and which are its own."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.from_base: set[int] = set()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        for start in range(offset, offset + length, GRANULE_BYTES):
            end = min(start + GRANULE_BYTES, offset + length)
            is_zero = not any(self.medium.data[start:end])
            is_own = start // GRANULE_BYTES not in self.from_base
            yield Extent(start, end - start, is_own, is_zero)


def filled(device: MemoryDevice) -> Disk:
    device.medium.data[:] = random.Random(7).randbytes(device.size_bytes)
    disk = Disk("disk0", device)
    disk.activate()
    return disk


def contents(device: BlockDevice) -> bytes:
    data = bytearray(device.size_bytes)
    device.read_into(0, memoryview(data))
    return bytes(data)


async def ready(mirror: Mirror) -> None:
    with trio.fail_after(PATIENCE_S):
        while not mirror.is_ready:  # noqa: ASYNC110 - a mirror tells nobody
            await trio.sleep(0.005)


@contextmanager
def writing(disk: Disk) -> Iterator[None]:
    """A guest that writes all over its disk, from another thread."""
    over = threading.Event()

    def write() -> None:
        numbers = random.Random(11)
        while not over.is_set():
            place = numbers.randrange(0, disk.size_bytes - 512)
            disk.write(place, numbers.randbytes(512))
            over.wait(0.0005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("follows_writes", [False, True])
async def test_copy_is_the_disk_although_the_guest_writes(follows_writes: bool) -> None:
    disk, target = filled(MemoryDevice(SIZE)), MemoryDevice(SIZE)
    mirror = Mirror(disk, target, follows_writes=follows_writes)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            with writing(disk):
                nursery.start_soon(mirror.run)
                await ready(mirror)
                await trio.sleep(0.1)
            mirror.finish()
    assert contents(target) == contents(disk.device)
    assert mirror.remaining_bytes == 0
    assert mirror.copied_bytes >= SIZE
    assert target.calls[0] == "acquire"
    assert target.calls[-2:] == ["release", "flush"]


async def test_copy_comes_to_an_end_while_the_guest_writes_on() -> None:
    disk, target = filled(MemoryDevice(SIZE)), MemoryDevice(SIZE)
    mirror = Mirror(disk, target)
    with writing(disk), trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mirror.run)
            await ready(mirror)
            mirror.finish()
    # Nothing of what was written afterwards has reached it: it is one moment's disk.
    assert target.medium.owner is None
    assert not disk._logs


async def test_followed_write_is_in_the_copy_before_the_guest_hears_of_it() -> None:
    disk, target = filled(MemoryDevice(SIZE)), HeldDevice(SIZE)
    target.may_go_on.set()
    mirror = Mirror(disk, target, follows_writes=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.run)
        await ready(mirror)
        target.may_go_on.clear()
        target.has_begun.clear()
        has_written = threading.Event()

        def write() -> None:
            disk.write(1000, b"acknowledged")
            has_written.set()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            assert await trio.to_thread.run_sync(target.has_begun.wait, PATIENCE_S)
            assert not has_written.is_set()
        finally:
            target.may_go_on.set()
        await trio.to_thread.run_sync(thread.join)
        assert bytes(target.medium.data[1000:1012]) == b"acknowledged"
        mirror.finish()


async def test_zeroes_are_not_carried_and_overwrite_what_was_there() -> None:
    source, target = Sparse(SIZE), MemoryDevice(SIZE)
    target.medium.data[:] = b"\xff" * SIZE
    disk = Disk("disk0", source)
    disk.activate()
    disk.write(3 * GRANULE_BYTES, b"data")
    mirror = Mirror(disk, target, cap_bytes_per_s=GRANULE_BYTES * 100)
    began_s = trio.current_time()
    mirror.finish()
    await mirror.run()
    assert trio.current_time() - began_s < 0.5
    assert contents(target) == contents(source)


async def test_only_what_is_allocated_is_copied_if_that_is_asked_for() -> None:
    source, target = Sparse(SIZE), MemoryDevice(SIZE)
    disk = filled(source)
    source.from_base = set(range(SIZE // GRANULE_BYTES + 1)) - {5}
    mirror = Mirror(disk, target, only_allocated=True)
    mirror.finish()
    await mirror.run()
    copied = slice(5 * GRANULE_BYTES, 6 * GRANULE_BYTES)
    assert target.medium.data[copied] == source.medium.data[copied]
    assert target.medium.data.count(0) >= SIZE - GRANULE_BYTES
    assert mirror.copied_bytes == GRANULE_BYTES


async def test_cap_is_kept_to_until_it_is_changed() -> None:
    disk, target = filled(MemoryDevice(SIZE)), MemoryDevice(SIZE)
    mirror = Mirror(disk, target, cap_bytes_per_s=SIZE)
    async with trio.open_nursery() as nursery:
        began_s = trio.current_time()
        nursery.start_soon(mirror.run)
        await ready(mirror)
        assert trio.current_time() - began_s > 0.3  # four threads begin at once, and then wait
        mirror.finish()


@pytest.mark.parametrize("is_finished", [False, True])
async def test_cap_that_is_lifted_lets_what_waits_go_on(is_finished: bool) -> None:
    disk, target = filled(MemoryDevice(SIZE)), MemoryDevice(SIZE)
    mirror = Mirror(disk, target, cap_bytes_per_s=1)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mirror.run)
            await trio.sleep(0.1)
            assert not mirror.is_ready
            assert mirror.remaining_bytes > 0
            if not is_finished:
                mirror.cap_bytes_per_s = 0
                await ready(mirror)
            mirror.finish()
    assert contents(target) == contents(disk.device)


@pytest.mark.parametrize("call", ["acquire", "write", "release"])
async def test_target_that_fails_ends_the_copy_and_not_the_guest(call: str) -> None:
    disk, target = filled(MemoryDevice(SIZE)), MemoryDevice(SIZE)
    target.failing = {call}
    mirror = Mirror(disk, target)
    mirror.finish()
    with pytest.raises(LocalError, match=r"copy of disk 'disk0' broke.*Input/output"):
        await mirror.run()
    disk.write(0, b"the guest goes on")
    assert not disk._logs


async def test_followed_write_whose_copy_fails_is_written_all_the_same() -> None:
    disk, target = filled(MemoryDevice(SIZE)), MemoryDevice(SIZE)
    mirror = Mirror(disk, target, follows_writes=True)
    errors: list[MigrationError] = []

    async def run() -> None:
        try:
            await mirror.run()
        except MigrationError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await ready(mirror)
        target.failing = {"write"}
        await disk.store(0, b"written")
    assert "broke" in str(errors[0])
    assert bytes(disk.device.medium.data[:7]) == b"written"  # type: ignore[attr-defined]


async def test_disk_that_cannot_be_read_is_said() -> None:
    disk, target = filled(MemoryDevice(SIZE)), MemoryDevice(SIZE)
    disk.device.failing = {"read_into"}  # type: ignore[attr-defined]
    mirror = Mirror(disk, target)
    with pytest.raises(LocalError, match="broke"):
        await mirror.run()


async def test_target_that_does_not_hold_the_disk_is_refused() -> None:
    disk = filled(MemoryDevice(SIZE))
    with pytest.raises(BlockedError, match="does not fit"):
        await Mirror(disk, MemoryDevice(SIZE - 512)).run()
    read_only = MemoryDevice(SIZE)
    read_only.is_read_only = True
    with pytest.raises(BlockedError, match="cannot be written"):
        await Mirror(disk, read_only).run()
    assert not disk._logs


async def test_cancelled_copy_leaves_the_guest_its_disk() -> None:
    disk, target = filled(MemoryDevice(SIZE)), HeldDevice(SIZE)
    mirror = Mirror(disk, target)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.run)
        assert await trio.to_thread.run_sync(target.has_begun.wait, PATIENCE_S)
        nursery.cancel_scope.cancel()
        target.interrupt()
    assert not disk._logs
    disk.write(0, b"the guest goes on")
