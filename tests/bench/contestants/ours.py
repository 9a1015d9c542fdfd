"""Transship to Transship: two processes, a synthetic guest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from bench.contestants.base import Contestant
from bench.contestants.process import PeerProcess
from bench.measuring import Meter, Move
from transship.abc.settings import Capability

if TYPE_CHECKING:
    from bench.place import Place
    from bench.workloads import Workload

MULTIFD = "multifd"


@dataclass(frozen=True)
class Ours(Contestant):
    """Us to us.

    Args:
        memory: What the source's memory is made of: ``anonymous`` or ``memfd``.
    """

    memory: str = "anonymous"

    @property
    def sides(self) -> str:
        return "us to us"

    def obstacle(self, work: Workload, scheme: str) -> str | None:
        if self.channels and work.is_xbzrle:
            return "multifd and xbzrle exclude each other"
        return no_multifd() if self.channels else None

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        options: dict[str, Any] = {
            "ram_bytes": work.ram_bytes,
            "zero_fraction": work.zero_fraction,
            "dirty_rate_bytes_per_s": work.dirty_bytes_per_s,
            "working_set_bytes": work.working_set_bytes,
            "seed": 1,
            "memory": self.memory,
        }
        source_guest = {"kind": "synthetic", "options": options, "runs": work.is_running}
        waiting = {"ram_bytes": work.ram_bytes, "fill": False, "memory": "anonymous"}
        common = common_order(self.channels, work)
        async with (
            PeerProcess({"side": "source", "guest": source_guest, **common}) as source,
            PeerProcess(
                {
                    "side": "destination",
                    "uri": place.uri(scheme),
                    "guest": {"kind": "synthetic", "options": waiting},
                    **common,
                }
            ) as destination,
        ):
            uri = (await destination.hear("ready"))["uri"]
            await source.hear("ready")
            await trio.sleep(settling_s(work))
            meters = [Meter(one.pid, work.ram_bytes) for one in (source, destination)]
            began = time.perf_counter()
            await source.tell(uri)
            await destination.hear("done")
            statistics = (await source.hear("done"))["statistics"]
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
            if work.is_running:
                await trio.sleep(0.2)
            await destination.tell("verify")
            verdict = await destination.hear("verdict")
        return Move(
            total_s,
            work.data_bytes,
            reported_s=statistics["total_s"],
            downtime_s=statistics["downtime_s"],
            seen_downtime_s=verdict["seen_downtime_s"],
            source=used[0],
            destination=used[1],
            sent_bytes=statistics["transferred_bytes"],
            is_right=verdict["is_right"],
        )


def no_multifd() -> str | None:
    """Why we cannot use several channels; None if we can."""
    return None if MULTIFD in list(Capability) else "not available"


def common_order(channels: int, work: Workload) -> dict[str, Any]:
    """What both of our sides are told."""
    capabilities = []
    parameters: dict[str, Any] = {"max_bandwidth_bytes_per_s": 0}
    if channels:
        capabilities.append(MULTIFD)
        parameters["multifd_channels"] = channels
    if work.is_xbzrle:
        capabilities.append("xbzrle")
    return {"capabilities": capabilities, "parameters": parameters}


def settling_s(work: Workload) -> float:
    """How long a guest runs before it is moved; one that stands still needs a moment only."""
    return 1.0 if work.is_running else 0.1
