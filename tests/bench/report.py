"""What came out, as data: every round's figures, medians, goals."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import dirtysync
from bench.goals import judged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.dirtysync import DirtySyncs
    from bench.measuring import Move

Results = dict[str, dict[str, list["Move"]]]
"""The moves of each contestant of each race."""

FIGURES: Final = ("bytes_per_s", "total_s", "cpu_s_per_gib")
"""Known of every move, with their medians."""

DOWNTIMES: Final = ("downtime_s", "seen_downtime_s")
"""Known of guests that ran, with the worst as well."""


def as_data(results: Results, qemu: str, syncs: DirtySyncs | None = None) -> dict[str, Any]:
    """Everything, for a file.

    Args:
        results: Of the races.
        qemu: Which version was the other one.
        syncs: Of the dirty log, if that was measured.
    """
    judgeable: dict[str, Mapping[str, Sequence[object]]] = dict(results)
    data: dict[str, Any] = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "qemu": qemu,
        "races": {
            race: {name: _figures(moves) for name, moves in contestants.items()}
            for race, contestants in results.items()
        },
    }
    if syncs is not None:
        judgeable[dirtysync.KEY] = {dirtysync.LOG: syncs.syncs}
        data["dirty_sync"] = {
            "ram_bytes": syncs.ram_bytes,
            "present_bytes": syncs.present_bytes,
            "dirty_pages": [sync.dirty_pages for sync in syncs.syncs],
            "sync_s": _with_median([sync.sync_s for sync in syncs.syncs]),
        }
    return data | {"goals": judged(judgeable)}


def machine() -> dict[str, str | int]:
    """What it was measured on."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": os.cpu_count() or 0,
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _figures(moves: Sequence[Move]) -> dict[str, Any]:
    figures: dict[str, Any] = {"rounds": len(moves)}
    for figure in FIGURES:
        figures[figure] = _with_median([getattr(move, figure) for move in moves])
    for figure in DOWNTIMES:
        values = [getattr(move, figure) for move in moves]
        if None not in values:
            figures[figure] = _with_median(values) | {"worst": max(values)}
    figures["overhead_bytes"] = [move.overhead_bytes for move in moves]
    figures["is_right"] = [move.is_right for move in moves]
    return figures


def _with_median(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "all": list(values)}
