"""A QMP server that speaks a script, on a real socket. Its words are those of a QEMU 10.0."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

Json = dict[str, Any]

GREETING: Final[Json] = {
    "QMP": {
        "version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""},
        "capabilities": ["oob"],
    }
}


@dataclass(frozen=True)
class Refusal:
    """An answer: the command is refused."""

    description: str
    error_class: str = "GenericError"


class Hangup:
    """An answer: none, the connection is closed."""


class Silence:
    """An answer: none."""


@dataclass
class Dialogue:
    """What the server says.

    Attributes:
        answers: For each command, what it returns, in turn; the last answer is given again and
            again. A function is asked each time. A command that is not there returns nothing.
        greeting: The first message, or bytes that are none.
        events: Emitted before the answer to a command, once.
        heard: The commands that were given, in order, with their arguments.
    """

    answers: Mapping[str, Sequence[object]] = field(default_factory=dict)
    greeting: Json | bytes = field(default_factory=lambda: GREETING)
    events: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    heard: list[tuple[str, Json]] = field(default_factory=list)

    def commands(self) -> list[str]:
        """The commands that were given and changed something."""
        return [command for command, _ in self.heard if not command.startswith(("query", "qmp_"))]

    def arguments_of(self, command: str) -> Json:
        """The arguments of a command that was given once."""
        (arguments,) = [arguments for one, arguments in self.heard if one == command]
        return arguments


@asynccontextmanager
async def speaking(dialogue: Dialogue, path: Path) -> AsyncIterator[str]:
    """Serve a dialogue to whoever connects; gives the address."""
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen()
    async with trio.open_nursery() as nursery:
        listener = trio.SocketListener(sock)
        nursery.start_soon(trio.serve_listeners, _speaker(dialogue), [listener])
        yield f"unix:{path}"
        nursery.cancel_scope.cancel()


def _speaker(dialogue: Dialogue) -> Any:
    counts: dict[str, int] = {}

    async def speak(stream: trio.SocketStream) -> None:
        greeting = dialogue.greeting
        await stream.send_all(greeting if isinstance(greeting, bytes) else encode(greeting))
        received = b""
        async for data in stream:
            received += data
            *lines, received = received.split(b"\n")
            for line in lines:
                if not await answer(stream, json.loads(line)):
                    return

    async def answer(stream: trio.SocketStream, request: Json) -> bool:
        command = request.get("execute") or request["exec-oob"]
        dialogue.heard.append((command, request.get("arguments", {})))
        turn = counts[command] = counts.get(command, -1) + 1
        if turn == 0:
            for event in dialogue.events.get(command, ()):
                await stream.send_all(encode(event))
        answers = dialogue.answers.get(command, [{}])
        said = answers[min(turn, len(answers) - 1)]
        match said(dialogue) if callable(said) else said:
            case Hangup():
                return False
            case Silence():
                return True
            case Refusal(description, error_class):
                error = {"class": error_class, "desc": description}
                await stream.send_all(encode({"id": request["id"], "error": error}))
            case value:
                await stream.send_all(encode({"return": value, "id": request["id"]}))
        return True

    async def speak_quietly(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await speak(stream)
        except trio.BrokenResourceError:
            pass  # the client has gone

    return speak_quietly


def encode(message: Json) -> bytes:
    """A message as a QEMU sends it."""
    return json.dumps(message).encode() + b"\r\n"
