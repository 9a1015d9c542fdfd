"""A verb as a real process, talking to a scripted QMP server in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel
from qmp_dialogue import Dialogue, speaking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Run = Callable[..., Awaitable["Ended"]]

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Ended:
    """How a verb ended: its exit code, and what it said."""

    code: int
    output: str
    errors: str

    @property
    def facts(self) -> dict[str, Any]:
        """The one JSON object of its result."""
        (line,) = self.output.splitlines()
        facts: dict[str, Any] = json.loads(line)
        return facts

    @property
    def progress(self) -> list[dict[str, Any]]:
        """The JSON lines among its notes."""
        return [json.loads(line) for line in self.errors.splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class Interrupt:
    """SIGINT, whenever query-migrate has been given so often."""

    at: tuple[int, ...] = ()

    async def strike(self, dialogue: Dialogue, process: trio.Process) -> None:
        for count in self.at:
            while True:
                await trio.sleep(0.01)
                if [command for command, _ in dialogue.heard].count("query-migrate") >= count:
                    break
            process.send_signal(signal.SIGINT)


_NOTHING = Interrupt()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a verb against a dialogue, to its end."""

    async def run(
        dialogue: Dialogue,
        *arguments: str,
        by_variable: bool = False,
        interrupt: Interrupt | None = None,
    ) -> Ended:
        async with speaking(dialogue, tmp_path / "qmp") as address:
            verb, *rest = arguments
            named = [] if by_variable else ["--qmp", address]
            return await _ended(
                [sys.executable, "-m", "transship", verb, *named, *rest],
                {**os.environ, "TRANSSHIP_QMP": address if by_variable else "nonsense:"},
                partial((interrupt or _NOTHING).strike, dialogue),
            )

    return run


async def _ended(
    command: list[str],
    environment: dict[str, str],
    meanwhile: Callable[[trio.Process], Awaitable[None]],
) -> Ended:
    with TemporaryFile() as output, TemporaryFile() as errors, trio.fail_after(_PATIENCE_S):
        process = await trio.lowlevel.open_process(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        try:
            await meanwhile(process)
            code = await process.wait()
        finally:
            process.kill()
        said = [os.pread(file.fileno(), 1 << 20, 0).decode() for file in (output, errors)]
        return Ended(code, *said)
