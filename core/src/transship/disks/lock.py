"""A lock on a whole image, which also keeps a QEMU out, and is kept out by one.

It is of the kind that belongs to an open file (``F_OFD_SETLK``), as QEMU's are: it ends with the
last descriptor of that file, so also when the process is killed. QEMU locks single bytes of its
images, from the hundredth on; a lock on all bytes excludes those of whoever writes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from transship.errors import LocalError

_FLOCK: Final = struct.Struct("hhqqi4x")
"""``struct flock``: type, whence, start, length (0: to the end, wherever it is), process (0)."""


class ImageLock:
    """The lock of one open image.

    Args:
        descriptor: The image; borrowed.
        name: Of the image, for messages.
        is_shared: Whether it only keeps writers away, for an image that is read.
    """

    def __init__(self, descriptor: int, name: str, *, is_shared: bool) -> None:
        self.is_held = False
        self._descriptor = descriptor
        self._name = name
        self._is_shared = is_shared

    def take(self) -> None:
        """Take it, without waiting; idempotent.

        Raises:
            LocalError: Somebody else has it; says which process, if that can be seen.
            OSError: The file system has no such locks.
        """
        try:
            self._set(fcntl.F_RDLCK if self._is_shared else fcntl.F_WRLCK)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            holders = _holders(self._descriptor)
            raise LocalError(
                f"somebody else uses the image {self._name}",
                expected="an image that nobody writes to",
                found="a lock held by " + (", ".join(holders) or "a process that cannot be seen"),
                hint="only the side that has the guest may write to its disks",
            ) from error
        self.is_held = True

    def drop(self) -> None:
        """Let others take it; idempotent."""
        if self.is_held:
            self._set(fcntl.F_UNLCK)
            self.is_held = False

    def _set(self, kind: int) -> None:
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))


def _holders(descriptor: int) -> list[str]:
    """Processes that have locks on the same file: best effort, for a message."""
    status = os.fstat(descriptor)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for open_file in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.path.samestat(open_file.stat(), status) and _is_locked(open_file):
                        name = (process / "comm").read_text().strip()
                        found.append(f"process {process.name} ({name})")
                        break
    return found


def _is_locked(open_file: Path) -> bool:
    return "\nlock:" in (open_file.parent.parent / "fdinfo" / open_file.name).read_text()
