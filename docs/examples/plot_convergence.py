"""Draw traces of convergence.py.

python plot_convergence.py FILE.csv ... OUTPUT.svg
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

TITLES = {"without": "without auto-converge: given up", "with": "with auto-converge: completed"}


def main(traces: list[Path], output: Path) -> None:
    """One column a trace: what is left above, the rates and the throttle below."""
    mpl.rcParams["svg.hashsalt"] = "transship"  # the same traces give the same file
    figure = Figure(figsize=(11, 6))
    axes = figure.subplots(2, len(traces), sharex="col", sharey="row", squeeze=False)
    for column, trace in enumerate(traces):
        with trace.open(newline="") as file:
            rows = list(csv.DictReader(file))
        time = [float(row["time_s"]) for row in rows]

        def series(name: str, rows: list[dict[str, str]] = rows) -> list[float]:
            return [float(row[name]) for row in rows]

        left, rates = axes[0][column], axes[1][column]
        left.set_title(TITLES.get(trace.stem, trace.stem))
        left.plot(time, series("remaining_mib"), label="left to send")
        left.plot(time, series("threshold_mib"), label="fits the downtime limit")
        rates.plot(time, series("sent_mib_per_s"), label="sent")
        rates.plot(time, series("dirtied_mib_per_s"), label="dirtied, in whole periods")
        throttle = rates.twinx()
        throttle.step(
            time, series("throttle_percent"), "k--", where="post", label="withheld from the guest"
        )
        throttle.set_ylim(0, 100)
        throttle.set_ylabel("%")
        rates.set_xlabel("seconds")
    axes[0][0].set_ylabel("MiB")
    axes[1][0].set_ylabel("MiB/s")
    axes[0][-1].legend(loc="upper right")
    axes[1][-1].legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(output, metadata={"Date": None})


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:-1]], Path(sys.argv[-1]))
