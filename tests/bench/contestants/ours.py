"""Transship to Transship: two processes, a synthetic guest.

All memory is in place before, with one exception: where memory is handed over, that of the source
is what the guest has at the destination, and nothing waits for it there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from bench.contestants.base import Contestant
from bench.contestants.process import PeerFailed, PeerProcess
from bench.measuring import Meter, Move
from bench.place import TLS

if TYPE_CHECKING:
    from bench.place import Place
    from bench.workloads import Workload

MULTIFD: Final = "multifd"
HANDED_OVER: Final = "memfd"


@dataclass(frozen=True)
class Ours(Contestant):
    """Us to us.

    Args:
        memory: What the source's memory is made of: ``anonymous``, or ``memfd``, which is handed
            over.
    """

    memory: str = "anonymous"

    @property
    def sides(self) -> str:
        return "us to us"

    @property
    def setting(self) -> str:
        return "memory handed over" if self.hands_over else super().setting

    @property
    def hands_over(self) -> bool:
        """Whether memory changes its owner, and is not copied."""
        return self.memory == HANDED_OVER

    def own_bytes(self, work: Workload) -> int:
        return work.ram_bytes if self.hands_over else super().own_bytes(work)

    def obstacle(self, work: Workload, scheme: str) -> str | None:
        if self.hands_over and scheme != "unix":
            return "memory is handed over by unix sockets alone"
        if self.channels and work.is_xbzrle:
            return "multifd and xbzrle exclude each other"
        return None

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        options: dict[str, Any] = {
            "ram_bytes": work.ram_bytes,
            "zero_fraction": work.zero_fraction,
            "dirty_rate_bytes_per_s": work.dirty_bytes_per_s,
            "working_set_bytes": work.working_set_bytes,
            "seed": 1,
            "memory": self.memory,
            "prefault": True,
        }
        source_guest = {"kind": "synthetic", "options": options, "runs": work.is_running}
        waiting = {
            "ram_bytes": work.ram_bytes,
            "fill": False,
            "memory": "anonymous",
            "prefault": not self.hands_over,
        }
        present_bytes = work.ram_bytes, 0 if self.hands_over else work.ram_bytes
        common = common_order(self.channels, work)
        if scheme == TLS:
            common["parameters"]["tls_creds"] = f"{place.certificates()}/"
        address = place.uri(scheme)
        async with (
            PeerProcess({"side": "source", "guest": source_guest, **common}) as source,
            PeerProcess(
                {
                    "side": "destination",
                    "uri": address,
                    "guest": {"kind": "synthetic", "options": waiting},
                    **common,
                }
            ) as destination,
        ):
            uri = (await destination.hear("ready"))["uri"]
            await source.hear("ready")
            await trio.sleep(settling_s(work))
            meters = [
                Meter(one.pid, present)
                for one, present in zip((source, destination), present_bytes, strict=True)
            ]
            began = time.perf_counter()
            await source.tell(place.source_uri(address, uri))
            await destination.hear("done")
            statistics = (await source.hear("done"))["statistics"]
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
            if work.is_running:
                await trio.sleep(0.2)
            await destination.tell("verify")
            verdict = await destination.hear("verdict")
        handed_over = statistics["sections"]["ram"].get("shared_bytes", 0)
        if self.hands_over and handed_over < work.ram_bytes:
            raise PeerFailed(f"of {work.ram_bytes} bytes {handed_over} were handed over")
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
