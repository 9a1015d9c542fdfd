"""A QMP connection on which anything can be said, also what is no request."""

from __future__ import annotations

import array
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from .script import number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

POLL_S: Final = 0.02

LATE_S: Final = 10.0
"""How long an answer or an event may take."""

QUIET_S: Final = 0.15
"""How long nothing has to come until it counts as nothing."""

Json = dict[str, Any]


class Connection:
    """A connection on which one request is made at a time, whatever its bytes are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._received = bytearray()
        self._events: list[Json] = []
        self._ended = False

    async def __aenter__(self) -> Self:
        with trio.fail_after(LATE_S):
            while True:
                try:
                    await self._socket.connect(str(self._path))
                except (FileNotFoundError, ConnectionRefusedError):
                    self._socket.close()
                    self._socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    await trio.sleep(POLL_S)
                else:
                    return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    async def greet(self, *, negotiate: bool) -> Json:
        """Read the greeting and return it."""
        with trio.fail_after(LATE_S):
            greeting = await self._message()
            assert greeting is not None, "the connection ended before the greeting"
            if negotiate:
                reply = await self.ask(b'{"execute": "qmp_capabilities"}')
                assert reply == {"return": {}}, reply
        return greeting

    async def ask(
        self, request: bytes, *, silent: bool = False, fd: int | None = None
    ) -> Json | None:
        """Send a request and return the answer; None if there is none."""
        ancillary = (
            []
            if fd is None
            else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())]
        )
        data = request + b"\n" if request else b""
        with suppress(BrokenPipeError, ConnectionResetError):
            while data:
                data = data[await self._socket.sendmsg([data], ancillary) :]
                ancillary = []
        with trio.move_on_after(QUIET_S if silent else LATE_S):
            while (message := await self._message()) is not None:
                if "event" not in message:
                    return message
                self._events.append(message)
        return None

    async def events(self, expected: Sequence[str], *, but: str | None) -> list[Json]:
        """Return the events that came since the last call: as many as expected, or more.

        Args:
            expected: Some are waited for.
            but: The name of those that are left out.
        """

        def counted() -> list[Json]:
            return [event for event in self._events if event["event"] != but]

        with trio.move_on_after(LATE_S):
            while len(counted()) < len(expected) and await self._read_event():
                pass
        with trio.move_on_after(QUIET_S):
            while await self._read_event():
                pass
        events, self._events = counted(), []
        return events

    async def ends(self) -> bool:
        """Whether the other side closes the connection, soon."""
        with trio.move_on_after(LATE_S):
            while await self._read_event():
                pass
        return self._ended

    async def drop(self) -> None:
        """Drop what still comes, until nothing does."""
        with trio.move_on_after(QUIET_S):
            while await self._message() is not None:
                pass

    async def _read_event(self) -> bool:
        message = await self._message()
        if message is None:
            return False
        assert "event" in message, f"an answer to no request: {message}"
        self._events.append(message)
        return True

    async def _message(self) -> Json | None:
        """Read one message; None at the end. A cancelled read loses nothing."""
        while b"\n" not in self._received:
            try:
                data = await self._socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self._ended = True
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: Json = json.loads(line, parse_float=number)
        return message
