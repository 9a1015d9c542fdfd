"""Disks of a synthetic guest: written at each tick, and looked through afterwards."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Disk
from transship.disks import RawImage
from transship.errors import BlockedError, LocalError
from transship.guests.spec import parse_guest
from transship.guests.synthetic import SyntheticGuest
from transship.testing.memory_device import Medium, MemoryDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20


def make(medium: Medium, *, fill: bool = True) -> SyntheticGuest:
    return SyntheticGuest(
        MIB,
        disks=[Disk("disk0", MemoryDevice(medium))],
        disk_rate_bytes_per_s=32 * MIB,
        fill=fill,
    )


@pytest.fixture
def medium() -> Medium:
    return Medium(4 * MIB)


@pytest.fixture
def guest(medium: Medium) -> Iterator[SyntheticGuest]:
    with make(medium) as guest:
        guest.disks()[0].activate()
        yield guest


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while True:
            if condition():
                return
            await trio.sleep(0.001)


async def run_for_ticks(guest: SyntheticGuest, ticks: int) -> None:
    goal = guest.counter + ticks
    await guest.resume()
    await until(lambda: guest.counter >= goal)
    await guest.pause()


def carry(source: SyntheticGuest, destination: SyntheticGuest) -> None:
    """Memory and devices, by hand; the disks are on shared storage."""
    for block in source.ram_blocks():
        with (
            block.view as old,
            destination.attach_ram_block(block.idstr, block.used_length).view as new,
        ):
            new[:] = old
    for saved, loaded in zip(source.devices(), destination.devices(), strict=True):
        assert saved.description.pre_save
        assert loaded.description.post_load
        saved.description.pre_save(saved.state)
        for field in saved.description.fields:
            setattr(loaded.state, field.name, getattr(saved.state, field.name))
        loaded.description.post_load(loaded.state, 1)


async def test_what_was_written_is_found_again(guest: SyntheticGuest) -> None:
    log = guest.disks()[0].start_log(4096)
    await run_for_ticks(guest, 20)
    verdict = guest.verify()
    assert verdict.ok
    assert verdict.disk_blocks >= 20 * 8
    assert log.count_dirty() == verdict.disk_blocks
    assert guest.report()["disk_blocks"] == verdict.disk_blocks


async def test_write_that_is_lost_is_found(guest: SyntheticGuest, medium: Medium) -> None:
    await run_for_ticks(guest, 20)
    medium.data[:] = bytes(len(medium.data))
    verdict = guest.verify()
    assert not verdict.ok
    assert verdict.block == "disk0"
    assert "a write to disk 'disk0' is lost" in verdict.reason
    assert not guest.report()["consistent"]


async def test_guest_goes_on_writing_where_it_arrives(
    guest: SyntheticGuest, medium: Medium
) -> None:
    await run_for_ticks(guest, 20)
    with SyntheticGuest(
        MIB, disks=[Disk("disk0", MemoryDevice(medium))], fill=False
    ) as destination:
        carry(guest, destination)
        with pytest.raises(LocalError, match="'disk0' is inactive"):
            await destination.resume()
        guest.disks()[0].inactivate()
        destination.disks()[0].activate()
        await run_for_ticks(destination, 20)
        verdict = destination.verify()
        assert verdict.ok, verdict
        assert verdict.disk_blocks >= 40 * 8
        assert guest.verify().ok
        assert guest.verify().disk_blocks == 0


async def test_guest_with_a_disk_of_another_size_is_refused(guest: SyntheticGuest) -> None:
    with (
        make(Medium(2 * MIB), fill=False) as destination,
        pytest.raises(ValueError, match="disk 'disk0' has 2097152 bytes here, 4194304 there"),
    ):
        carry(guest, destination)


async def test_disk_that_fails_stops_the_processor_and_is_reported(guest: SyntheticGuest) -> None:
    device = guest.disks()[0].device
    assert isinstance(device, MemoryDevice)
    device.failing.add("write")
    await guest.resume()
    await until(lambda: not guest.is_running)
    assert "Input/output error" in guest.verify().reason


def test_options_name_disks(tmp_path: Path) -> None:
    one, other = tmp_path / "one.raw", tmp_path / "other.raw"
    RawImage.create(other, MIB).close()
    with ExitStack() as stack:
        for _ in range(2):
            guest = parse_guest(
                f"synthetic:ram=1MiB,disk={one},disk={other},disk-size=1MiB,disk-rate=4MiB/s,"
                "disk-working-set=64KiB"
            )
            assert isinstance(guest, SyntheticGuest)
            stack.enter_context(guest)
            assert [disk.name for disk in guest.disks()] == ["disk0", "disk1"]
            assert [disk.size_bytes for disk in guest.disks()] == [MIB, MIB]
            assert not any(disk.is_active for disk in guest.disks())
            assert guest.devices()[1].state.working_bytes == 65536  # type: ignore[attr-defined]
        assert one.stat().st_size == MIB


def test_disk_that_is_no_file_is_opened_by_whoever_knows_its_uri(tmp_path: Path) -> None:
    asked = []

    def open_device(uri: str) -> MemoryDevice:
        asked.append(uri)
        return MemoryDevice(MIB)

    file = tmp_path / "a.raw"
    text = f"synthetic:ram=1MiB,disk=nbd+unix:///d?socket=/s,disk={file},disk-size=1MiB"
    guest = parse_guest(text, open_device=open_device)
    assert isinstance(guest, SyntheticGuest)
    with guest:
        assert [type(disk.device) for disk in guest.disks()] == [MemoryDevice, RawImage]
    assert asked == ["nbd+unix:///d?socket=/s"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("disk={}/missing", "No such file"),
        ("disk={}", "Is a directory"),
        ("disk={}/odd", "found 1000 bytes"),
        ("disk={}/good,disk-size=1MiB", "has 512 bytes, not 1048576"),
        ("disk={}/new,disk-size=1000", "found 1000 bytes"),
        ("disk-size=1MiB", "and no disk"),
        ("disk={}/good,disk-rate=fast", "disk-rate is wrong"),
        ("disk={}/good,disk-rate=1MiB/s,disk-rate=2MiB/s", "twice"),
        ("disk={}/good,disk-working-set=20000PiB", "out of range"),
    ],
)
def test_options_that_name_no_disk_are_refused(tmp_path: Path, options: str, told: str) -> None:
    (tmp_path / "odd").write_bytes(bytes(1000))
    (tmp_path / "good").write_bytes(bytes(512))
    with pytest.raises(BlockedError, match=told):
        parse_guest("synthetic:ram=1MiB," + options.format(tmp_path))
    assert not (tmp_path / "new").exists()
