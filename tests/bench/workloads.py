"""What is moved: how large, how full, how busy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from bench.measuring import GIB, MIB

PAGE: Final = 4096
CHUNK_PAGES: Final = 256
"""Memory is laid out in chunks; each begins with its zero pages. As in the synthetic guest."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A guest, the same for every contestant.

    Args:
        key: Short, for results and command lines.
        title: For people.
        ram_bytes: Its main memory, whole chunks.
        zero_fraction: How much of that is zero.
        dirty_bytes_per_s: How fast it writes; a guest that writes nothing stands still.
        working_set_bytes: How much of its memory it writes, round and round.
        is_xbzrle: Whether pages that go again go as what has changed of them.
    """

    key: str
    title: str
    ram_bytes: int
    zero_fraction: float = 0.0
    dirty_bytes_per_s: int = 0
    working_set_bytes: int = 0
    is_xbzrle: bool = False

    @property
    def zero_pages(self) -> int:
        """Zero pages in each chunk."""
        return round(self.zero_fraction * CHUNK_PAGES)

    @property
    def data_bytes(self) -> int:
        """How much of its memory is not zero."""
        return self.ram_bytes // CHUNK_PAGES * (CHUNK_PAGES - self.zero_pages)

    @property
    def is_running(self) -> bool:
        """Whether the guest runs while it is moved."""
        return self.dirty_bytes_per_s > 0

    def of_size(self, ram_bytes: int) -> Workload:
        """The same with another size."""
        return replace(self, ram_bytes=ram_bytes)


STOPPED: Final = Workload("stopped", "2 GiB, 1.5 GiB random, stopped", 2 * GIB, 0.25)
BUSY: Final = Workload(
    "busy",
    "the same, writing 64 MiB at 128 MiB/s",
    2 * GIB,
    0.25,
    dirty_bytes_per_s=128 * MIB,
    working_set_bytes=64 * MIB,
)
IDLE: Final = Workload("idle", "8 GiB, 95 % zero, stopped", 8 * GIB, 0.95)
DISK: Final = Workload("disk", "a raw disk of 1 GiB, random", GIB)
XBZRLE: Final = replace(BUSY, key="xbzrle", title="few bytes of each page written", is_xbzrle=True)
SMALL_BUSY: Final = replace(
    BUSY, key="small-busy", title="256 MiB, writing 64 MiB at 128 MiB/s", ram_bytes=256 * MIB
)
