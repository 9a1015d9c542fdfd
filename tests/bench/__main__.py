"""Moves guests, ours and QEMU's in turns, and compares: ``make bench``.

Writes ``results.json`` and ``results.md`` to ``build/bench``. ``BENCH=quick`` takes three minutes,
with fewer rounds and without the slow races; ``BENCH=full`` measures the curves as well. Arguments
are keys of races, or their beginnings: ``curve-size``, ``curve``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from qemu_peer.find import qemu_binaries

from bench import dirtysync
from bench.plan import DIRTY_SYNC_EFFORT, Effort, is_chosen, races
from bench.racing import run
from bench.report import as_data
from bench.tables import as_tables

if TYPE_CHECKING:
    from bench.dirtysync import DirtySyncs
    from bench.report import Results

OUTPUT: Final = Path("build/bench")


def main() -> int:
    """Run what was asked for, and say what came out."""
    binaries = qemu_binaries()
    if not binaries:
        print("there is no QEMU to compare with: set TRANSSHIP_QEMU", file=sys.stderr)
        return 2
    qemu = max(binaries, key=lambda binary: [int(part) for part in binary.label.split(".")])
    asked = sys.argv[1:]
    try:
        effort = Effort.named(os.environ.get("BENCH") or "normal")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    every = races(qemu)
    chosen = [race for race in every if is_chosen(race.key, race.effort, effort, asked)]
    is_sync_chosen = is_chosen(dirtysync.KEY, DIRTY_SYNC_EFFORT, effort, asked)
    if not chosen and not is_sync_chosen:
        keys = [race.key for race in every] + [dirtysync.KEY]
        print("races: " + ", ".join(keys), file=sys.stderr)
        return 2
    OUTPUT.mkdir(parents=True, exist_ok=True)
    results: Results = {}
    syncs: DirtySyncs | None = None
    if is_sync_chosen:
        syncs = dirtysync.measure()
        _write(results, qemu.label, syncs)
    for race in chosen:
        began = time.monotonic()
        results[race.key] = trio.run(run, race, race.rounds_at(effort))
        print(f"{race.key} took {time.monotonic() - began:.0f} s", file=sys.stderr)
        _write(results, qemu.label, syncs)
    print((OUTPUT / "results.md").read_text())
    return 0


def _write(results: Results, qemu: str, syncs: DirtySyncs | None) -> None:
    data = as_data(results, qemu, syncs)
    (OUTPUT / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    (OUTPUT / "results.md").write_text(as_tables(data))


if __name__ == "__main__":
    # The images, of gigabytes, go with the program that is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
