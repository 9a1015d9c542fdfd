"""What came out, as tables in Markdown. Works on the data of :mod:`bench.report` alone."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from bench.measuring import GIB, MIB
from bench.report import DOWNTIMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Data = Mapping[str, Any]

_CURVE: Final = "curve-size-"


def as_tables(data: Data) -> str:
    """The medians, the downtimes, the curve, and the goals; of what was measured."""
    parts = [_moves(data), _downtimes(data), _sizes(data), _dirty_sync(data), _goals(data)]
    return "\n".join(part for part in parts if part)


def _table(head: str, rows: Sequence[Sequence[str]]) -> str:
    """A table; nothing, if it has no rows."""
    if not rows:
        return ""
    rule = "|---" * (head.count("|") + 1) + "|"
    lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([f"| {head} |", rule, *lines]) + "\n"


def _each(data: Data) -> Iterator[tuple[str, str, Data]]:
    for race, contestants in data["races"].items():
        for name, figures in contestants.items():
            yield race, name, figures


def _moves(data: Data) -> str:
    rows = []
    for race, name, figures in _each(data):
        rates = [rate / GIB for rate in figures["bytes_per_s"]["all"]]
        rows.append(
            (
                race,
                name,
                f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})",
                _ms(figures["total_s"]["median"]),
                f"{figures['cpu_s_per_gib']['median']:.2f}",
                _mib(max(figures["overhead_bytes"])),
            )
        )
    head = "race | contestant | GiB/s (least to most) | total | CPU s/GiB | overhead"
    return _table(head, rows)


def _downtimes(data: Data) -> str:
    rows = [
        (race, name, *(_median_and_worst(figures[which]) for which in DOWNTIMES))
        for race, name, figures in _each(data)
        if all(which in figures for which in DOWNTIMES)
    ]
    head = "race | contestant | downtime the source reports (worst) | downtime seen (worst)"
    return _table(head, rows)


def _sizes(data: Data) -> str:
    """A row for each size, a column for each contestant."""
    curve = {
        race.removeprefix(_CURVE): contestants
        for race, contestants in data["races"].items()
        if race.startswith(_CURVE)
    }
    if not curve:
        return ""
    names = list(next(iter(curve.values())))
    rows = [
        (size, *(_ms(contestants[name]["total_s"]["median"]) for name in names))
        for size, contestants in curve.items()
    ]
    return _table(" | ".join(["RAM", *names]), rows)


def _dirty_sync(data: Data) -> str:
    if "dirty_sync" not in data:
        return ""
    syncs = data["dirty_sync"]
    present = f"{syncs['ram_bytes'] / GIB:.0f} GiB, {syncs['present_bytes'] / GIB:.0f} in place"
    took = syncs["sync_s"]
    median, worst = _ms(took["median"], 1), _ms(max(took["all"]), 1)
    head = "dirty log watches | pages written | one synchronisation (worst)"
    return _table(head, [(present, str(syncs["dirty_pages"][0]), f"{median} ({worst})")])


def _goals(data: Data) -> str:
    rows = [
        (
            goal["work"],
            _amount(goal["ratio"], goal["unit"]),
            f"{goal['sense']} {_amount(goal['goal'], goal['unit'])}",
            "yes" if goal["met"] else "no",
        )
        for goal in data["goals"]
    ]
    return _table("goal | ratio | wanted | met", rows)


def _median_and_worst(figure: Data) -> str:
    return f"{_ms(figure['median'], 1)} ({_ms(figure['worst'], 1)})"


def _amount(number: float, unit: str) -> str:
    """As long as a reader needs it; a ratio has no unit."""
    match unit:
        case "bytes":
            return _mib(number)
        case "s":
            return _ms(number, 1)
    return f"{number:.2f}"


def _ms(seconds: float, digits: int = 0) -> str:
    return f"{seconds * 1e3:.{digits}f} ms"


def _mib(count: float) -> str:
    return f"{count / MIB:.0f} MiB"
