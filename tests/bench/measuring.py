"""What is measured of one move, and of a process while it moves. Knows nothing of who moves what.

Every figure is defined here, once, and means the same for every contestant.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
GIB: Final = 1 << 30

_SCHED_CLOCK: Final = 2
_FORGET_PEAK: Final = "5"
"""Source: proc(5), ``/proc/pid/clear_refs``: the peak of resident memory becomes what it is now."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used.

    Args:
        cpu_s: Processor time of all its threads, those that have ended included; user and system.
        resident_bytes: Memory in place, guest memory included.
        peak_bytes: The most that ever was since :func:`forget_peak`.
    """

    cpu_s: float
    resident_bytes: int
    peak_bytes: int


def usage(pid: int) -> Usage:
    """Ask what a process has used.

    Raises:
        OSError: It has ended.
    """
    sizes = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS"):
            sizes[name] = int(value.split()[0]) << 10
    # clock_getcpuclockid(3) makes this number, which counts nanoseconds; /proc counts hundredths.
    clock = (~pid << 3) | _SCHED_CLOCK
    return Usage(time.clock_gettime(clock), sizes["VmRSS"], sizes["VmHWM"])


def forget_peak(pid: int) -> None:
    """Let the peak of a process's memory begin anew; where that cannot be done, it stays."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK)


@dataclass(frozen=True, slots=True)
class Side:
    """What one side of a move used for it.

    Args:
        cpu_s: Processor time between the request and the confirmation.
        overhead_bytes: Peak of resident memory during the move, without guest memory: the whole
            program, its code and libraries included.
        growth_bytes: How much that peak lies above what was resident just before.
    """

    cpu_s: float
    overhead_bytes: int
    growth_bytes: int


class Meter:
    """Reads what a process uses during a move.

    Args:
        pid: The process.
        guest_bytes: Guest memory that is in place there, before and after.
    """

    def __init__(self, pid: int, guest_bytes: int) -> None:
        self._pid = pid
        self._guest_bytes = guest_bytes
        forget_peak(pid)
        self._before = usage(pid)

    def read(self) -> Side:
        """What was used since this was made."""
        after = usage(self._pid)
        return Side(
            cpu_s=after.cpu_s - self._before.cpu_s,
            overhead_bytes=after.peak_bytes - self._guest_bytes,
            growth_bytes=after.peak_bytes - self._before.resident_bytes,
        )


@dataclass(frozen=True, slots=True)
class Move:
    """One move, or one bare copy of as much.

    Args:
        total_s: From the request to the last of two words: the source's that it is done, and the
            destination's that it has the guest. By the stopwatch of the program that asked.
        data_bytes: RAM that holds something else than zeros.
        reported_s: The total time as the source reports it.
        downtime_s: The downtime as the source reports it.
        seen_downtime_s: The downtime as the guest saw it, where it can tell; of a QEMU, from the
            moment at which one says that it has stopped the guest until the other one runs it.
        source: What the source used.
        destination: What the destination used.
        sent_bytes: All that went over the wire, as the source reports it.
        is_right: Whether memory at the destination was found to be what it must be.
    """

    total_s: float
    data_bytes: int
    reported_s: float | None = None
    downtime_s: float | None = None
    seen_downtime_s: float | None = None
    source: Side | None = None
    destination: Side | None = None
    sent_bytes: int | None = None
    is_right: bool | None = None

    @property
    def bytes_per_s(self) -> float:
        """The throughput: RAM that holds data, over the total time."""
        return self.data_bytes / self.total_s

    @property
    def cpu_s_per_gib(self) -> float | None:
        """Processor time of both sides together for each GiB of data."""
        if self.source is None or self.destination is None:
            return None
        return (self.source.cpu_s + self.destination.cpu_s) / (self.data_bytes / GIB)

    @property
    def overhead_bytes(self) -> int | None:
        """Memory besides the guest's, of whichever side had more."""
        sides = [side.overhead_bytes for side in (self.source, self.destination) if side]
        return max(sides, default=None)
