"""A QMP client: commands, their answers, and events, over one connection.

It knows no command but the one that begins the conversation. Whether a QEMU or our own server
answers makes no difference.
"""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager, contextmanager, nullcontext
from itertools import count
from typing import TYPE_CHECKING, Final

import trio

from transship.control.address import QmpAddress
from transship.control.client.errors import (
    QmpClosedError,
    QmpCommandError,
    QmpConnectError,
    QmpError,
    QmpProtocolError,
    QmpTimeoutError,
)
from transship.control.client.events import QmpEvent, QmpEvents
from transship.control.client.messages import Json, JsonValue, MessageReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

_OUT_OF_BAND: Final = "oob"

_IN_FLIGHT: Final = 8
"""A QEMU stops reading while more commands than these wait for their answers."""


class _Answer:
    """What a command waits for; its message stays empty if there will be none."""

    def __init__(self) -> None:
        self.message: Json = {}
        self.is_settled = trio.Event()


class QmpClient:
    """A connection on which commands can be given, by several tasks at once.

    :func:`open_qmp` makes one.

    Attributes:
        address: Whom it talks to.
        version: What the peer calls its version, such as ``10.0.2``; empty if it says none.
        package: Who built it, such as ``transship 0.1.0``, or a distribution; empty as well.
        answer_timeout_s: How long a command waits for its answer.
        can_overtake: Whether the peer has agreed to carry out some commands before their turn.
    """

    def __init__(
        self, address: QmpAddress, stream: trio.abc.Stream, answer_timeout_s: float
    ) -> None:
        self.address = address
        self.version = ""
        self.package = ""
        self.answer_timeout_s = answer_timeout_s
        self.can_overtake = False
        self._stream = stream
        self._messages = MessageReader(stream, address)
        self._ids = count(1)
        self._slots = trio.Semaphore(_IN_FLIGHT)
        self._answers: dict[int, _Answer] = {}
        self._subscribers: list[QmpEvents] = []
        self._to_be_sent, self._to_send = trio.open_memory_channel[bytes](_IN_FLIGHT)
        self._failure: QmpError | None = None
        self._offers_overtaking = False

    async def execute(self, command: str, /, **arguments: object) -> JsonValue:
        """Give a command, and return what the peer returns.

        Args:
            command: Its name, such as ``query-status``.
            arguments: Its arguments; underscores in names become hyphens.

        Raises:
            QmpCommandError: The peer refuses.
            QmpTimeoutError: It does not answer.
            QmpError: The connection is lost.

        Cancellation: the command is carried out, or not; the connection stays good.
        """
        return await self._exchange("execute", command, arguments, self._slots)

    async def overtake(self, command: str, /, **arguments: object) -> JsonValue:
        """Give a command that is carried out at once, also by a QEMU that hangs in another.

        Few commands can be: ``yank`` is one. A peer that has not agreed to it carries it out in
        its turn.

        Args:
            command: Its name.
            arguments: As those of :meth:`execute`.

        Raises:
            QmpError: As :meth:`execute` does.

        Cancellation: as that of :meth:`execute`.
        """
        key = "exec-oob" if self.can_overtake else "execute"
        return await self._exchange(key, command, arguments, nullcontext())

    async def _exchange(
        self,
        key: str,
        command: str,
        arguments: Mapping[str, object],
        turn: AbstractAsyncContextManager[None],
    ) -> JsonValue:
        number = next(self._ids)
        request: dict[str, object] = {key: command, "id": number}
        if arguments:
            request["arguments"] = {
                name.replace("_", "-"): value for name, value in arguments.items()
            }
        self.check()
        answer = self._answers[number] = _Answer()
        try:
            with trio.fail_after(self.answer_timeout_s):
                async with turn:
                    await self._to_be_sent.send(json.dumps(request).encode() + b"\n")
                    await answer.is_settled.wait()
        except trio.TooSlowError:
            raise QmpTimeoutError(
                f"{self.address} did not answer {command} within {self.answer_timeout_s:g} s"
            ) from None
        except trio.BrokenResourceError:
            pass  # the connection was lost before it could be sent
        finally:
            del self._answers[number]
        if not answer.message:
            self.check()
        if "error" in answer.message:
            error = _object(answer.message["error"])
            reason = error.get("desc", "no reason given")
            raise QmpCommandError(command, str(error.get("class", "")), str(reason))
        return answer.message["return"]

    @contextmanager
    def subscribe(self) -> Iterator[QmpEvents]:
        """Receive the events that come from now on."""
        events = QmpEvents(self.check)
        self._subscribers.append(events)
        try:
            yield events
        finally:
            self._subscribers.remove(events)

    def check(self) -> None:
        """Do nothing while the connection is good.

        Raises:
            QmpError: It is lost.
        """
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args) from self._failure

    async def greet(self) -> None:
        """Take the greeting; for :func:`open_qmp`."""
        greeting = _object((await self._messages.next()).get("QMP"))
        if "version" not in greeting:
            raise QmpProtocolError(f"{self.address} does not greet as a QMP server does")
        offered = greeting.get("capabilities")
        self._offers_overtaking = isinstance(offered, list) and _OUT_OF_BAND in offered
        said = _object(greeting["version"])
        version = _object(said.get("qemu"))
        parts = [version.get(part) for part in ("major", "minor", "micro")]
        self.package = str(said.get("package", ""))
        self.version = ".".join(str(part) for part in parts if part is not None)

    async def agree(self, *, overtakes: bool) -> None:
        """End the negotiation; for :func:`open_qmp`."""
        if overtakes and self._offers_overtaking:
            await self.execute("qmp_capabilities", enable=[_OUT_OF_BAND])
            self.can_overtake = True
        else:
            await self.execute("qmp_capabilities")

    async def read(self) -> None:
        """Hand out what comes, until the connection is lost; for :func:`open_qmp`."""
        try:
            while True:
                self._hand_out(await self._messages.next())
        except QmpError as error:
            self._fail(error)

    async def write(self) -> None:
        """Send what is to be sent, until the connection is lost; for :func:`open_qmp`.

        In a task of its own, so that a cancelled command is not cut off in its middle.
        """
        try:
            async for request in self._to_send:
                await self._stream.send_all(request)
        except trio.ClosedResourceError:
            pass  # the reader has noticed
        except trio.BrokenResourceError:
            self._fail(QmpClosedError(f"{self.address} broke the connection"))

    def _hand_out(self, message: Json) -> None:
        if "event" in message:
            event = QmpEvent(str(message["event"]), _object(message.get("data")))
            for subscriber in self._subscribers:
                subscriber.put(event)
        elif "return" in message or "error" in message:
            number = message.get("id")
            answer = self._answers.get(number) if isinstance(number, int) else None
            if answer is not None:
                answer.message = message
                answer.is_settled.set()

    def _fail(self, error: QmpError) -> None:
        self._failure = self._failure or error
        self._to_send.close()
        for answer in self._answers.values():
            answer.is_settled.set()
        for subscriber in self._subscribers:
            subscriber.put(None)


@asynccontextmanager
async def open_qmp(
    address: QmpAddress | str,
    *,
    timeout_s: float = 10.0,
    answer_timeout_s: float = 60.0,
    overtakes: bool = False,
) -> AsyncIterator[QmpClient]:
    """Connect to a QMP server and begin the conversation; closes the connection at the end.

    Args:
        address: A :class:`QmpAddress`, or its text.
        timeout_s: Until the conversation has begun.
        answer_timeout_s: For each command. A QEMU whose main loop is blocked answers late.
        overtakes: Whether some commands are to be carried out before their turn, if the peer can:
            :meth:`QmpClient.overtake`.

    Raises:
        ValueError: The text is no address.
        QmpConnectError: Nobody listens there, or we may not talk to it.
        QmpProtocolError: What listens is no QMP server.
        QmpTimeoutError: It says nothing.
        QmpError: It closes the connection, or refuses.
    """
    if isinstance(address, str):
        address = QmpAddress.parse(address)
    failure: Exception | None = None
    deadline = trio.current_time() + timeout_s
    async with await _connect(address, deadline) as stream:
        client = QmpClient(address, stream, answer_timeout_s)
        async with trio.open_nursery() as nursery:
            try:
                await _begin(client, nursery, deadline, overtakes=overtakes)
                yield client
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure  # as it is, without the nursery's group around it


async def _connect(address: QmpAddress, deadline: float) -> trio.SocketStream:
    try:
        with trio.fail_at(deadline):
            if address.path:
                return await trio.open_unix_socket(address.path)
            return await trio.open_tcp_stream(address.host, address.port)
    except (OSError, ValueError) as error:
        raise QmpConnectError(f"cannot connect to {address}: {_reason(error)}") from error
    except trio.TooSlowError:
        raise QmpConnectError(f"cannot connect to {address}: no answer") from None


async def _begin(
    client: QmpClient, nursery: trio.Nursery, deadline: float, *, overtakes: bool
) -> None:
    try:
        with trio.fail_at(deadline):
            await client.greet()
            nursery.start_soon(client.read)
            nursery.start_soon(client.write)
            await client.agree(overtakes=overtakes)
    except trio.TooSlowError:
        raise QmpTimeoutError(
            f"{client.address} accepts connections and says nothing; a QEMU talks to one client "
            "at a time on each of its QMP sockets"
        ) from None


def _reason(error: Exception) -> str:
    """What the system said; a connection to a name tries several addresses."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        error = next((one for one in cause.exceptions if isinstance(one, OSError)), error)
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _object(value: JsonValue) -> Json:
    """The value, if it is an object; otherwise an empty one."""
    return value if isinstance(value, dict) else {}
