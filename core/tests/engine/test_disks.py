"""The hand-over of disks: whoever runs the guest has them, and nobody else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio
from engine_channels import OneWay
from engine_machine import PAGE, Machine
from engine_pair import Pair, until

from transship.abc import Disk, DiskState, Parameters
from transship.engine.disks import GuestDisks
from transship.errors import LocalError, NotStartedError, StalledError, UnknownOutcomeError
from transship.testing.memory_device import Medium, MemoryDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

SLOW = Parameters(max_bandwidth_bytes_per_s=PAGE, downtime_limit_s=0)
"""Memory travels for eight seconds and more."""

IN_THREAD = trio.to_thread.run_sync

DEVICE_CALLS = ["acquire", "release", "flush"]


async def test_disk_on_shared_storage_goes_from_one_side_to_the_other() -> None:
    pair = Pair()
    await pair.run()
    assert pair.source_error is pair.destination_error is None
    assert not pair.source.disk.is_active
    assert pair.destination.disk.is_active
    assert pair.source.device.calls == DEVICE_CALLS
    assert pair.destination.device.calls == ["acquire", "write"]


async def test_disk_goes_along_where_the_channel_has_no_return_path() -> None:
    pair = Pair(near=OneWay, far=OneWay)
    await pair.run()
    assert pair.destination.disk.is_active


async def test_disk_of_a_guest_that_stands_still_goes_along() -> None:
    pair = Pair()
    await pair.source.pause()
    await pair.run_unchecked()
    assert pair.source_error is None
    assert not pair.source.disk.is_active
    assert pair.destination.disk.is_active
    assert not pair.destination.is_running


async def test_disk_that_cannot_be_flushed_keeps_the_guest_on_the_source() -> None:
    pair = Pair()
    pair.source.device.failing.add("flush")
    await pair.run()
    assert pair.source.is_running
    assert "could not be flushed and given up" in str(pair.source_error)
    assert not pair.destination.device.is_acquired


async def test_disk_whose_loaded_part_cannot_be_flushed_keeps_the_guest_on_the_source() -> None:
    pair = Pair(storage_is_shared=False)
    pair.destination.disk.start_load().write(0, b"loaded")
    pair.destination.device.failing.add("flush")
    await pair.run()
    assert pair.source.is_running
    assert "flushing disk 'disk0' failed; found Input/output error" in str(pair.source_error)
    assert "the disks could not be let go" in str(pair.destination_error)


async def test_disk_is_flushed_while_it_is_loaded(autojump_clock: MockClock) -> None:
    pair = Pair(storage_is_shared=False, parameters=SLOW)
    pair.destination.disk.start_load().write(0, b"loaded")
    await pair.run()
    assert pair.destination.is_running
    flushes = pair.destination.device.calls.count("flush")
    assert pair.source_took_s - 2 <= flushes <= pair.source_took_s + 2
    assert pair.source_took_s > 5


async def test_disk_is_flushed_while_its_guest_still_runs(autojump_clock: MockClock) -> None:
    pair = Pair(parameters=SLOW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await trio.sleep(4.5)
        assert pair.source.is_running
        assert pair.source.device.calls == ["acquire", *["flush"] * 4]
    assert pair.destination.is_running


async def test_disk_that_fails_while_its_guest_runs_keeps_the_guest_on_the_source(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(parameters=SLOW)
    pair.source.device.failing.add("flush")
    await pair.run()
    assert pair.source.is_running
    assert pair.source_took_s > 5
    assert "could not be flushed and given up" in str(pair.source_error)


async def test_disk_that_fails_while_it_is_loaded_ends_the_loading_at_once(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(storage_is_shared=False, parameters=SLOW)
    pair.destination.disk.start_load().write(0, b"loaded")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await trio.sleep(2.5)
        pair.destination.device.failing.add("flush")
    assert pair.source.is_running
    assert pair.source_took_s < 5
    for error in (pair.source_error, pair.destination_error):
        assert "flushing disk 'disk0' failed" in str(error)


async def test_destination_that_fails_lets_go_of_what_it_loaded() -> None:
    pair = Pair(storage_is_shared=False, destination_fails_in=["prepare"])
    pair.destination.disk.start_load().write(0, b"loaded")
    await pair.run()
    assert pair.source.is_running
    assert not pair.destination.device.is_acquired


async def test_guest_whose_disk_cannot_be_had_arrives_and_is_not_started() -> None:
    medium = Medium(PAGE)
    thief = MemoryDevice(medium)
    pair = Pair()
    pair.destination.device.medium = medium
    thief.acquire()
    await pair.run()
    assert isinstance(pair.destination_error, NotStartedError)
    assert "belongs to somebody else" in str(pair.destination_error)
    assert isinstance(pair.source_error, UnknownOutcomeError)
    assert not pair.source.disk.is_active


async def test_guest_whose_disk_cannot_be_had_back_stays_paused_and_the_error_says_so() -> None:
    pair = Pair(destination_fails_in=["prepare"])
    flush = pair.source.device.flush

    def flush_once() -> None:
        flush()
        pair.source.device.failing.add("acquire")

    pair.source.device.flush = flush_once  # type: ignore[method-assign]
    await pair.run_unchecked()
    assert not pair.source.is_running
    assert not pair.source.disk.is_active
    assert "the guest stays paused: its disks cannot be had again" in str(pair.source_error)
    assert "Input/output error" in str(pair.source_error)
    assert "prepare does not work here" in str(pair.source_error)


async def test_disks_are_given_up_only_when_the_guest_stands_still() -> None:
    pair = Pair(capabilities=["pause-before-switchover"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await until(lambda: pair.source.disk.state is DiskState.QUIESCED)
        ran = [pair.source.is_running]
        pair.migration.cancel()
    assert [*ran, pair.source.is_running] == [False, True]
    assert pair.source.device.calls == ["acquire", "write"]


# What takes long, in real threads.


class Slow(MemoryDevice):
    """A device whose flush takes until the test says so."""

    def __init__(self) -> None:
        super().__init__(PAGE)
        self.may_end = threading.Event()

    def flush(self) -> None:
        assert self.may_end.wait(20)
        super().flush()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Slow, Machine]]:
    monkeypatch.setattr(trio.to_thread, "run_sync", IN_THREAD)
    device = Slow()
    machine = Machine(is_running=False)
    machine.disk = Disk("disk0", device)
    machine.disk.activate()
    yield device, machine
    device.may_end.set()


async def test_storage_that_does_not_answer_is_given_up_and_had_back_when_it_does(
    slow: tuple[Slow, Machine],
) -> None:
    device, machine = slow
    timeout_s = 0.05
    disks = GuestDisks(machine, lambda: timeout_s)
    await disks.quiesce()
    for step in (disks.give_up, disks.take_back):
        with pytest.raises(StalledError, match=r"disk 'disk0' (up|back) did not end within 0.05"):
            await step()
    assert not machine.disk.is_active
    timeout_s = 20
    device.may_end.set()
    await disks.take_back()
    machine.disk.write(0, b"ours")
    assert device.calls == ["acquire", "release", "flush", "acquire", "write"]


async def test_cancellation_does_not_wait_and_what_was_begun_ends_before_the_next_step(
    slow: tuple[Slow, Machine],
) -> None:
    device, machine = slow
    disks = GuestDisks(machine, lambda: 20)
    await disks.quiesce()
    with trio.move_on_after(0.05), trio.fail_after(5):
        await disks.give_up()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disks.take_back)
        await trio.sleep(0.05)
        assert device.calls == ["acquire", "release"]
        device.may_end.set()
    assert machine.disk.is_active
    machine.disk.write(0, b"ours")
    assert device.calls == ["acquire", "release", "flush", "acquire", "write"]


async def test_all_disks_are_tried_to_be_released() -> None:
    machine = Machine(is_running=True)
    machine.device.failing.add("flush")
    disks = GuestDisks(machine, lambda: Parameters().handover_timeout_s)
    with pytest.raises(LocalError, match="could not be flushed"):
        await disks.release()
    machine.device.failing.clear()
    await disks.release()
    assert not machine.device.is_acquired
