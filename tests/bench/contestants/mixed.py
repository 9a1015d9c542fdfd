"""A QEMU on one side and us on the other.

What we send to a QEMU is a checkpoint folder: it holds a whole machine that a QEMU can be. It lies
in the place, in memory, and its pages are in the sender's tables before the clock starts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from qemu_peer.find import NO_QEMU, QemuBinary
from qemu_peer.process import RAM_BLOCK
from support.passages import take

from bench.contestants.base import Contestant
from bench.contestants.ours import common_order
from bench.contestants.process import PeerProcess
from bench.contestants.qemus import (
    figures,
    has_arrived,
    listen,
    moved,
    prepare_source,
    qemu_destination,
    qemu_source,
    start,
)
from bench.measuring import Meter, Move
from bench.place import SOURCE

if TYPE_CHECKING:
    from pathlib import Path

    from bench.place import Place
    from bench.workloads import Workload


@dataclass(frozen=True)
class _Mixed(Contestant):
    """What both ways have in common.

    Args:
        binary: Which QEMU; None where there is none.
    """

    binary: QemuBinary | None = None

    def own_bytes(self, work: Workload) -> int:
        return work.ram_bytes

    def obstacle(self, work: Workload, scheme: str) -> str | None:
        if self.binary is None:
            return NO_QEMU
        if work.is_running:
            return "what is not in a QEMU does not run"
        return None


class QemuToUs(_Mixed):
    """A QEMU to us: into memory."""

    @property
    def sides(self) -> str:
        return "QEMU to us"

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        assert self.binary is not None
        await trio.to_thread.run_sync(prepare_source, work, place)
        guest = {
            "kind": "prepared",
            "blocks": {RAM_BLOCK: work.ram_bytes},
            "expected": {RAM_BLOCK: str(place.image(SOURCE))},
        }
        order = {"side": "destination", "uri": place.uri(scheme), "guest": guest}
        async with (
            PeerProcess(order | common_order(self.channels, work)) as destination,
            qemu_source(self.binary, work, place) as source,
        ):
            uri = (await destination.hear("ready"))["uri"]
            await start(source, work, self.channels)
            meters = [Meter(one.pid, work.ram_bytes) for one in (source, destination)]
            began = time.perf_counter()
            await source.execute("migrate", uri=uri)
            await destination.hear("done")
            await moved(source)
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
            info = await source.migration()
            await destination.tell("verify")
            verdict = await destination.hear("verdict")
        return Move(
            total_s,
            work.data_bytes,
            source=used[0],
            destination=used[1],
            is_right=verdict["is_right"],
            **figures(info),
        )


class UsToQemu(_Mixed):
    """Us to a QEMU: out of a checkpoint folder."""

    @property
    def sides(self) -> str:
        return "us to QEMU"

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        assert self.binary is not None
        folder = await checkpoint(self.binary, work, place)
        await trio.to_thread.run_sync(place.clear_destination, work)
        order = {"side": "source", "guest": {"kind": "stored", "folder": str(folder)}}
        async with (
            PeerProcess(order | common_order(self.channels, work)) as source,
            qemu_destination(self.binary, work, place) as destination,
        ):
            uri = await listen(destination, place.uri(scheme), work, self.channels)
            await source.hear("ready")
            meters = [Meter(one.pid, work.ram_bytes) for one in (source, destination)]
            began = time.perf_counter()
            await source.tell(uri)
            await moved(destination)
            statistics = (await source.hear("done"))["statistics"]
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
            is_right = await has_arrived(destination, work, folder / "ram" / RAM_BLOCK)
        return Move(
            total_s,
            work.data_bytes,
            reported_s=statistics["total_s"],
            downtime_s=statistics["downtime_s"],
            source=used[0],
            destination=used[1],
            sent_bytes=statistics["transferred_bytes"],
            is_right=is_right,
        )


async def checkpoint(binary: QemuBinary, work: Workload, place: Place) -> Path:
    """The folder that a workload is sent from: the machine of a QEMU that has never run.

    Made once in a place.
    """
    folder = place.folder / f"{work.key}-{work.ram_bytes}"
    if not folder.exists():
        await trio.to_thread.run_sync(prepare_source, work, place)
        async with qemu_source(binary, work, place) as source:
            await take(source, place.folder, folder)
    return folder
