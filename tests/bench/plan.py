"""What is compared with what, how often, and how much of it there is time for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from bench.bare_media import BareMedium
from bench.ceiling import BareCopy
from bench.contestants.block_migration import BlockMigration
from bench.contestants.disks import DiskCopy
from bench.contestants.mixed import QemuToUs, UsToQemu
from bench.contestants.ours import HANDED_OVER, Ours
from bench.contestants.qemus import Qemus
from bench.contestants.stored import Stored
from bench.measuring import GIB, MIB
from bench.place import TLS
from bench.workloads import BUSY, DISK, IDLE, SMALL_BUSY, STOPPED, XBZRLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qemu_peer.find import QemuBinary

    from bench.contestants.base import Contestant
    from bench.workloads import Workload

SIZES_BYTES: Final = (256 * MIB, 512 * MIB, GIB, 2 * GIB, 4 * GIB, 8 * GIB)
"""Of the curve, a quarter zero each: the largest guest and its copy fill 16 GiB."""

CHANNELS: Final = (1, 2, 3, 4)


class Effort(IntEnum):
    """How much is measured: what ``BENCH`` says."""

    QUICK = 0
    """Three minutes."""
    NORMAL = 1
    """Twenty minutes."""
    FULL = 2
    """The curves as well."""

    @classmethod
    def named(cls, name: str) -> Effort:
        """By its name in lower case.

        Raises:
            ValueError: There is none of that name.
        """
        for effort in cls:
            if effort.name.lower() == name:
                return effort
        raise ValueError(f"BENCH is {name!r}, must be quick, normal or full")


DIRTY_SYNC_EFFORT: Final = Effort.NORMAL
"""From which effort on the cost of a synchronisation is measured: 16 GiB take a while."""


@dataclass(frozen=True, slots=True)
class Race:
    """Contestants that take turns at one work, over one transport.

    Args:
        key: Short, for results and command lines.
        work: What is moved.
        scheme: Over what.
        contestants: Who.
        rounds: How often each of them moves.
        quick_rounds: How often where there is little time.
        effort: From which effort on it is run without being asked for.
    """

    key: str
    work: Workload
    scheme: str
    contestants: tuple[Contestant, ...]
    rounds: int = 5
    quick_rounds: int = 3
    effort: Effort = Effort.NORMAL

    def rounds_at(self, effort: Effort) -> int:
        """How often each contestant moves at some effort."""
        return self.quick_rounds if effort is Effort.QUICK else self.rounds


def races(qemu: QemuBinary) -> list[Race]:
    """All of them."""
    one, two = BareCopy(connections=1), BareCopy(connections=2)
    main, multifd = Qemus(0, qemu), Qemus(2, qemu)
    moving = main, multifd, Ours(0), Ours(2)
    mixed = QemuToUs(0, qemu), QemuToUs(2, qemu), UsToQemu(0, qemu), UsToQemu(2, qemu)
    return [
        Race("stopped-tcp", STOPPED, "tcp", (one, two, *moving), effort=Effort.QUICK),
        Race("stopped-unix", STOPPED, "unix", (one, two, *moving), effort=Effort.QUICK),
        Race("downtime-tcp", SMALL_BUSY, "tcp", (main, Ours(0)), 50, 5, Effort.QUICK),
        Race("mixed-tcp", STOPPED, "tcp", (one, main, multifd, *mixed)),
        *_media(),
        Race("stopped-tls", STOPPED, TLS, (one, two, *moving)),
        *_disks(),
        Race("busy-tcp", BUSY, "tcp", (one, *moving)),
        Race("busy-unix", BUSY, "unix", (one, *moving)),
        Race("xbzrle-tcp", XBZRLE, "tcp", (one, main, Ours(0))),
        Race("xbzrle-unix", XBZRLE, "unix", (one, main, Ours(0))),
        Race("idle-tcp", IDLE, "tcp", (one, *moving)),
        Race("idle-unix", IDLE, "unix", (one, main, multifd, Ours(0, HANDED_OVER))),
        *_curves(qemu),
    ]


def _media() -> list[Race]:
    """Everything else that carries a stream, each beside the bare medium."""
    pipe, file = BareMedium(medium="pipe"), BareMedium(medium="file")
    files = Stored(0), Stored(0, is_mapped=True), Stored(2, is_mapped=True)
    return [
        Race("stopped-exec", STOPPED, "exec", (pipe, Ours(0))),
        Race("stopped-fd", STOPPED, "fd", (pipe, Ours(0))),
        Race("stopped-file", STOPPED, "file", (file, *files)),
        Race("stopped-rdma", STOPPED, "rdma", (BareCopy(connections=1), Ours(0))),
    ]


def _disks() -> list[Race]:
    """Whole disks: over NBD, in both directions, and in the stream of a migration."""
    out, into = (DiskCopy(who="qemu-img convert", way=way) for way in ("out", "in"))
    return [
        Race("nbd-copy-out", DISK, "unix", (out, DiskCopy(way="out"))),
        Race("nbd-copy-in", DISK, "unix", (into, DiskCopy(way="in"))),
        Race("disk-unix", DISK, "unix", (out, BlockMigration())),
    ]


def _curves(qemu: QemuBinary) -> list[Race]:
    """Total time against size and against channels: they are asked for, or ``BENCH`` is full."""
    moving = Qemus(0, qemu), Qemus(2, qemu), Ours(0), Ours(2)
    channels = *(Qemus(count, qemu) for count in CHANNELS), *(Ours(count) for count in CHANNELS)
    return [
        *(
            Race(
                f"curve-size-{size // MIB}MiB",
                STOPPED.of_size(size),
                "tcp",
                moving,
                3,
                effort=Effort.FULL,
            )
            for size in SIZES_BYTES
        ),
        Race("curve-channels", STOPPED, "tcp", channels, 3, effort=Effort.FULL),
    ]


def is_chosen(key: str, effort: Effort, run_effort: Effort, asked: Sequence[str]) -> bool:
    """Whether something is to be measured.

    Args:
        key: Its name.
        effort: From which effort on it is measured without being asked for.
        run_effort: How much effort is made.
        asked: Names that were asked for, or beginnings of names up to a hyphen; none for all that
            the effort allows.
    """
    if not asked:
        return effort <= run_effort
    return any(key == name or key.startswith(f"{name}-") for name in asked)
