"""The bare copy: what sockets carry between two processes of this machine, and nothing else.

A process sends as many bytes as a workload has data, 1 MiB a call, out of just as much memory;
another one receives them into as much. All of that is in place beforehand.
``python -m bench.ceiling ORDER`` is one of the two processes.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import certificates
from bench.contestants.base import Contestant
from bench.contestants.process import PeerProcess
from bench.measuring import MIB, Meter, Move
from bench.place import TLS
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.place import Place
    from bench.workloads import Workload

PIECE: Final = MIB


@dataclass(frozen=True)
class BareCopy(Contestant):
    """No migration at all, but as many bytes; over TLS, where the others are.

    Args:
        connections: Over how many connections at once.
    """

    connections: int = 1

    @property
    def sides(self) -> str:
        return "bare copy"

    @property
    def setting(self) -> str:
        return f"{self.connections} connection{'s' if self.connections > 1 else ''}"

    def own_bytes(self, work: Workload) -> int:
        return 2 * work.data_bytes

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        order: dict[str, Any] = {
            "data_bytes": work.data_bytes,
            "connections": self.connections,
            "address": place.uri("unix" if scheme == "unix" else "tcp").partition(":")[2],
            "certificates": str(place.certificates()) if scheme == TLS else None,
        }
        async with (
            PeerProcess({"side": "destination", **order}, module="bench.ceiling") as destination,
            PeerProcess({"side": "source", **order}, module="bench.ceiling") as source,
        ):
            address = (await destination.hear("ready"))["address"]
            await source.hear("ready")
            meters = [Meter(one.pid, work.data_bytes) for one in (source, destination)]
            began = time.perf_counter()
            await source.tell(address)
            await destination.hear("done")
            await source.hear("done")
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
        return Move(total_s, work.data_bytes, source=used[0], destination=used[1])


def main(order: dict[str, Any]) -> None:
    """Be one of the two processes."""
    connections, data_bytes = order["connections"], order["data_bytes"]
    secured = _securing(order)
    block = RAMBlock.allocate("ram", data_bytes, backing="anonymous", prefault=True)
    share = data_bytes // connections
    with block.view as memory:
        parts = [memory[start * share : (start + 1) * share] for start in range(connections)]
        if order["side"] == "source":
            _say(event="ready")
            address = sys.stdin.readline().strip()
            _each(lambda part: _send(address, part, secured), parts)
        else:
            listening = _listen(order["address"])
            name = listening.getsockname()
            _say(event="ready", address=name if isinstance(name, str) else f"{name[0]}:{name[1]}")
            _each(lambda part: _receive(listening, part, secured), parts)
        _say(event="done")
        sys.stdin.read()


def _securing(order: dict[str, Any]) -> Callable[[socket.socket], socket.socket]:
    """What makes of a connection the one that is used."""
    if not order["certificates"]:
        return lambda plain: plain
    is_server = order["side"] == "destination"
    context = certificates.context(Path(order["certificates"]), is_server=is_server)
    name = None if is_server else certificates.HOST
    return lambda plain: context.wrap_socket(plain, is_server, server_hostname=name)


def _each(act: Callable[[memoryview], None], parts: list[memoryview]) -> None:
    """Do something with each part at once, in a thread of its own."""
    threads = [threading.Thread(target=act, args=(part,)) for part in parts[1:]]
    for thread in threads:
        thread.start()
    act(parts[0])
    for thread in threads:
        thread.join()


def _listen(address: str) -> socket.socket:
    if address.startswith("/"):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen()
        return listening
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)))


def _send(
    address: str, part: memoryview, secured: Callable[[socket.socket], socket.socket]
) -> None:
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
    else:
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with secured(connection) as connection:
        for start in range(0, len(part), PIECE):
            connection.sendall(part[start : start + PIECE])
        connection.recv(1)  # its end: by then all is there, and what TLS says besides is read


def _receive(
    listening: socket.socket,
    part: memoryview,
    secured: Callable[[socket.socket], socket.socket],
) -> None:
    accepted, _ = listening.accept()
    with secured(accepted) as connection:
        position = 0
        while position < len(part):
            count = connection.recv_into(part[position : position + PIECE])
            if not count:
                raise EOFError("the sender has ended")
            position += count


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
