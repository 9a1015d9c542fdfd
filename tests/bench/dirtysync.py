"""What one synchronisation of the dirty log costs: 16 GiB, of which 1 % is written in between.

The log is the kernel's (:mod:`transship.guests.writeprotect`). As much of the memory is in place as
this machine has to spare, all of it where 19 GiB are free, and the writes go to pages drawn at
random from what is in place.

``python -m bench.dirtysync`` is a process of its own: the memory goes with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.contestants.process import environment
from bench.measuring import GIB
from bench.workloads import PAGE
from transship.errors import LocalError
from transship.guests.choosing import dirty_log_for
from transship.memory.bitmap import DirtyBitmap
from transship.memory.ramblock import RAMBlock

KEY: Final = "dirty-sync"
LOG: Final = "write-protect"

RAM_BYTES: Final = 16 * GIB
SPARED_BYTES: Final = 3 * GIB
"""What others on this machine keep, of the memory that is free."""

DIRTY_FRACTION: Final = 0.01
SYNCS: Final = 9


@dataclass(frozen=True, slots=True)
class Sync:
    """One synchronisation.

    Args:
        sync_s: How long it took.
        dirty_pages: How many pages it found, all of those that had been written.
    """

    sync_s: float
    dirty_pages: int


@dataclass(frozen=True, slots=True)
class DirtySyncs:
    """What was measured.

    Args:
        ram_bytes: Memory that was watched.
        present_bytes: How much of it was in place.
        syncs: One after the other.
    """

    ram_bytes: int
    present_bytes: int
    syncs: tuple[Sync, ...]


def measure() -> DirtySyncs | None:
    """Measure it in another process, and say on standard error what came of it.

    Returns:
        None where the kernel has no such log.

    Raises:
        subprocess.CalledProcessError: The process failed.
    """
    command = [sys.executable, "-m", "bench.dirtysync"]
    said = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    facts = json.loads(said.stdout)
    if "obstacle" in facts:
        print(f"{KEY}: {facts['obstacle']}", file=sys.stderr)
        return None
    syncs = tuple(Sync(took_s, facts["dirty_pages"]) for took_s in facts["took_s"])
    for sync in syncs:
        print(f"{KEY} {LOG}: {sync.sync_s * 1e3:.1f} ms", file=sys.stderr)
    return DirtySyncs(facts["ram_bytes"], facts["present_bytes"], syncs)


def main() -> None:
    """Measure it here, and print what came of it."""
    block = RAMBlock.allocate("ram", RAM_BYTES, backing="anonymous")
    try:
        log = dirty_log_for([block], LOG)
    except LocalError as error:
        print(json.dumps({"obstacle": str(error)}))
        return
    random = np.random.default_rng(1)
    with block.view as view:
        first_bytes = np.frombuffer(view, np.uint8)[::PAGE]
        present = min(available_bytes() - SPARED_BYTES, RAM_BYTES) // PAGE
        dirty_pages = int(block.pages * DIRTY_FRACTION)
        if present < dirty_pages:
            print(json.dumps({"obstacle": "there is too little memory free"}))
            return
        first_bytes[:present] = 1
        bitmap = DirtyBitmap(block.pages)
        took_s = []
        log.start()
        for _ in range(SYNCS):
            first_bytes[random.choice(present, dirty_pages, replace=False)] += 1
            began = time.perf_counter()
            found = log.sync(block, bitmap)
            took_s.append(time.perf_counter() - began)
            assert found == bitmap.count() == dirty_pages
            bitmap.clear(0, block.pages)
        log.stop()
        del first_bytes
    facts = {"ram_bytes": RAM_BYTES, "present_bytes": present * PAGE, "dirty_pages": dirty_pages}
    print(json.dumps(facts | {"took_s": took_s}))


def available_bytes() -> int:
    """Memory that could be had without taking any from others."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0


if __name__ == "__main__":
    main()
