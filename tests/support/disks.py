"""Two QEMUs whose guest has disks and writes them all the time, each with images of its own.

They have the disk that the guest boots from, a qcow2 image whose drive has a name, and a raw image
on a device that has one: the two ways in which people describe disks.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Final

from qemu_peer.process import QemuProcess

from support.writing_boot import WRITTEN_BYTES, write_writing_boot_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qemu_peer.find import QemuBinary

DISK_BYTES: Final = 2 * WRITTEN_BYTES

IMAGES: Final = ("boot.img", "quick.qcow2", "plain.raw")
"""Names of the images in a QEMU's folder."""


def disked_guest(
    qemu: QemuBinary,
    place: Path,
    name: str,
    *,
    disk_bytes: int = DISK_BYTES,
    backing: Path | None = None,
    arguments: Sequence[str] = (),
    **options: Any,
) -> QemuProcess:
    """Describe a QEMU with the writing guest, and make its images in ``PLACE/NAME``.

    Args:
        qemu: Which QEMU.
        place: Short.
        name: Of this QEMU.
        disk_bytes: How large the disks are.
        backing: What lies below the qcow2 image, a raw image.
        arguments: More for the command line.
        options: More for :class:`QemuProcess`.
    """
    folder = place / name
    folder.mkdir(exist_ok=True)
    write_writing_boot_image(folder / "boot.img")
    below = [] if backing is None else ["-b", str(backing), "-F", "raw"]
    create_image(folder / "quick.qcow2", "qcow2", *below, str(disk_bytes))
    create_image(folder / "plain.raw", "raw", str(disk_bytes))
    return QemuProcess(
        qemu,
        folder,
        name=name,
        arguments=[
            *("-drive", f"file={folder}/quick.qcow2,format=qcow2,if=ide,index=2,id=quick"),
            "-blockdev",
            f"driver=raw,node-name=plain,file.driver=file,file.filename={folder}/plain.raw",
            *("-device", "ide-hd,bus=ide.1,unit=1,drive=plain,id=disk1"),
            *arguments,
        ],
        **options,
    )


def create_image(path: Path, kind: str, *arguments: str) -> None:
    """Make an image that nobody has written yet; the last argument is its size."""
    *options, size = arguments
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, path, size], check=True)


def content(image: Path) -> bytes:
    """Return what a guest would read from an image that nobody has open."""
    raw = image.with_suffix(".content")
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    return raw.read_bytes()


def assert_same_images(one: Path, other: Path) -> None:
    """Fail unless a guest would read the same from two images that nobody has open."""
    done = subprocess.run(
        ["qemu-img", "compare", one, other], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{one} and {other}: {done.stdout}{done.stderr}"
