"""Whole disks over NBD, out of a qemu-nbd or into one: by qemu-img, and by our client.

``python -m bench.contestants.disks ORDER`` is the process of our client, which is there before it
is asked to copy; the start of qemu-img, some hundredths of a second, counts. The memory of qemu-img
is not measured: what the kernel says of a process that has ended, it had from its parent.
"""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from bench.contestants.base import Contestant
from bench.contestants.process import PeerProcess
from bench.measuring import MIB, Meter, Move, Side
from transship_nbd.client import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bench.place import Place
    from bench.workloads import Workload

Way = Literal["out", "in"]
"""Out of an NBD server into a file, or out of a file into a server."""

_PIECE: Final = MIB
_THREADS: Final = 4
_PATIENCE_S: Final = 20.0


@dataclass(frozen=True)
class DiskCopy(Contestant):
    """Copies a disk between a file and an NBD server.

    Args:
        who: ``qemu-img convert`` or ``our client``.
        way: Out of the server or into it.
    """

    who: str = "our client"
    way: Way = "out"

    @property
    def name(self) -> str:
        return self.who

    @property
    def sides(self) -> str:
        return self.who

    def own_bytes(self, work: Workload) -> int:
        return 0

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        source = await trio.to_thread.run_sync(place.fill_source, work)
        destination = await trio.to_thread.run_sync(place.clear_destination, work)
        served, other = (source, destination) if self.way == "out" else (destination, source)
        async with _served(served, place.fresh("nbd"), self.way) as (server, uri):
            if self.who == "our client":
                total_s, client, used = await self._by_us(uri, other, work, server)
            else:
                total_s, client, used = await self._by_qemu_img(uri, other, server)
        is_right = await trio.to_thread.run_sync(
            lambda: filecmp.cmp(source, destination, shallow=False)
        )
        sides = (used, client) if self.way == "out" else (client, used)
        return Move(
            total_s, work.data_bytes, source=sides[0], destination=sides[1], is_right=is_right
        )

    async def _by_us(
        self, uri: str, file: Path, work: Workload, server: int
    ) -> tuple[float, Side, Side]:
        order = {"uri": uri, "file": str(file), "size_bytes": work.ram_bytes, "way": self.way}
        async with PeerProcess(order, module="bench.contestants.disks") as process:
            await process.hear("ready")
            meters = [Meter(pid, 0) for pid in (process.pid, server)]
            began = time.perf_counter()
            await process.tell("copy")
            await process.hear("done")
            total_s = time.perf_counter() - began
            client, used = (meter.read() for meter in meters)
        return total_s, client, used

    async def _by_qemu_img(self, uri: str, file: Path, server: int) -> tuple[float, Side, Side]:
        ends = (uri, str(file)) if self.way == "out" else (str(file), uri)
        command = ["qemu-img", "convert", "-n", "-S", "0", "-f", "raw", "-O", "raw", *ends]
        meter = Meter(server, 0)

        def run() -> tuple[float, Side]:
            began = time.perf_counter()
            process = subprocess.Popen(command)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            total_s = time.perf_counter() - began
            _, status, spent = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, command)
            return total_s, Side(spent.ru_utime + spent.ru_stime, 0, 0)

        total_s, client = await trio.to_thread.run_sync(run)
        return total_s, client, meter.read()


@asynccontextmanager
async def _served(image: Path, socket: Path, way: Way) -> AsyncIterator[tuple[int, str]]:
    """A qemu-nbd for one client; its process and its address."""
    access = ["--read-only"] if way == "out" else []
    command = ["qemu-nbd", "-f", "raw", "--persistent", "-k", str(socket), *access, str(image)]
    process = await trio.lowlevel.open_process(command)
    try:
        await trio.to_thread.run_sync(_wait_for, socket)
        yield process.pid, f"nbd+unix:///?socket={socket}"
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def _wait_for(socket: Path) -> None:
    """Return when a socket is there.

    Raises:
        TimeoutError: It does not come.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not socket.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"qemu-nbd has made no {socket}")
        time.sleep(0.01)


def main(order: dict[str, Any]) -> None:
    """Be our client."""
    device = connect(order["uri"])
    if order["way"] == "in":
        device.acquire()
    descriptor = os.open(order["file"], os.O_RDWR)
    _say("ready")
    sys.stdin.readline()

    def copy_out(place: int, piece: memoryview) -> None:
        device.read_into(place, piece)
        os.pwrite(descriptor, piece, place)

    def copy_in(place: int, piece: memoryview) -> None:
        os.preadv(descriptor, [piece], place)
        device.write(place, piece)

    _each_piece(order["size_bytes"], copy_out if order["way"] == "out" else copy_in)
    if order["way"] == "in":
        device.flush()
    _say("done")
    sys.stdin.read()


def _each_piece(size_bytes: int, copy: Callable[[int, memoryview], None]) -> None:
    """Copy all pieces, several at once."""
    places = iter(range(0, size_bytes, _PIECE))
    taking = threading.Lock()

    def work() -> None:
        room = memoryview(bytearray(_PIECE))
        while True:
            with taking:
                place = next(places, None)
            if place is None:
                return
            copy(place, room[: min(_PIECE, size_bytes - place)])

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _say(event: str) -> None:
    print(json.dumps({"event": event}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
