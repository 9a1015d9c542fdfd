"""What we want to come out, and whether it did."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench import dirtysync
from bench.measuring import MIB

Figures = Mapping[str, Mapping[str, Sequence[object]]]
"""By race and by contestant, whatever has the figures that goals are about as attributes."""

Statistic = Literal["median", "worst"]

_MORE_IS_BETTER: Final = frozenset({"bytes_per_s"})
_RESOLUTION_S: Final = 1e-3
"""QEMU reports whole milliseconds: a downtime of 0 is one of less than this."""


@dataclass(frozen=True, slots=True)
class Goal:
    """How we want to compare.

    Args:
        race: Key of the race.
        ours: Name of our contestant.
        others: Names of those that it is compared with, of which the best counts; with none of
            them the figure itself is judged.
        figure: Which figure of a move; of ``bytes_per_s`` more is better, of the others less.
        bound: At least that, where more is better; at most, where less is.
        statistic: Of all rounds, what counts.
    """

    race: str
    ours: str
    others: tuple[str, ...]
    figure: str
    bound: float
    statistic: Statistic = "median"

    @property
    def is_more_better(self) -> bool:
        return self.figure in _MORE_IS_BETTER

    @property
    def unit(self) -> str:
        """What is judged is counted in; nothing, for a ratio."""
        return "" if self.others else self.figure.rpartition("_")[2]

    @property
    def work(self) -> str:
        """What is judged, in one line."""
        figure = self.figure if self.statistic == "median" else f"{self.statistic} {self.figure}"
        compared = f" / {' or '.join(self.others)}" if self.others else ""
        return f"{self.race}: {self.ours}{compared}, {figure}"

    def applies(self, figures: Figures) -> bool:
        """Whether all that it is about took part."""
        return {self.ours, *self.others} <= figures.get(self.race, {}).keys()

    def judge(self, figures: Figures) -> dict[str, object]:
        """Whether it is met, for a report; ``ratio`` is the figure itself where nobody else is."""
        contestants = figures[self.race]
        ratio = self._summary(contestants[self.ours])
        if self.others:
            best = max if self.is_more_better else min
            other = best(self._summary(contestants[name]) for name in self.others)
            ratio /= max(other, _RESOLUTION_S)
        return {
            "work": self.work,
            "ratio": ratio,
            "goal": self.bound,
            "unit": self.unit,
            "sense": "at least" if self.is_more_better else "at most",
            "met": ratio >= self.bound if self.is_more_better else ratio <= self.bound,
        }

    def _summary(self, rounds: Sequence[object]) -> float:
        values = [float(getattr(one, self.figure)) for one in rounds]
        if self.statistic == "median":
            return float(statistics.median(values))
        return min(values) if self.is_more_better else max(values)


MAIN: Final = "us to us, main stream"
MULTIFD: Final = "us to us, multifd 2"
QEMU_MAIN: Final = "QEMU to QEMU, main stream"
QEMU_MULTIFD: Final = "QEMU to QEMU, multifd 2"
_QEMU_BEST: Final = QEMU_MAIN, QEMU_MULTIFD

_THROUGHPUT: Final = (
    Goal("stopped-tcp", MAIN, (QEMU_MAIN,), "bytes_per_s", 1.2),
    Goal("stopped-tcp", MULTIFD, (QEMU_MULTIFD,), "bytes_per_s", 1.1),
    Goal("stopped-tcp", MULTIFD, ("bare copy, 2 connections",), "bytes_per_s", 0.85),
    Goal("stopped-unix", MAIN, (QEMU_MAIN,), "bytes_per_s", 1.3),
    Goal("stopped-unix", MULTIFD, (QEMU_MULTIFD,), "bytes_per_s", 1.1),
)
_TOTAL_TIME: Final = (
    Goal("idle-unix", "us to us, memory handed over", _QEMU_BEST, "total_s", 1 / 20),
    Goal("idle-tcp", MAIN, (QEMU_MAIN,), "total_s", 1 / 1.2),
    Goal("idle-tcp", MULTIFD, (QEMU_MULTIFD,), "total_s", 1 / 1.2),
    *(
        Goal("mixed-tcp", f"{sides}, {setting}", (f"QEMU to QEMU, {setting}",), "total_s", 1.05)
        for sides in ("QEMU to us", "us to QEMU")
        for setting in ("main stream", "multifd 2")
    ),
)
_DOWNTIME: Final = (
    Goal("downtime-tcp", MAIN, (QEMU_MAIN,), "downtime_s", 1.0),
    Goal("downtime-tcp", MAIN, (QEMU_MAIN,), "downtime_s", 1.0, "worst"),
)
_COST: Final = (
    Goal("stopped-tcp", MAIN, (QEMU_MAIN,), "cpu_s_per_gib", 1.2),
    Goal("stopped-tcp", MULTIFD, (QEMU_MULTIFD,), "cpu_s_per_gib", 1.2),
    *(
        Goal(race, ours, (), "overhead_bytes", 64 * MIB, "worst")
        for race in ("stopped-tcp", "stopped-unix", "idle-tcp", "busy-tcp")
        for ours in (MAIN, MULTIFD)
    ),
    Goal("idle-unix", "us to us, memory handed over", (), "overhead_bytes", 64 * MIB, "worst"),
    Goal(dirtysync.KEY, dirtysync.LOG, (), "sync_s", 0.02),
)

_QEMU_IMG: Final = "qemu-img convert"
_IN_THE_STREAM: Final = "us to us, block migration"
_DISKS: Final = (
    *(
        Goal(f"nbd-copy-{way}", "our client", (_QEMU_IMG,), "bytes_per_s", 1.0)
        for way in ("out", "in")
    ),
    Goal("disk-unix", _IN_THE_STREAM, (_QEMU_IMG,), "bytes_per_s", 1.0),
    Goal("disk-unix", _IN_THE_STREAM, (), "overhead_bytes", 96 * MIB, "worst"),
)

GOALS: Final = (*_THROUGHPUT, *_DISKS, *_TOTAL_TIME, *_DOWNTIME, *_COST)


def judged(figures: Figures, goals: Sequence[Goal] = GOALS) -> list[dict[str, object]]:
    """What came of those goals whose contestants took part."""
    return [goal.judge(figures) for goal in goals if goal.applies(figures)]
