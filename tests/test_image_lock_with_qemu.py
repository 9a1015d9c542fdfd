"""One image, a real QEMU and us: whoever has it keeps the other out."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import QemuDied, QemuProcess
from support.passages import guest, play, take, waiting_guest

from transship.abc import Disk
from transship.disks import RawImage
from transship.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.qemu

MIB: Final = 1 << 20

each_qemu = pytest.mark.parametrize("qemu", qemu_binaries(), ids=lambda qemu: qemu.label)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    RawImage.create(path, MIB).close()
    return path


def with_disk(image: Path) -> list[str]:
    return [
        *("-blockdev", f"driver=file,node-name=file0,filename={image}"),
        *("-blockdev", "driver=raw,node-name=disk0,file=file0"),
        *("-device", "virtio-blk-pci,drive=disk0"),
    ]


@each_qemu
async def test_image_of_a_running_qemu_is_not_ours(
    qemu: QemuBinary, tmp_path: Path, image: Path
) -> None:
    disk = Disk("disk0", RawImage.open(image))
    async with QemuProcess(qemu, tmp_path, arguments=with_disk(image)) as running:
        with pytest.raises(LocalError, match=rf"lock held by process {running.pid} \(qemu"):
            disk.activate()
        with pytest.raises(LocalError, match="somebody else uses"):
            disk.start_load().write(0, b"x")
    disk.activate()
    disk.write(0, b"ours")
    disk.inactivate()
    assert image.read_bytes()[:4] == b"ours"


@each_qemu
async def test_qemu_does_not_start_with_an_image_of_ours(
    qemu: QemuBinary, tmp_path: Path, image: Path
) -> None:
    disk = Disk("disk0", RawImage.open(image))
    disk.activate()
    with pytest.raises(QemuDied, match="Failed to lock byte"):
        async with QemuProcess(qemu, tmp_path, name="early", arguments=with_disk(image)):
            pass
    disk.inactivate()
    async with QemuProcess(qemu, tmp_path, name="late", arguments=with_disk(image)) as running:
        assert await running.run_state() == "running"


@each_qemu
async def test_qemu_that_waits_for_a_guest_leaves_its_image_to_us(
    qemu: QemuBinary, tmp_path: Path, image: Path
) -> None:
    disk = Disk("disk0", RawImage.open(image))
    disk.activate()
    waiting = QemuProcess(qemu, tmp_path, incoming="defer", arguments=with_disk(image))
    async with waiting:
        disk.write(0, b"ours")
        disk.inactivate()
        disk.activate()
        disk.inactivate()


@each_qemu
async def test_image_on_shared_storage_belongs_to_whoever_has_the_guest(
    qemu: QemuBinary, tmp_path: Path, image: Path
) -> None:
    """From a QEMU into a checkpoint, and into another QEMU that has the same image."""
    disk = Disk("disk0", RawImage.open(image))
    source = guest(qemu, tmp_path, "source", "pc", arguments=with_disk(image))
    waiting = waiting_guest(qemu, tmp_path, "waiting", "pc", arguments=with_disk(image))
    async with source, waiting:
        with pytest.raises(LocalError, match=rf"process {source.pid} "):
            disk.activate()
        await take(source, tmp_path, tmp_path / "vm")
        disk.activate()
        disk.write(0, b"meanwhile")
        disk.inactivate()
        await play(tmp_path / "vm", waiting, tmp_path)
        await waiting.wait_run_state("running")
        with pytest.raises(LocalError, match=rf"process {waiting.pid} "):
            disk.activate()


def test_tools_of_qemu_do_not_write_to_an_image_of_ours(image: Path) -> None:
    qemu_io = shutil.which("qemu-io")
    if qemu_io is None:
        pytest.skip("qemu-io is not installed")
    write = [qemu_io, "-f", "raw", "-c", "write -P 0x78 0 512", str(image)]
    disk = Disk("disk0", RawImage.open(image))
    disk.activate()
    refused = subprocess.run(write, capture_output=True, text=True, check=False)
    assert refused.returncode
    assert "Failed to lock byte" in refused.stderr
    disk.inactivate()
    subprocess.run(write, capture_output=True, check=True)
    assert image.read_bytes()[:513] == b"x" * 512 + b"\0"
