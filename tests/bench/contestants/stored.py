"""Transship to Transship by way of a file: one process writes it, then another loads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.contestants.base import Contestant
from bench.contestants.ours import common_order
from bench.contestants.process import PeerProcess
from bench.measuring import Meter, Move
from transship.units import counted

if TYPE_CHECKING:
    from bench.place import Place
    from bench.workloads import Workload


@dataclass(frozen=True)
class Stored(Contestant):
    """Us to us through a file; the time is that of writing it and that of loading it.

    Args:
        is_mapped: Whether each page has a place of its own in it.
    """

    is_mapped: bool = False

    @property
    def sides(self) -> str:
        return "us to us"

    @property
    def setting(self) -> str:
        return (
            f"mapped-ram, {counted(self.channels or 1, 'thread', 'threads')}"
            if self.is_mapped
            else super().setting
        )

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        common = common_order(self.channels, work)
        if self.is_mapped:
            common["capabilities"].append("mapped-ram")
        path = place.fresh("stream")
        guest: dict[str, Any] = {"ram_bytes": work.ram_bytes, "prefault": True}
        full = guest | {"zero_fraction": work.zero_fraction, "seed": 1}
        empty = guest | {"fill": False}
        async with PeerProcess(
            {"side": "source", "guest": {"kind": "synthetic", "options": full}, **common}
        ) as source:
            await source.hear("ready")
            meter = Meter(source.pid, work.ram_bytes)
            await source.tell(f"file:{path}")
            statistics = (await source.hear("done"))["statistics"]
            wrote = meter.read()
        async with PeerProcess(
            {
                "side": "destination",
                "uri": f"file:{path}",
                "guest": {"kind": "synthetic", "options": empty},
                **common,
            }
        ) as destination:
            await destination.hear("ready")
            meter = Meter(destination.pid, work.ram_bytes)
            loaded_s: float = (await destination.hear("done"))["total_s"]
            read = meter.read()
            await destination.tell("verify")
            verdict = await destination.hear("verdict")
        path.unlink()
        return Move(
            statistics["total_s"] + loaded_s,
            work.data_bytes,
            reported_s=statistics["total_s"],
            source=wrote,
            destination=read,
            sent_bytes=statistics["transferred_bytes"],
            is_right=verdict["is_right"],
        )
