"""Somebody between a client and a server: passes their bytes on, keeps them, and may stop."""

from __future__ import annotations

import socket
import threading
from enum import Enum
from typing import TYPE_CHECKING, Self

from nbd_peers import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Then(Enum):
    """What becomes of a connection that has had its bytes."""

    CUT = "cut"
    STALL = "stall"


class Relay:
    """Listens at one Unix socket and connects to another, for each client anew.

    Args:
        listen: Where clients come to.
        server: Where they are brought to.
        most_from_client: Bytes that are passed on of each.
        most_from_server: Bytes that are passed on to each.
        then: What happens when there were more.

    Attributes:
        from_clients: All that they have said.
        from_server: All that it has said.
        flips: Which of the server's bytes comes with one bit changed, if any does.
    """

    def __init__(
        self,
        listen: Path,
        server: Path,
        *,
        most_from_client: int | None = None,
        most_from_server: int | None = None,
        then: Then = Then.CUT,
    ) -> None:
        self.from_clients = bytearray()
        self.from_server = bytearray()
        self.flips: int | None = None
        self._server = server
        self._most = {True: most_from_client, False: most_from_server}
        self._then = then
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(listen))
        self._listening.listen()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut(self._listening)
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        for one in (self._listening, *self._sockets):
            one.close()

    def cut(self, *sockets: socket.socket) -> None:
        """End connections: these, or all."""
        for one in sockets or self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is cut already

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._sockets += [client, server]
            for one, other, is_client in ((client, server, True), (server, client, False)):
                pump = threading.Thread(target=self._pump, args=(one, other, is_client))
                self._threads.append(pump)
                pump.start()

    def _pump(self, one: socket.socket, other: socket.socket, is_client: bool) -> None:
        most, kept = self._most[is_client], self.from_clients if is_client else self.from_server
        passed = 0
        try:
            while data := bytearray(one.recv(65536)):
                if not is_client and self.flips is not None and self.flips < len(kept) + len(data):
                    data[self.flips - len(kept)] ^= 1
                    self.flips = None
                kept += data
                left = len(data) if most is None else most - passed
                other.sendall(data[:left])
                passed += len(data[:left])
                if left <= len(data) and most is not None:
                    if self._then is Then.STALL:
                        return
                    break
        except OSError:
            pass  # somebody has left
        self.cut(one, other)
