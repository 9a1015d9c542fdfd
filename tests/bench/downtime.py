"""How long a guest under load stands still when it moves to another process, over many moves.

    python tests/bench/downtime.py --count 50 --ram 1GiB --dirty-rate 64MiB/s

Each move is a `transship demo`: the guest measures its downtime itself, from its last tick on the
source to its first one on the destination, and checks every byte of its memory. Ends with 1 if
more than one move in 25 exceeds the limit of 300 ms, or a guest is broken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

LIMIT_S = 0.3
ALLOWED_SHARE = 1 / 25


def main() -> int:
    """Move, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--ram", default="1GiB")
    parser.add_argument("--dirty-rate", default="64MiB/s")
    parser.add_argument("--transport", default="unix")
    given = parser.parse_args()
    command = [sys.executable, "-m", "transship", "demo", "--json"]
    command += ["--ram", given.ram, "--dirty-rate", given.dirty_rate]
    command += ["--transport", given.transport]
    seen, expected = [], []
    for number in range(given.count):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        facts = json.loads(done.stdout.splitlines()[-1])
        figures = facts["statistics"]
        seen.append(facts["guest"]["observed_downtime_s"])
        expected.append(figures["expected_downtime_s"])
        parts = "  ".join(
            f"{name.removesuffix('_s')} {seconds * 1e3:.0f}"
            for name, seconds in figures["downtime"].items()
        )
        print(
            f"{number + 1:3}  downtime {seen[-1] * 1e3:4.0f} ms, expected "
            f"{expected[-1] * 1e3:4.0f} ms  ({parts})",
            flush=True,
        )
    exceeded = sum(downtime > LIMIT_S for downtime in seen)
    ratios = [one / other for one, other in zip(seen, expected, strict=True)]
    print(
        json.dumps(
            {
                "moves": given.count,
                "within_limit": given.count - exceeded,
                "median_ms": round(statistics.median(seen) * 1e3, 1),
                "p90_ms": round(statistics.quantiles(seen, n=10)[-1] * 1e3, 1),
                "max_ms": round(max(seen) * 1e3, 1),
                "seen_over_expected_median": round(statistics.median(ratios), 2),
                "seen_over_expected_max": round(max(ratios), 2),
            }
        )
    )
    return int(exceeded > given.count * ALLOWED_SHARE)


if __name__ == "__main__":
    sys.exit(main())
