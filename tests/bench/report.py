"""What came out: medians, ratios, goals; as data and as a table."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measuring import GIB, MIB
from bench.plan import GOALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.measuring import Move
    from bench.plan import Goal

Results = dict[str, dict[str, list["Move"]]]
"""The moves of each contestant of each race."""


def as_data(results: Results, qemu: str, rounds: int) -> dict[str, Any]:
    """Everything, for a file."""
    return {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "qemu": qemu,
        "rounds": rounds,
        "races": {
            race: {name: _figures(moves) for name, moves in contestants.items()}
            for race, contestants in results.items()
        },
        "goals": [_judged(goal, results) for goal in GOALS if goal.race in results],
    }


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


def as_table(data: Mapping[str, Any]) -> str:
    """The medians and the goals, in Markdown."""
    lines = ["| race | contestant | GiB/s (least to most) | total | CPU s/GiB | overhead |"]
    lines.append("|---|---|---|---|---|---|")
    for race, contestants in data["races"].items():
        for name, figures in contestants.items():
            rates = [rate / GIB for rate in figures["bytes_per_s"]["all"]]
            overhead = max(figures["overhead_bytes"]) / MIB
            lines.append(
                f"| {race} | {name} | {statistics.median(rates):.2f} "
                f"({min(rates):.2f} to {max(rates):.2f}) "
                f"| {figures['total_s']['median'] * 1e3:.0f} ms "
                f"| {figures['cpu_s_per_gib']['median']:.2f} | {overhead:.0f} MiB |"
            )
    lines += ["", "| goal | ratio | wanted | met |", "|---|---|---|---|"]
    for goal in data["goals"]:
        ratio, wanted = f"{goal['ratio']:.2f}", f"{goal['sense']} {goal['goal']:.2f}"
        lines.append(f"| {goal['work']} | {ratio} | {wanted} | {'yes' if goal['met'] else 'no'} |")
    return "\n".join(lines) + "\n"


def _figures(moves: Sequence[Move]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        figure: {
            "median": statistics.median(values := [getattr(move, figure) for move in moves]),
            "all": values,
        }
        for figure in ("bytes_per_s", "total_s", "cpu_s_per_gib")
    }
    figures["overhead_bytes"] = [
        max(side.overhead_bytes for side in (move.source, move.destination) if side)
        for move in moves
    ]
    return figures


def _judged(goal: Goal, results: Results) -> dict[str, Any]:
    contestants = results[goal.race]
    ours = _median(contestants[goal.ours], goal.figure)
    ratio = ours / _median(contestants[goal.other], goal.figure)
    is_met = ratio >= goal.bound if goal.is_more_better else ratio <= goal.bound
    return {
        "work": f"{goal.race}: {goal.ours} / {goal.other}, {goal.figure}",
        "ratio": ratio,
        "goal": goal.bound,
        "sense": "at least" if goal.is_more_better else "at most",
        "met": is_met,
    }


def _median(moves: Iterable[Move], figure: str) -> float:
    return float(statistics.median(getattr(move, figure) for move in moves))
