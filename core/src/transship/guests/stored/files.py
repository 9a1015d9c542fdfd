"""Files of a checkpoint: written so that they last, opened only if they are what they must be."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from transship.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from transship.buffers import Buffer


def open_plain(path: Path, length: int) -> int:
    """Open a plain file of ``length`` bytes to read; never a link, a device or a pipe.

    Returns:
        Its descriptor, which the caller owns.

    Raises:
        CheckpointError: It is missing, something else, or of another length.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read",
            expected=f"a file of {length} bytes",
            found=getattr(error, "strerror", None) or str(error),
        ) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size == length:
        return descriptor
    os.close(descriptor)
    raise CheckpointError(
        f"{path} is not as the checkpoint says",
        expected=f"a file of {length} bytes",
        found=f"{status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "no plain file",
    )


def read_plain(path: Path, length: int) -> bytes:
    """Read a file that :func:`open_plain` accepts."""
    with open(open_plain(path, length), "rb") as file:
        return file.read(length)


def write_lasting(path: Path, content: Buffer) -> None:
    """Write a file and have it on the disk before the return; an older one is replaced.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk before the return.

    Raises:
        OSError: It cannot be done.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
