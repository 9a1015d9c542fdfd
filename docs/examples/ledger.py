"""A machine of our own, and all that makes it movable.

The machine keeps a ledger: its processor is a thread that writes one entry after another, each to
the next page of RAM. All that it knows besides its RAM is the number of the last entry.
"""

import struct
import threading
import time

import trio

from transship import Device, DirtyLog, Guest, MarkedDirtyLog, RAMBlock
from transship.wire.fields import VMState, uint32, uint64

PAGES = 16384
STEP_S = 0.0005


class Processor:
    """What is not in RAM: the registers."""

    def __init__(self) -> None:
        self.entry = 0
        self.migrations = 0


def _count_migration(processor: Processor, version_id: int) -> None:
    processor.migrations += 1


PROCESSOR = VMState(
    "ledger-cpu",
    version_id=2,
    minimum_version_id=1,
    fields=[
        uint64("entry"),
        uint32("migrations", since=2),  # a stream of version 1 does not have it
    ],
    post_load=_count_migration,
)
"""Which attributes of a `Processor` travel, in which order, and how wide."""


class Ledger(Guest):
    """The machine: RAM, a log of what is written to it, devices, and two switches."""

    machine = "ledger-1"

    def __init__(self) -> None:
        self._processor = Processor()
        self._ram = RAMBlock.anonymous("ledger.ram", PAGES * self.page_size)
        self._log = MarkedDirtyLog([self._ram])
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def ram_blocks(self) -> list[RAMBlock]:
        return [self._ram]

    def dirty_log(self) -> DirtyLog:
        return self._log

    def devices(self) -> list[Device]:
        return [Device("ledger-cpu", PROCESSOR, self._processor)]

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    async def pause(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            await trio.to_thread.run_sync(self._thread.join)
            self._thread = None

    async def resume(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            entry = self._processor.entry + 1
            page = entry % PAGES
            with self._ram.view as ram:
                struct.pack_into("<Q", ram, page * self.page_size, entry)
            self._log.mark(self._ram, page)  # always after the write
            self._processor.entry = entry
            time.sleep(STEP_S)

    def report(self) -> dict[str, str | int | float | bool | None]:
        """Read the ledger again: every page must hold the last entry that belongs there."""
        last = self._processor.entry
        with self._ram.view as ram:
            wrong = sum(
                struct.unpack_from("<Q", ram, entry % PAGES * self.page_size) != (entry,)
                for entry in range(max(1, last - PAGES + 1), last + 1)
            )
        return {"entries": last, "wrong": wrong, "migrations": self._processor.migrations}


def make() -> Ledger:
    """Make the machine; `transship run ledger:make` calls this."""
    return Ledger()
