"""What a process has at a moment, and what was left in it since another."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from typing import Final, NamedTuple

import trio

LEAVING_S: Final = 2.0
"""How long tasks and processes may take to go, once everything is closed."""

COUNTED: Final = ("descriptors", "tasks", "processes")


class Belongings(NamedTuple):
    """What there is in this process at a moment.

    Args:
        resident_bytes: Its memory.
        descriptors: How many are open.
        tasks: How many trio runs, its own included.
        processes: How many children there are that run, or were not waited for.
    """

    resident_bytes: int
    descriptors: int
    tasks: int
    processes: int

    @classmethod
    def now(cls) -> Belongings:
        """What there is now; called from a task."""
        with open("/proc/self/statm") as statm:
            resident_pages = int(statm.read().split()[1])
        return cls(
            resident_pages * os.sysconf("SC_PAGE_SIZE"),
            len(os.listdir("/proc/self/fd")),
            trio.lowlevel.current_statistics().tasks_living,
            _children(),
        )

    @classmethod
    async def settled(cls, before: Belongings) -> Belongings:
        """What there is, once what there was not ``before`` has had some time to go."""
        with trio.move_on_after(LEAVING_S):
            while cls.now().beyond(before):  # noqa: ASYNC110, nobody tells
                await trio.sleep(LEAVING_S / 200)
        gc.collect()
        _give_back_freed_memory()
        return cls.now()

    def beyond(self, before: Belongings) -> list[str]:
        """What there is more of than there was, in words; memory is not looked at."""
        return [
            f"there were {getattr(before, name)} {name}, and are {getattr(self, name)}"
            for name in COUNTED
            if getattr(self, name) > getattr(before, name)
        ]


def _children() -> int:
    count = 0
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{thread}/children") as children:
            count += len(children.read().split())
    return count


def _give_back_freed_memory() -> None:
    """Have the C library give back what it keeps of what was freed, where it can."""
    with suppress(AttributeError):  # musl keeps less, and has no such call
        ctypes.CDLL(None).malloc_trim(0)
