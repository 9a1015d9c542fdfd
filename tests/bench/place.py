"""Where a run has its files: a folder in memory that is gone when the run is over.

The two memory images stay from one move to the next, since the first write to fresh memory is by
far the slowest part of making a guest ready.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import certificates, images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workloads import Workload

IN_MEMORY: Final = Path("/dev/shm")
SOURCE: Final = "source"
DESTINATION: Final = "destination"

TLS: Final = "tls"
"""Names no scheme, but ``tcp`` secured."""

FIFO: Final = "fifo:"
"""Begins what a process is to open for itself, and then to use as ``fd:``."""

USABLE_BYTES: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 7 // 8
"""Guests and images together; the rest is for whoever moves them."""


class Place:
    """The folder, and what lies in it.

    Args:
        folder: Short, for sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filled_for: Workload | None = None
        self._number = 0

    def image(self, side: str) -> Path:
        """The memory of one side of a QEMU."""
        return self.folder / f"{side}.ram"

    def fill_source(self, work: Workload) -> Path:
        """Make the source's image hold a workload's memory. Blocks."""
        path = self.image(SOURCE)
        if self._filled_for != work:
            images.fill(path, work)
        # A guest that runs leaves its memory changed.
        self._filled_for = None if work.is_running else work
        return path

    def clear_destination(self, work: Workload) -> Path:
        """Make the destination's image hold zeros, all of them in memory. Blocks."""
        path = self.image(DESTINATION)
        images.clear(path, work.ram_bytes)
        return path

    def fresh(self, name: str) -> Path:
        """A path that nothing has had yet."""
        self._number += 1
        return self.folder / f"{name}{self._number}"

    def certificates(self) -> Path:
        """The folder of those that both sides show."""
        folder = self.folder / "certificates"
        if not folder.exists():
            certificates.make(folder)
        return folder

    def uri(self, scheme: str) -> str:
        """An address to listen at; a tcp port is chosen there."""
        match scheme:
            case "tls":
                return "tcp:127.0.0.1:0"
            case "unix":
                return f"unix:{self.fresh('socket')}"
            case "exec":
                return f"exec:cat {self._fifo()}"
            case "fd":
                return f"{FIFO}{self._fifo()}"
        return f"{scheme}:127.0.0.1:0"

    def source_uri(self, uri: str, listening: str) -> str:
        """What the source is told, where a destination that was given one address has another."""
        if uri.startswith("exec:cat "):
            return uri.replace("cat ", "cat > ", 1)
        return uri if uri.startswith(FIFO) else listening

    def _fifo(self) -> Path:
        path = self.fresh("fifo")
        os.mkfifo(path)
        return path

    def make_room(self, own_bytes: int, work: Workload) -> None:
        """Give the images' memory back where somebody's own would not fit beside it.

        Args:
            own_bytes: What is needed besides the images.
            work: What they hold.
        """
        if own_bytes + 2 * work.ram_bytes > USABLE_BYTES:
            self.image(DESTINATION).unlink(missing_ok=True)
        if own_bytes + work.ram_bytes > USABLE_BYTES:
            self.image(SOURCE).unlink(missing_ok=True)
            self._filled_for = None


@contextmanager
def open_place() -> Iterator[Place]:
    """Make the folder, and remove it."""
    parent = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="transship-bench-", dir=parent) as folder:
        yield Place(Path(folder))
