"""The verbs of `transship` as real processes, started for a test and ended with it.

Knows nothing of QEMU: what a verb talks to is a URI. Needs no nursery: output goes to unnamed
files, so nobody has to empty a pipe, and what was said can be read at any time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Self

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

POLL_S = 0.01
"""Pause between two looks at what a process has said."""

_START_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 60.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a verb ended.

    Attributes:
        exit_code: Its exit status; negative for a signal.
        events: The JSON objects on its standard output, in order.
        stderr: All it said on standard error.
    """

    exit_code: int
    events: tuple[Json, ...]
    stderr: str

    @property
    def facts(self) -> Json:
        """The one object that it printed.

        Raises:
            AssertionError: It printed none, or several.
        """
        assert len(self.events) == 1, f"{len(self.events)} results; it said: {self.stderr}"
        return self.events[0]

    @property
    def error(self) -> Json:
        """Why it failed, as `--json` says it.

        Raises:
            AssertionError: It says that it did not fail.
        """
        error = self.facts["error"]
        assert isinstance(error, dict), f"no error in {self.facts}"
        return error

    def expect(self, exit_code: int) -> Self:
        """Return self.

        Raises:
            AssertionError: It ended with another exit code.
        """
        assert self.exit_code == exit_code, (
            f"exit code {self.exit_code} where {exit_code} was expected; "
            f"results: {self.events}; it said: {self.stderr}"
        )
        return self


class VerbProcess:
    """An async context manager: a verb runs inside, and is killed at the end if it still runs.

    An exception that leaves the block carries what the verb said as a note.

    Args:
        arguments: The verb, its arguments and options; `--json` is added.
        descriptors: What it inherits; the caller's to close, once it has started.
    """

    def __init__(self, *arguments: str | Path, descriptors: Sequence[int] = ()) -> None:
        self.verb = str(arguments[0])
        self._descriptors = tuple(descriptors)
        self._command = [sys.executable, "-m", "transship", *map(str, arguments), "--json"]
        self._stdout: IO[bytes]
        self._stderr: IO[bytes]
        self._files: ExitStack
        self._process: trio.Process

    async def __aenter__(self) -> Self:
        with ExitStack() as started:
            self._stdout = started.enter_context(tempfile.TemporaryFile())
            self._stderr = started.enter_context(tempfile.TemporaryFile())
            self._process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._stdout,
                stderr=self._stderr,
                pass_fds=self._descriptors,
            )
            self._files = started.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.CancelScope(shield=True):
            if self._process.poll() is None:
                self._process.kill()
            await self._process.wait()
        if error is not None and (said := self.stderr_text().strip()):
            error.add_note(f"transship {self.verb} said: {said}")
        self._files.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll()

    def stderr_text(self) -> str:
        """Return all that it said on standard error so far."""
        return _content(self._stderr).decode(errors="replace")

    async def listening(self) -> str:
        """Wait until it says that a source can connect; return the address that it says.

        Raises:
            AssertionError: It ended without saying so.
            trio.TooSlowError: It says nothing.
        """
        return await self.said("listening ", timeout_s=_START_TIMEOUT_S)

    async def reading(self) -> str:
        """The same where nobody connects: wait until it reads; return what."""
        return await self.said("reading ", timeout_s=_START_TIMEOUT_S)

    async def said(self, beginning: str, *, timeout_s: float = _START_TIMEOUT_S) -> str:
        """Wait for a whole line on standard error that begins so; return the rest of the line.

        Raises:
            AssertionError: It ended without saying so.
            trio.TooSlowError: It does not say so in time.
        """
        with trio.fail_after(timeout_s):
            while True:
                has_ended = self.exit_code is not None
                for line in self.stderr_text().splitlines(keepends=True):
                    if line.startswith(beginning) and line.endswith("\n"):
                        return line.removeprefix(beginning).strip()
                assert not has_ended, (
                    f"transship {self.verb} ended with exit code {self.exit_code} "
                    f"and never said {beginning.strip()!r}: {self.stderr_text()}"
                )
                await trio.sleep(POLL_S)

    async def outcome(self, *, timeout_s: float = _END_TIMEOUT_S) -> Outcome:
        """Wait until it ends by itself; return how it did.

        Raises:
            trio.TooSlowError: It still runs.
        """
        with trio.fail_after(timeout_s):
            exit_code = await self._process.wait()
        lines = _content(self._stdout).decode().splitlines()
        return Outcome(exit_code, tuple(map(json.loads, lines)), self.stderr_text())

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()


async def wait_until(verb: VerbProcess, pattern: str, *, timeout_s: float = 30.0) -> None:
    """Wait until a verb has written a line of progress that matches.

    Raises:
        AssertionError: It ended without one.
        trio.TooSlowError: There is none in time.
    """
    with trio.fail_after(timeout_s):
        while not re.search(pattern, verb.stderr_text()):
            assert verb.exit_code is None, verb.stderr_text()
            await trio.sleep(2 * POLL_S)


async def transship(*arguments: str | Path, timeout_s: float = _END_TIMEOUT_S) -> Outcome:
    """Run a verb to its end.

    Raises:
        trio.TooSlowError: It does not end in time.
    """
    async with VerbProcess(*arguments) as verb:
        return await verb.outcome(timeout_s=timeout_s)


def _content(file: IO[bytes]) -> bytes:
    """Return what a process has written; its position in the file is not ours, but shared."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
