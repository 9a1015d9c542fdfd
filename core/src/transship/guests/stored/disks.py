"""Disks of a checkpoint: raw, sparse images, made as they come, and opened to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.abc.disk import Disk
from transship.disks.raw import SECTOR_BYTES, RawImage
from transship.errors import BlockedError, CheckpointError
from transship.guests.stored.files import open_plain
from transship.guests.stored.names import unused_name
from transship.wire.limits import DISK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SUFFIX: Final = ".raw"


def make_disk(folder: Path, name: str, size_bytes: int | None, others: Iterable[Disk]) -> Disk:
    """Make the image of a disk that has come.

    Args:
        folder: Where its file goes; made if it is missing.
        name: What the stream calls the disk; no file name.
        size_bytes: Of the disk. None if nobody knows it: then the image grows as far as something
            comes, and a migration knows no more either.
        others: Disks that are in the folder already.

    Raises:
        CheckpointError: It cannot be made.
    """
    used = {image_of(disk).path.name.lower().removesuffix(_SUFFIX) for disk in others}
    path = folder / (unused_name(name, used) + _SUFFIX)
    try:
        folder.mkdir(exist_ok=True)
        if size_bytes is None:
            image = RawImage.create(path, SECTOR_BYTES, max_size_bytes=DISK_BYTES)
        else:
            image = RawImage.create(path, size_bytes)
    except (BlockedError, OSError) as error:
        raise CheckpointError(
            f"no image can be made for disk {name!r}", found=str(error), hint="is the disk full?"
        ) from error
    return Disk(name, image)


def open_disk(name: str, path: Path, size_bytes: int) -> Disk:
    """Open the image of a disk, to be read only.

    Raises:
        CheckpointError: It is missing, no plain file, or of another size.
    """
    descriptor = open_plain(path, size_bytes)
    try:
        return Disk(name, RawImage.over(path, descriptor, read_only=True))
    except BlockedError as error:
        raise CheckpointError(
            f"{path} is no disk", expected=error.expected, found=error.found
        ) from error


def image_of(disk: Disk) -> RawImage:
    """What a disk made here consists of."""
    image = disk.device
    assert isinstance(image, RawImage)
    return image
