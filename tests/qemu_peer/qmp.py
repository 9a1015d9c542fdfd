"""A small QMP client for the tests: one JSON object a line, over a unix socket.

It has no background task. Messages are read while somebody waits for one, and events that arrive
meanwhile are kept in `events`. Several tasks may use one client.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

POLL_S = 0.02
"""Pause between two looks at something that QEMU does not announce."""

_LONGEST_LINE_BYTES = 16 << 20  # query-qmp-schema, the longest answer, has some 300 KiB

Json = dict[str, Any]
"""One message, or a part of one, as the json module reads it."""


class QmpError(Exception):
    """A command was answered with an error.

    Attributes:
        error_class: QEMU's word for the kind, mostly `GenericError`.
        description: Its sentence.
    """

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(f"{command}: {description} ({error_class})")
        self.command = command
        self.error_class = error_class
        self.description = description


class QmpClosed(Exception):
    """QEMU closed the connection: it has ended, or is about to."""


class QmpClient:
    """A connection on which commands may be given.

    Attributes:
        events: All events so far, in their order, as QEMU sent them.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.events: list[Json] = []
        self._stream = stream
        self._received = bytearray()
        self._next_id = 0
        self._exchange = trio.Lock()

    @classmethod
    async def connect(cls, path: Path, *, timeout_s: float = 10.0) -> Self:
        """Connect, trying again until QEMU listens, and leave the greeting behind.

        Raises:
            trio.TooSlowError: Nobody listened in time.
        """
        with trio.fail_after(timeout_s):
            client = cls(await _connect(path))
            try:
                await client._read_message()
                await client.execute("qmp_capabilities")
            except BaseException:
                await trio.aclose_forcefully(client._stream)
                raise
        return client

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Give a command and return what it returns.

        Args:
            command: Its name, such as `query-status`.
            arguments: Its arguments; underscores in names become hyphens.

        Raises:
            QmpError: QEMU refused.
            QmpClosed: QEMU ended instead.

        Cancellation: the command may or may not have been carried out; its late answer is ignored.
        """
        async with self._exchange:
            self._next_id += 1
            request: Json = {"execute": command, "id": self._next_id}
            if arguments:
                request["arguments"] = {
                    name.replace("_", "-"): value for name, value in arguments.items()
                }
            try:
                await self._stream.send_all(json.dumps(request).encode() + b"\n")
            except trio.BrokenResourceError as error:
                raise QmpClosed(f"QEMU did not take {command}") from error
            while True:
                message = await self._read_message()
                if message.get("id") != request["id"]:
                    continue
                if "error" in message:
                    error_body = message["error"]
                    raise QmpError(command, error_body["class"], error_body["desc"])
                return message["return"]

    async def wait_event(
        self,
        name: str,
        *,
        timeout_s: float = 10.0,
        matches: Callable[[Json], bool] = lambda data: True,
        start: int = 0,
    ) -> Json:
        """Return the first event of a name, from those that came already or will come.

        Args:
            name: Such as `STOP` or `MIGRATION`.
            timeout_s: Give up after this.
            matches: Says of the event's data whether it is the wanted one.
            start: Pass over this many events; `len(client.events)` waits for a new one.

        Raises:
            trio.TooSlowError: None came in time.
            QmpClosed: QEMU ended instead.
        """
        with trio.fail_after(timeout_s):
            seen = start
            while True:
                for event in self.events[seen:]:
                    if event["event"] == name and matches(event.get("data", {})):
                        return event
                seen = max(seen, len(self.events))
                async with self._exchange:
                    with trio.move_on_after(POLL_S):
                        await self._read_message()

    async def aclose(self) -> None:
        """Close the connection; QEMU goes on."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _read_message(self) -> Json:
        """Read one message; keep it if it is an event. A cancelled read loses nothing."""
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > _LONGEST_LINE_BYTES:
                raise QmpClosed("QEMU sends an endless line")
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError as error:
                raise QmpClosed("QEMU broke the QMP connection") from error
            if not data:
                raise QmpClosed("QEMU closed the QMP connection")
            self._received += data
        message: Json = json.loads(self._received[:end])
        del self._received[: end + 1]
        if "event" in message:
            self.events.append(message)
        return message


async def _connect(path: Path) -> trio.SocketStream:
    while True:
        try:
            return await trio.open_unix_socket(path)
        except (FileNotFoundError, ConnectionRefusedError):
            await trio.sleep(POLL_S)
