"""Moves guests, ours and QEMU's in turns, and compares: ``make bench``.

Writes ``results.json`` and ``results.md`` to ``build/bench``. With ``BENCH=quick`` there are three
rounds instead of seven, and no guest of 8 GiB. Arguments are keys of races; all of them, if none.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from qemu_peer.find import qemu_binaries

from bench.place import open_place
from bench.plan import races
from bench.report import as_data, as_table
from bench.workloads import IDLE

if TYPE_CHECKING:
    from bench.measuring import Move
    from bench.plan import Race
    from bench.report import Results

OUTPUT: Final = Path("build/bench")
ROUNDS: Final = 7
QUICK_ROUNDS: Final = 3
PHYSICAL_BYTES: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
"""Where two guests and two images do not fit, the images are made anew for each move."""


def main() -> int:
    """Run what was asked for, and say what came out."""
    binaries = qemu_binaries()
    if not binaries:
        print("there is no QEMU to compare with: set TRANSSHIP_QEMU", file=sys.stderr)
        return 2
    qemu = max(binaries, key=lambda binary: [int(part) for part in binary.label.split(".")])
    is_quick = os.environ.get("BENCH") == "quick"
    rounds = QUICK_ROUNDS if is_quick else ROUNDS
    every = [race for race in races(qemu) if not (is_quick and race.work is IDLE)]
    chosen = [race for race in every if race.key in sys.argv[1:] or not sys.argv[1:]]
    if not chosen:
        print("races: " + ", ".join(race.key for race in every), file=sys.stderr)
        return 2
    OUTPUT.mkdir(parents=True, exist_ok=True)
    results: Results = {}
    for race in chosen:
        results[race.key] = trio.run(run, race, rounds)
        data = as_data(results, qemu.label, rounds)
        (OUTPUT / "results.json").write_text(json.dumps(data, indent=1) + "\n")
        (OUTPUT / "results.md").write_text(as_table(data))
    print((OUTPUT / "results.md").read_text())
    return 0


async def run(race: Race, rounds: int) -> dict[str, list[Move]]:
    """Let the contestants of a race take turns.

    Raises:
        ValueError: A guest did not arrive as it was.
    """
    moves: dict[str, list[Move]] = {one.name: [] for one in race.contestants}
    with open_place() as place:
        for number in range(rounds):
            for contestant in race.contestants:
                if not contestant.uses_images and 4 * race.work.ram_bytes > PHYSICAL_BYTES:
                    place.forget_images()
                move = await contestant.move(race.work, race.scheme, place)
                if move.is_right is False:
                    raise ValueError(f"{race.key}: {contestant.name}: memory arrived wrong")
                moves[contestant.name].append(move)
                print(
                    f"{race.key} {number + 1}/{rounds} {contestant.name}: "
                    f"{move.total_s * 1e3:.0f} ms",
                    file=sys.stderr,
                )
    return moves


if __name__ == "__main__":
    sys.exit(main())
