"""A process of ours as one side of a move: the end that gives the orders to :mod:`bench.peer`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

Json = dict[str, Any]

_READY_TIMEOUT_S: Final = 120.0
_LONGEST_LINE_BYTES: Final = 1 << 20


def environment() -> dict[str, str]:
    """In which Python finds the modules of this program, whoever has started it.

    And keeps what it has compiled, as it does where software is installed.
    """
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    return inherited | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


class PeerFailed(Exception):
    """A process of ours ended, or was silent, where it should have spoken."""


class PeerProcess:
    """An async context manager: the process runs inside, and is killed at the end.

    Args:
        order: What it is to be; see the module.
        module: What it runs.
    """

    def __init__(self, order: Mapping[str, object], module: str = "bench.peer") -> None:
        self._command = [sys.executable, "-m", module, json.dumps(order)]
        self._received = bytearray()
        self._process: trio.Process

    async def __aenter__(self) -> Self:
        self._process = await trio.lowlevel.open_process(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.CancelScope(shield=True):
            self._process.kill()
            await self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    await pipe.aclose()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def tell(self, words: str) -> None:
        """Say one line."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(words.encode() + b"\n")

    async def hear(self, event: str, timeout_s: float = _READY_TIMEOUT_S) -> Json:
        """Wait for an event. Returns all that it says.

        Raises:
            PeerFailed: It said something else, nothing in time, or has ended.
        """
        with trio.move_on_after(timeout_s):
            line = await self._line()
            said: Json = json.loads(line) if line else {"event": "the end"}
            if said.pop("event") != event:
                raise PeerFailed(f"a process of ours was to say {event!r}, and said {line!r}")
            return said
        raise PeerFailed(f"a process of ours did not say {event!r} within {timeout_s:.0f} s")

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > _LONGEST_LINE_BYTES:
                raise PeerFailed("a process of ours said too much")
            if not (more := await self._process.stdout.receive_some()):
                return b""
            self._received += more
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line
