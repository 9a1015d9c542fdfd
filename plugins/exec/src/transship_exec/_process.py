"""A command that runs: its three streams, what it complains of, how it ends, and that it does."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from transship.errors import ChannelError, ConnectError, MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship_exec._uri import Command

_SAID_BYTES: Final = 2048
"""How much of what a command writes to its standard error is kept: the last of it."""

_TERMINATE_S: Final = 0.3
"""How long a command may take to clean up before it is killed."""

_KILL_S: Final = 5.0
"""How long a command that was killed may take: it may hang in the kernel, as on a lost network."""

_LAST_WORDS_S: Final = 0.5
"""How long to wait, when the channel broke, for the command to end and say why."""


class Process:
    """A command in a process group of its own.

    Args:
        command: What it runs.
        popen: It.
        pidfd: Says when it has ended; owned from now on.
        errors: Its standard error, to be read; owned from now on.

    Attributes:
        status: Its exit status if it has ended before it was told to, as a shell has it in ``$?``:
            128 and the signal's number if a signal ended it.
    """

    def __init__(
        self, command: Command, popen: subprocess.Popen[bytes], pidfd: int, errors: int
    ) -> None:
        self.command = command
        self.status: int | None = None
        self._popen = popen
        self._pidfd = pidfd
        self._errors = trio.lowlevel.FdStream(errors)
        self._said = b""
        self._has_been_signalled = False
        self._is_closed = False
        self._has_ended = trio.Event()
        self._is_silent = trio.Event()
        self._watching = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._watch)

    async def _watch(self) -> None:
        try:
            with self._watching:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen)
                    await trio.lowlevel.wait_readable(self._pidfd)
                    self._has_ended.set()
        finally:
            self._is_silent.set()

    async def _listen(self) -> None:
        """Keep the last words of the command; it never waits for a reader."""
        with suppress(OSError, trio.BrokenResourceError):
            async for data in self._errors:
                self._said = (self._said + data)[-_SAID_BYTES:]
        self._is_silent.set()

    async def wait(self, seconds: float) -> int | None:
        """Wait so long for its end. Returns its exit status, or None."""
        if not self._has_been_signalled:
            with trio.move_on_after(seconds):
                await self._has_ended.wait()
            if self._has_ended.is_set() and not self._has_been_signalled:
                # Its status is left with the kernel: until then nobody else gets its group.
                self.status = _status_of(self._pidfd)
                with trio.move_on_after(_LAST_WORDS_S):
                    await self._is_silent.wait()
        return self.status

    def complaint(self) -> str | None:
        """How it ended, and what it said, if it did not end well."""
        if not self.status:
            return None
        said = self._said.decode(errors="backslashreplace").strip()
        return f"exit status {self.status}" + (f", and it said: {said}" if said else "")

    async def explain(self, failure: BaseException) -> None:
        """Add to the errors of a failure what the command itself has to say; shielded."""
        errors = [error for error in _leaves(failure) if isinstance(error, MigrationError)]
        if not errors:
            return
        with trio.CancelScope(shield=True):
            await self.wait(_LAST_WORDS_S)
        if complaint := self.complaint():
            for error in errors:
                if complaint not in str(error):
                    error.cause = f"{error.cause}; the command ended with {complaint}"

    async def aclose(self) -> None:
        """End it, and whatever it started and left in its group; shielded, idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        with trio.CancelScope(shield=True):
            self._has_been_signalled = True
            self._signal(signal.SIGTERM)
            with trio.move_on_after(_TERMINATE_S):
                await self._has_ended.wait()
            self._signal(signal.SIGKILL)
            with trio.move_on_after(_KILL_S):
                await self._has_ended.wait()
            self._popen.poll()  # one that the kernel does not let go of is waited for by the next
            self._watching.cancel()
            await self._is_silent.wait()
            os.close(self._pidfd)
            await self._errors.aclose()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


async def start(command: Command, stdin: int, stdout: int) -> Process:
    """Run a command.

    Args:
        command: What to run.
        stdin: What it reads; borrowed, as is ``stdout``.
        stdout: What it writes.

    Raises:
        ConnectError: The program cannot be run.
    """
    errors, said = os.pipe()
    try:
        popen, pidfd = await trio.to_thread.run_sync(_popen, command, stdin, stdout, said)
    except BaseException as error:
        os.close(errors)
        if isinstance(error, OSError):
            raise ConnectError(f"cannot run {command}: {error.strerror}") from error
        raise
    finally:
        os.close(said)
    return Process(command, popen, pidfd, errors)


def _popen(
    command: Command, stdin: int, stdout: int, stderr: int
) -> tuple[subprocess.Popen[bytes], int]:
    popen = subprocess.Popen(
        command.args, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
    )
    try:
        return popen, os.pidfd_open(popen.pid)
    except BaseException:
        popen.kill()
        popen.wait()
        raise


def _status_of(pidfd: int) -> int:
    """The exit status of a process that has ended, and is still to be waited for."""
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status


def failed(process: Process) -> ChannelError:
    """The error for a command that ended, and not well."""
    return ChannelError(
        f"the command {process.command.text!r} failed",
        expected="exit status 0",
        found=process.complaint(),
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
