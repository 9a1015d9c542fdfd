"""What is compared with what, and what we want to come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.ceiling import BareCopy
from bench.contestants.ours import Ours
from bench.contestants.qemus import Qemus
from bench.workloads import IDLE, STOPPED

if TYPE_CHECKING:
    from qemu_peer.find import QemuBinary

    from bench.contestants.base import Contestant
    from bench.workloads import Workload


@dataclass(frozen=True, slots=True)
class Race:
    """Contestants that take turns at one work, over one transport.

    Args:
        key: Short, for results and command lines.
        work: What is moved.
        scheme: Over what.
        contestants: Who.
    """

    key: str
    work: Workload
    scheme: str
    contestants: tuple[Contestant, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """How we want to compare: a ratio of medians, ours to another's.

    Args:
        race: Key of the race.
        ours: Name of our contestant.
        other: Name of the one that it is compared with; of several the best counts.
        figure: Which figure of a move; of ``bytes_per_s`` more is better, of the others less.
        bound: At least that ratio, where more is better; at most, where less is.
    """

    race: str
    ours: str
    other: str
    figure: str
    bound: float

    @property
    def is_more_better(self) -> bool:
        return self.figure == "bytes_per_s"


def races(qemu: QemuBinary) -> list[Race]:
    """All of them."""
    bare = BareCopy(connections=1), BareCopy(connections=2)
    moving = Qemus(0, qemu), Qemus(2, qemu), Ours(0), Ours(2)
    return [
        *(Race(f"stopped-{scheme}", STOPPED, scheme, (*bare, *moving)) for scheme in SCHEMES),
        Race("idle-tcp", IDLE, "tcp", moving),
    ]


SCHEMES: Final = ("tcp", "unix")

_QEMU_MAIN: Final = "QEMU to QEMU, main stream"
_QEMU_MULTIFD: Final = "QEMU to QEMU, multifd 2"
_MAIN: Final = "us to us, main stream"
_MULTIFD: Final = "us to us, multifd 2"

GOALS: Final = (
    Goal("stopped-tcp", _MAIN, _QEMU_MAIN, "bytes_per_s", 1.2),
    Goal("stopped-tcp", _MULTIFD, _QEMU_MULTIFD, "bytes_per_s", 1.1),
    Goal("stopped-tcp", _MULTIFD, "bare copy, 2 connections", "bytes_per_s", 0.85),
    Goal("stopped-unix", _MAIN, _QEMU_MAIN, "bytes_per_s", 1.3),
    Goal("stopped-unix", _MULTIFD, _QEMU_MULTIFD, "bytes_per_s", 1.1),
    Goal("stopped-tcp", _MAIN, _QEMU_MAIN, "cpu_s_per_gib", 1.2),
    Goal("stopped-tcp", _MULTIFD, _QEMU_MULTIFD, "cpu_s_per_gib", 1.2),
    Goal("idle-tcp", _MAIN, _QEMU_MAIN, "total_s", 1 / 1.2),
    Goal("idle-tcp", _MULTIFD, _QEMU_MULTIFD, "total_s", 1 / 1.2),
)
