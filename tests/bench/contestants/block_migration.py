"""A disk in the stream of a migration between two of us, of a guest with hardly any memory."""

from __future__ import annotations

import filecmp
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from bench.contestants.base import Contestant
from bench.contestants.process import PeerProcess
from bench.measuring import MIB, Meter, Move

if TYPE_CHECKING:
    from pathlib import Path

    from bench.place import Place
    from bench.workloads import Workload

_RAM_BYTES: Final = MIB


@dataclass(frozen=True)
class BlockMigration(Contestant):
    """The image of one side becomes that of the other, as the guest's only disk."""

    @property
    def name(self) -> str:
        return self.sides

    @property
    def sides(self) -> str:
        return "us to us, block migration"

    def own_bytes(self, work: Workload) -> int:
        return 0

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        source_image = await trio.to_thread.run_sync(place.fill_source, work)
        destination_image = await trio.to_thread.run_sync(place.clear_destination, work)
        orders = _order("source", source_image), _order("destination", destination_image)
        orders[1]["uri"] = place.uri(scheme)
        async with PeerProcess(orders[0]) as source, PeerProcess(orders[1]) as destination:
            uri = (await destination.hear("ready"))["uri"]
            await source.hear("ready")
            meters = [Meter(one.pid, _RAM_BYTES) for one in (source, destination)]
            began = time.perf_counter()
            await source.tell(uri)
            await destination.hear("done")
            statistics = (await source.hear("done"))["statistics"]
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
        is_right = await trio.to_thread.run_sync(
            lambda: filecmp.cmp(source_image, destination_image, shallow=False)
        )
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


def _order(side: str, image: Path) -> dict[str, Any]:
    options = {"ram_bytes": _RAM_BYTES, "fill": side == "source"}
    return {
        "side": side,
        "guest": {"kind": "synthetic", "options": options, "disk": str(image)},
        "capabilities": ["block"],
        "parameters": {"max_bandwidth_bytes_per_s": 0},
    }
