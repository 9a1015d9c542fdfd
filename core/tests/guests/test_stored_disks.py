"""Disks of a checkpoint: made as they come, listed, opened to be read, and nothing else."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from transship.errors import CheckpointError, LocalError, RemoteError
from transship.guests.scratch import ScratchGuest
from transship.guests.stored import StoredGuest
from transship.inspection.checkpoint import read_checkpoint
from transship.inspection.render import render
from transship.wire.events import Configuration
from transship.wire.limits import DISK_BYTES, DISKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = 4096
MIB = 1 << 20


def begin(directory: Path, **options: Any) -> StoredGuest:
    guest = StoredGuest.create(directory, **options)
    guest.configure(Configuration("pc-i440fx-7.2"))
    guest.attach_ram_block("pc.ram", PAGE)
    return guest


async def finish(guest: StoredGuest) -> Path:
    await guest.prepare()
    await guest.commit()
    return guest.path


@pytest.fixture
async def checkpoint(tmp_path: Path) -> Path:
    guest = begin(tmp_path / "guest")
    load = guest.attach_disk("ide0-hd0").start_load()
    load.write(3 * MIB, b"x" * MIB)
    load.write_zeroes(7 * MIB, MIB)
    guest.attach_disk("virtio0").start_load().write(0, b"y" * MIB)
    return await finish(guest)


async def test_disks_open_as_they_came(checkpoint: Path) -> None:
    guest = StoredGuest.open(checkpoint)
    assert [(disk.name, disk.size_bytes) for disk in guest.disks()] == [
        ("ide0-hd0", 8 * MIB),
        ("virtio0", MIB),
    ]
    data = bytearray(8 * MIB)
    guest.disks()[0].read_into(0, memoryview(data))
    assert data == bytes(3 * MIB) + b"x" * MIB + bytes(4 * MIB)
    guest.close()
    guest.close()


async def test_layout_is_the_documented_one(checkpoint: Path) -> None:
    assert sorted(path.name for path in (checkpoint / "disks").iterdir()) == [
        "ide0-hd0.raw",
        "virtio0.raw",
    ]
    manifest = json.loads((checkpoint / "machine.json").read_text())
    assert manifest["version"] == 2
    assert manifest["disks"] == [
        {"name": "ide0-hd0", "file": "ide0-hd0.raw", "size": 8 * MIB},
        {"name": "virtio0", "file": "virtio0.raw", "size": MIB},
    ]


async def test_images_are_sparse(checkpoint: Path) -> None:
    image = checkpoint / "disks/ide0-hd0.raw"
    assert image.stat().st_size == 8 * MIB
    assert image.stat().st_blocks * 512 <= 2 * MIB


async def test_checkpoint_without_disks_is_what_it_always_was(tmp_path: Path) -> None:
    folder = await finish(begin(tmp_path / "guest"))
    assert not (folder / "disks").exists()
    manifest = json.loads((folder / "machine.json").read_text())
    assert manifest["version"] == 1
    assert "disks" not in manifest
    StoredGuest.open(folder).close()


async def test_size_that_was_given_is_the_disks(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest", disk_sizes={"hd": MIB + 512})
    disk = guest.attach_disk("hd")
    assert disk.device.max_size_bytes == disk.size_bytes == MIB + 512
    load = disk.start_load()
    load.write(MIB, b"x" * 512)
    with pytest.raises(ValueError, match="not within"):
        load.write(MIB, b"x" * MIB)
    folder = await finish(guest)
    assert (folder / "disks/hd.raw").stat().st_size == MIB + 512


async def test_disk_whose_size_was_not_given_is_refused_if_that_of_another_was(
    tmp_path: Path,
) -> None:
    guest = begin(tmp_path / "guest", disk_sizes={"hd": MIB, "cd": 512})
    with pytest.raises(RemoteError, match="'vd' whose size was not given; expected 'hd' or 'cd'"):
        guest.attach_disk("vd")
    await guest.discard()


async def test_names_of_disks_never_leave_the_folder(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    names = ["..", "../../x", "", "a" * 255, "/etc/passwd", "\0", "A", "a", ".hidden"]
    for name in names:
        assert guest.attach_disk(name) is guest.attach_disk(name)
        guest.attach_disk(name).start_load().write(0, b"x")
    folder = await finish(guest)
    assert len(list((folder / "disks").iterdir())) == len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["guest"]
    opened = StoredGuest.open(folder)
    assert [disk.name for disk in opened.disks()] == names
    opened.close()


async def test_disk_larger_than_any_file_is_refused(tmp_path: Path) -> None:
    guest = begin(tmp_path / "guest")
    disk = guest.attach_disk("hd")
    assert disk.device.max_size_bytes == DISK_BYTES
    with pytest.raises(ValueError, match="not within"):
        disk.start_load().write(DISK_BYTES, b"x")
    await guest.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["stored", "scratch"])
async def test_disks_without_end_are_refused(tmp_path: Path, kind: str) -> None:
    guest = begin(tmp_path / "guest") if kind == "stored" else ScratchGuest()
    for number in range(DISKS):
        guest.attach_disk(str(number))
    guest.attach_disk("0")
    with pytest.raises(RemoteError, match="too many disks"):
        guest.attach_disk("one more")
    await guest.discard()


async def test_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    guest = begin(tmp_path / "guest")
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", full)
        with pytest.raises(CheckpointError, match=r"for disk 'hd'.*No space left"):
            guest.attach_disk("hd")
    guest.attach_disk("hd").start_load().write(0, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(CheckpointError, match="No space left"):
            await guest.prepare()
        await guest.discard()
    assert not list(tmp_path.iterdir())


async def test_disks_of_an_opened_checkpoint_cannot_be_written(checkpoint: Path) -> None:
    guest = StoredGuest.open(checkpoint)
    disk = guest.disks()[0]
    with pytest.raises(OSError, match="Read-only"):
        disk.start_load().write(0, b"x")
    with pytest.raises(LocalError, match="not being received"):
        guest.attach_disk("new")
    guest.close()


def edit(**changes: object) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "machine.json"
        manifest = json.loads(path.read_text())
        manifest["disks"][0].update(changes)
        path.write_text(json.dumps(manifest))

    return damage


def make_odd(folder: Path) -> None:
    os.truncate(folder / "disks/ide0-hd0.raw", 1000)
    edit(size=1000)(folder)


def link_instead(folder: Path) -> None:
    image = folder / "disks/ide0-hd0.raw"
    image.rename(folder / "elsewhere")
    image.symlink_to(folder / "elsewhere")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: (folder / "disks/ide0-hd0.raw").unlink(), "ide0-hd0.raw"),
    "cut": (lambda folder: os.truncate(folder / "disks/ide0-hd0.raw", 512), "ide0-hd0.raw"),
    "linked": (link_instead, "ide0-hd0.raw"),
    "size": (edit(size=MIB), "ide0-hd0.raw"),
    "size zero": (edit(size=0), "machine.json"),
    "size negative": (edit(size=-512), "machine.json"),
    "size huge": (edit(size=2**63), "machine.json"),
    "elsewhere": (edit(file="../machine.json"), "plain file name"),
    "hidden": (edit(file=".."), "plain file name"),
    "twice": (edit(name="virtio0"), "a disk twice"),
    "odd": (make_odd, "sectors of 512 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_disk_is_refused_and_the_file_named(checkpoint: Path, damage: str) -> None:
    do, told = DAMAGES[damage]
    do(checkpoint)
    with pytest.raises(CheckpointError) as caught:
        StoredGuest.open(checkpoint)
    assert told in str(caught.value)
    assert caught.value.expected
    assert caught.value.found


async def test_inspection_lists_disks(checkpoint: Path) -> None:
    report = read_checkpoint(checkpoint)
    assert report.complete
    first, second = report.as_json()["disks"]
    assert (first["name"], first["size"]) == ("ide0-hd0", 8 * MIB)
    assert MIB <= first["stored"] < 8 * MIB
    assert second == {"name": "virtio0", "size": MIB, "stored": MIB}
    assert "ide0-hd0  8.00 MiB  1.00 MiB" in render(report)


def test_guest_that_is_only_looked_at_forgets_disks_but_how_far_they_reach() -> None:
    guest = ScratchGuest()
    disk = guest.attach_disk("hd")
    load = disk.start_load()
    load.write(MIB, b"x")
    load.write_zeroes(0, 10)
    assert [(one.name, one.size_bytes) for one in guest.disks()] == [("hd", MIB + 1)]
    data = bytearray(b"x" * 10)
    disk.read_into(MIB, memoryview(data))
    assert not any(data)
