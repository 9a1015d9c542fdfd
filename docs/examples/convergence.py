"""A guest that dirties its memory faster than its channel may carry: auto-converge moves it.

    python convergence.py                   # gives up after a while
    python convergence.py auto-converge     # slows the guest down until it fits, and moves it

Prints how it ended as one JSON object; with --trace FILE it also writes what it saw each 50 ms.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import trio

import transship
from transship.guests.synthetic import SyntheticGuest

MIB = 1 << 20
RAM = 96 * MIB
WORKING_SET = 80 * MIB
DIRTY_RATE = 80 * MIB
CAP = 48 * MIB
GIVE_UP_S = 20.0


@dataclass
class Sample:
    """What the source knew at one moment."""

    time_s: float
    remaining_mib: float
    threshold_mib: float
    sent_mib_per_s: float
    dirtied_mib_per_s: float
    throttle_percent: int
    status: str


def look(migration: transship.Migration) -> Sample:
    """Take the figures of this moment."""
    figures = migration.statistics
    return Sample(
        time_s=round(migration.elapsed_s, 3),
        remaining_mib=figures.sections.get("ram", {}).get("remaining", RAM) / MIB,
        threshold_mib=figures.threshold_bytes / MIB,
        sent_mib_per_s=figures.bandwidth_bytes_per_s / MIB,
        dirtied_mib_per_s=figures.period.dirtied_pages_per_s * 4096 / MIB,
        throttle_percent=figures.throttle_percent,
        status=migration.status.value,
    )


async def converge(capabilities: list[str], give_up_s: float, first_percent: int) -> list[Sample]:
    """Move the guest, or give up; returns what was seen."""
    samples: list[Sample] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        SyntheticGuest(
            RAM, dirty_rate_bytes_per_s=DIRTY_RATE, working_set_bytes=WORKING_SET
        ) as here,
        SyntheticGuest(RAM, seed=1) as there,
    ):
        uri = f"unix:{folder}/guest.sock"
        listening = trio.Event()
        incoming = transship.receive(there, uri, on_listening=lambda _: listening.set())
        migration = transship.migrate(
            here,
            uri,
            parameters=transship.Parameters(
                max_bandwidth_bytes_per_s=CAP, throttle_initial_percent=first_percent
            ),
            capabilities=capabilities,
        )

        async def sample() -> None:
            while not migration.is_over:
                await trio.sleep(0.05)
                samples.append(look(migration))
                if migration.elapsed_s > give_up_s:
                    migration.cancel()

        await here.resume()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(quietly, incoming)
            await listening.wait()
            nursery.start_soon(quietly, migration)
            nursery.start_soon(sample)
        samples.append(look(migration))
        has_moved = migration.status is transship.MigrationStatus.COMPLETED
        verdict = await trio.to_thread.run_sync((there if has_moved else here).verify)
        assert verdict.ok, verdict.reason
    return samples


async def quietly(attempt: transship.Migration | transship.IncomingMigration) -> None:
    """Run it; how it ended is in its status."""
    try:
        await attempt.run()
    except transship.MigrationError as error:
        print(f"{type(attempt).__name__}: {error}", file=sys.stderr)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capabilities", nargs="*")
    parser.add_argument("--give-up", type=float, default=GIVE_UP_S, metavar="SECONDS")
    parser.add_argument("--first-percent", type=int, default=20, metavar="PERCENT")
    parser.add_argument("--trace", type=Path, metavar="FILE")
    given = parser.parse_args()
    samples = trio.run(converge, given.capabilities, given.give_up, given.first_percent)
    if given.trace:
        with given.trace.open("w", newline="") as file:
            rows = csv.DictWriter(file, [field.name for field in fields(Sample)])
            rows.writeheader()
            rows.writerows(asdict(sample) for sample in samples)
    print(
        json.dumps(
            {
                "status": samples[-1].status,
                "seconds": samples[-1].time_s,
                "most_withheld_percent": max(sample.throttle_percent for sample in samples),
            }
        )
    )


if __name__ == "__main__":
    main()
