"""The bare copy through a pipe, and into a file and out of it: what the medium itself carries.

``python -m bench.bare_media ORDER`` is one of the two processes; see :mod:`bench.ceiling`.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.contestants.base import Contestant
from bench.contestants.process import PeerProcess
from bench.measuring import MIB, Meter, Move
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from bench.place import Place
    from bench.workloads import Workload

_PIECE: Final = MIB


@dataclass(frozen=True)
class BareMedium(Contestant):
    """No migration at all, but as many bytes through a pipe or a file.

    Args:
        medium: ``pipe`` or ``file``; a file is written to its end, and on the disk, before it is
            read.
    """

    medium: str = "pipe"

    @property
    def sides(self) -> str:
        return "bare copy"

    @property
    def setting(self) -> str:
        return f"1 {self.medium}"

    def own_bytes(self, work: Workload) -> int:
        return 2 * work.data_bytes

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        path = place.fresh(self.medium)
        if self.medium == "pipe":
            os.mkfifo(path)
        order = {"path": str(path), "data_bytes": work.data_bytes, "medium": self.medium}
        module = "bench.bare_media"
        async with (
            PeerProcess({"side": "destination", **order}, module=module) as destination,
            PeerProcess({"side": "source", **order}, module=module) as source,
        ):
            await destination.hear("ready")
            await source.hear("ready")
            meters = [Meter(one.pid, work.data_bytes) for one in (source, destination)]
            began = time.perf_counter()
            await source.tell("go")
            if self.medium == "file":
                await source.hear("done")
            await destination.tell("go")
            await destination.hear("done")
            if self.medium == "pipe":
                await source.hear("done")
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
        path.unlink()
        return Move(total_s, work.data_bytes, source=used[0], destination=used[1])


def main(order: dict[str, Any]) -> None:
    """Be one of the two processes."""
    block = RAMBlock.allocate("ram", order["data_bytes"], backing="anonymous", prefault=True)
    with block.view as memory:
        _say("ready")
        sys.stdin.readline()
        if order["side"] == "source":
            _write(order, memory)
        else:
            _read(order, memory)
        _say("done")
        sys.stdin.read()


def _write(order: dict[str, Any], memory: memoryview) -> None:
    descriptor = os.open(order["path"], os.O_WRONLY | os.O_CREAT, 0o600)
    if order["medium"] == "pipe":
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, MIB)
    position = 0
    while position < len(memory):
        position += os.write(descriptor, memory[position : position + _PIECE])
    if order["medium"] == "file":
        os.fsync(descriptor)
    os.close(descriptor)


def _read(order: dict[str, Any], memory: memoryview) -> None:
    descriptor = os.open(order["path"], os.O_RDONLY)
    position = 0
    while position < len(memory):
        count = os.readv(descriptor, [memory[position : position + _PIECE]])
        if not count:
            raise EOFError("the writer has ended")
        position += count
    os.close(descriptor)


def _say(event: str) -> None:
    print(json.dumps({"event": event}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
