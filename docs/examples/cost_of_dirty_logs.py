"""What each dirty log costs: to begin, for the guest that writes, and at each synchronisation.

Memory is in place before anything is timed, and 1 % of its pages, drawn at random, are written
between two synchronisations; each must find just these.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import get_args

import transship
from transship import MarkedDirtyLog, RAMBlock
from transship.errors import LocalError
from transship.guests.choosing import DirtyLogKind, dirty_log_for
from transship.memory import kernels
from transship.memory.bitmap import DirtyBitmap
from transship.memory.ramblock import Backing

PAGE = 4096
KINDS: tuple[DirtyLogKind, ...] = ("marked", "comparing", "write-protect")
ROUNDS = 9
VALUES = count(1)
"""What is written; a page that is written with what it holds already has not changed."""


def timed(work: Callable[[], object]) -> float:
    """How long something took, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def write(block: RAMBlock, pages: Sequence[int], value: int) -> None:
    """Write a byte to each page."""
    with block.view as view:
        for page in pages:
            view[page * PAGE] = value


def mark(log: MarkedDirtyLog, block: RAMBlock, pages: Sequence[int]) -> None:
    """Do what an author does who knows what was written."""
    for page in pages:
        log.mark(block, page)


def written(block: RAMBlock) -> tuple[Sequence[int], float]:
    """Write to 1 % of the pages; gives them, and the seconds that each took."""
    pages = random.sample(range(block.pages), block.pages // 100)
    return pages, timed(partial(write, block, pages, next(VALUES))) / len(pages)


def measure(log: MarkedDirtyLog, block: RAMBlock) -> None:
    """Print the medians of some rounds, and the worst synchronisation."""
    usual_s = statistics.median(written(block)[1] for _ in range(ROUNDS))
    start_s = timed(log.start)
    log.readable(block)
    bitmap, syncs, extras = DirtyBitmap(block.pages), [], []
    for _ in range(ROUNDS):
        pages, page_s = written(block)
        if log.name == "marked":
            page_s += timed(partial(mark, log, block, pages)) / len(pages)
        extras.append(page_s - usual_s)
        syncs.append(timed(partial(log.sync, block, bitmap)))
        assert bitmap.count() == len(pages)
        bitmap.clear(0, block.pages)
    log.stop()
    print(
        f"  {log.name:13} start {start_s * 1e3:6.1f} ms"
        f"   sync {statistics.median(syncs) * 1e3:6.2f} ms, at most {max(syncs) * 1e3:6.2f} ms"
        f"   writer {statistics.median(extras) * 1e6:5.2f} us a page"
    )


def main(ram_bytes: int) -> None:
    """Measure each kind of log that there is here, over both kinds of memory."""
    transship.load_plugins()
    print(f"{ram_bytes >> 20} MiB, 1 % dirty, kernels: {kernels.current().name}")
    for backing in get_args(Backing):
        print(backing)
        block = RAMBlock.allocate("ram", ram_bytes, backing=backing)
        write(block, range(block.pages), next(VALUES))
        for kind in KINDS:
            try:
                measure(dirty_log_for([block], kind), block)
            except LocalError as error:
                print(f"  {kind}: {error}")
        block.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 1 << 30)
