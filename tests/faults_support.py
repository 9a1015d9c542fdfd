"""What the tests of faults share: ``transship`` as real processes, and a relay between two of them.

What a process says goes to files, so that nobody must keep up with it; a test reads them when it
wants to know something. Every process is gone when the ``with`` block is left.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import trio

from transship import assembly
from transship.guests.journal import JournalVerdict, judge_journal, read_journal
from transship.wire.constants import CommandType
from transship.wire.decoder import StreamDecoder
from transship.wire.events import Command, EndOfStream, Package, SectionHeader
from transship.wire.reader import Parsing, StreamReader, drive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from transship.abc import Guest

PATIENCE_S: Final = 60.0
"""How long a test waits for what happens within a second on an idle machine."""

_POLL_S: Final = 0.005
_TAIL_BYTES: Final = 2000

SOAK_STATE: Final = "TRANSSHIP_SOAK_STATE"
"""Environment variable: a file in which a long run notes how far it is, to go on from there."""


class Host:
    """One ``transship`` process.

    Args:
        name: For messages.
        command: What is run.
        folder: Where its output goes.
        environment: Variables to be set besides those of the test.
        descriptors: What it inherits.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
        descriptors: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self._output = folder / f"{name}.out"
        self._notes = folder / f"{name}.err"
        with self._output.open("wb") as output, self._notes.open("wb") as notes:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=notes,
                env={**os.environ, **environment},
                pass_fds=descriptors,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self) -> list[dict[str, Any]]:
        """The JSON objects printed so far, whole lines only."""
        text = self._output.read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def notes(self) -> str:
        """What went to standard error so far."""
        return self._notes.read_text(errors="replace")

    def find_event(self, *names: str) -> dict[str, Any] | None:
        """The first event with one of these names, if it has come."""
        return next((one for one in self.events() if one.get("event") in names), None)

    def find_address(self) -> str | None:
        """Where it listens, or what it reads, once it does."""
        for line in self.notes().splitlines(keepends=True):
            if line.startswith(("listening ", "reading ")) and line.endswith("\n"):
                return line.split()[1]
        return None

    async def listening(self) -> str:
        """Wait until it can be connected to; returns its address."""
        await until(lambda: self.find_address() is not None or self.has_ended, f"{self} listens")
        address = self.find_address()
        assert address is not None, f"{self} ended with {self.process.returncode}"
        return address

    async def event(self, *names: str) -> dict[str, Any]:
        """Wait for an event with one of these names."""
        what = f"{self} says {' or '.join(names)}"
        await until(lambda: self.find_event(*names) is not None or self.has_ended, what)
        event = self.find_event(*names)
        assert event is not None, f"{self} ended with {self.process.returncode} and said nothing"
        return event

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    async def ended(self, seconds: float = PATIENCE_S) -> int:
        """Wait for its end; returns the exit code, or minus the number of the signal."""
        await until(lambda: self.has_ended, f"{self} ends", seconds)
        return self.process.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if not self.has_ended:
            self.process.send_signal(number)

    async def kill(self) -> None:
        """End it as a crash does, and wait until the kernel has closed all that it had open."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> dict[str, Any]:
        """Ask for its end; returns its last event. The exit code is checked against it."""
        self.send(signal.SIGTERM)
        code = await self.ended()
        stopped = self.find_event("stopped")
        assert stopped is not None, f"{self} ended with {code} and said nothing of its guest"
        assert stopped["exit_code"] == code
        return stopped

    def story(self) -> str:
        """All that is known of it, for the message of a failed test."""
        state = f"exit {self.process.poll()}" if self.has_ended else "still there"
        output = self._output.read_text()[-_TAIL_BYTES:]
        notes = "\n".join(dict.fromkeys(self.notes().splitlines()))
        return f"--- {self} ({state})\n{output}{notes[-_TAIL_BYTES:]}"

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class Hosts:
    """Starts processes, in a folder of their own with a short name (a socket's path is short)."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="transship-"))
        self.journal = self.folder / "journal"
        self._hosts: list[Host] = []

    def unix(self, name: str) -> str:
        """An address for a socket file in the folder."""
        return f"unix:{self.folder}/{name}.sock"

    def start(
        self,
        name: str,
        *arguments: str,
        wrapper: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        descriptors: tuple[int, ...] = (),
    ) -> Host:
        """Start ``transship`` with arguments; ``--json`` is added."""
        command = [*wrapper, sys.executable, "-m", "transship", *arguments, "--json"]
        host = Host(name, command, self.folder, environment or {}, descriptors)
        self._hosts.append(host)
        return host

    def orphans(self) -> list[str]:
        """Command lines of processes that use the folder and are none of those started here."""
        ours = {host.pid for host in self._hosts}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if str(self.folder) in line and int(process.name) not in ours:
                    found.append(line)
        return found

    def ticks(self) -> int:
        """How often the guest has ticked, wherever it was."""
        return sum(1 for _ in read_journal(self.journal)) if self.journal.exists() else 0

    def ticks_of(self, host: Host) -> int:
        """How often the guest has ticked in that process."""
        return sum(record.pid == host.pid for record in read_journal(self.journal))

    def judge(self) -> JournalVerdict:
        """The journal's verdict; it must be good."""
        verdict = judge_journal(self.journal)
        assert verdict.ok, verdict.reason
        return verdict

    async def ticks_on(self, host: Host) -> None:
        """Wait until the guest goes on in that process."""
        before = self.ticks_of(host)
        await until(lambda: self.ticks_of(host) > before, f"the guest runs in {host}")

    async def stands_still(self, seconds: float = 0.1) -> None:
        """Check that the guest runs nowhere; its ticks are a millisecond apart."""
        before = self.ticks()
        await trio.sleep(seconds)
        assert self.ticks() == before, "the guest runs, and should not"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            for host in self._hosts[-6:]:
                error.add_note(host.story())
        for host in self._hosts:
            host.process.kill()
            host.process.wait()
        shutil.rmtree(self.folder)


async def until(
    condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S, poll_s: float = _POLL_S
) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It does not become so in time.
    """
    with trio.move_on_after(seconds):
        while True:
            if condition():
                return
            await trio.sleep(poll_s)
    raise AssertionError(f"waited {seconds:g} s in vain until {what}")


@contextmanager
def takes_at_most(seconds: float, what: str) -> Iterator[None]:
    """Fail if the body takes longer; it is not cut short."""
    started_s = trio.current_time()
    yield
    elapsed_s = trio.current_time() - started_s
    assert elapsed_s <= seconds, f"{what} took {elapsed_s:.2f} s, and may take {seconds:g} s"


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens; outside of the range from which the kernel takes its own."""
    ports: list[int] = []
    for port in random.sample(range(12_000, 30_000), 10 * count + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        if len(ports) == count:
            break
    return ports


class Progress:
    """How far a long run is; noted in the file that :data:`SOAK_STATE` names, if it does.

    Args:
        name: Of the run; one file may hold several.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        path = os.environ.get(SOAK_STATE)
        self._path = Path(path) if path else None

    def _noted(self) -> dict[str, Any]:
        if self._path is None or not self._path.exists():
            return {}
        noted: dict[str, Any] = json.loads(self._path.read_text())
        return noted

    def load(self) -> dict[str, Any]:
        """What was noted last, or nothing."""
        noted: dict[str, Any] = self._noted().get(self._name, {})
        return noted

    def note(self, **facts: Any) -> None:
        """Note how far it is; a crash leaves the note before or this one."""
        if self._path is not None:
            noted = {**self._noted(), self._name: facts}
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(noted))
            new.replace(self._path)


class Relay:
    """Carries bytes between a source and a destination, and something happens on the way.

    It understands nothing of what it carries. It counts, and calls ``event`` once, after so many
    bytes in one direction have been passed on, not one more.

    Args:
        path: Its socket file.
        target: The destination's.
        forward_bytes: After how many bytes of the stream; None for never.
        backward_bytes: After how many bytes of the return path; None for never.
        event: What happens then. Afterwards, nothing more is passed on, and both ends are closed.

    Attributes:
        forward: What has been passed on of the stream.
        backward: What has been passed on of the return path.
        has_happened: Whether the number was reached.
    """

    def __init__(
        self,
        path: str,
        target: str,
        *,
        forward_bytes: int | None = None,
        backward_bytes: int | None = None,
        event: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.forward = bytearray()
        self.backward = bytearray()
        self.has_happened = False
        self._is_stopped = False
        self._limits = (forward_bytes, backward_bytes)
        self._event = event
        self._path = path.removeprefix("unix:")
        self._target = target.removeprefix("unix:")

    @property
    def uri(self) -> str:
        """Where a source connects."""
        return f"unix:{self._path}"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for one source, and carry its migration to the end."""
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        with listening:
            await listening.bind(self._path)
            listening.listen()
            task_status.started()
            connection, _ = await listening.accept()
        onward = trio.socket.socket(trio.socket.AF_UNIX)
        with connection, onward:
            await onward.connect(self._target)
            await self._carry_both(connection, onward)

    async def _carry_both(
        self, connection: trio.socket.SocketType, onward: trio.socket.SocketType
    ) -> None:
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            forward, backward = self._limits
            nursery.start_soon(self._carry, connection, onward, self.forward, forward, scope)
            nursery.start_soon(self._carry, onward, connection, self.backward, backward, scope)

    async def _carry(
        self,
        origin: trio.socket.SocketType,
        target: trio.socket.SocketType,
        carried: bytearray,
        limit: int | None,
        scope: trio.CancelScope,
    ) -> None:
        try:
            while limit is None or len(carried) < limit:
                most = 1 << 16 if limit is None else min(1 << 16, limit - len(carried))
                data = await origin.recv(most)
                if self._is_stopped:
                    await trio.sleep_forever()
                if not data:
                    target.shutdown(trio.socket.SHUT_WR)
                    return
                carried += data
                self._is_stopped = len(carried) == limit  # the answer to this must not pass
                await _send_all(target, data)
        except OSError:  # one of the two is gone; the other hears of it
            scope.cancel()
            return
        self.has_happened = True
        if self._event is not None:
            await self._event()
        scope.cancel()


async def _send_all(target: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await target.send(data) :]


class RecordEnd(NamedTuple):
    """Where a record of a stream ends, or the head or the body of a section.

    Args:
        name: What it is.
        offset: Of the first byte behind it.
    """

    name: str
    offset: int


def record_ends(stream: bytes, guest: Guest) -> list[RecordEnd]:
    """Where the records of a whole stream end.

    Args:
        stream: All of it.
        guest: Where it could be loaded, and is.
    """
    reader = StreamReader()
    ends = drive(_walk(guest, reader), reader, io.BytesIO(stream).readinto)
    assert ends[-1] == RecordEnd("VMDescription", len(stream))
    return ends


def _walk(guest: Guest, reader: StreamReader) -> Parsing[list[RecordEnd]]:
    sections = assembly.sections_for(guest)
    outer = StreamDecoder(reader)
    inner: StreamDecoder | None = None
    ends: list[RecordEnd] = []
    pings = package_end = 0
    while True:
        event = yield from (inner or outer).next_event()
        name = type(event).__name__
        match event:
            case None:
                return ends
            case SectionHeader():
                ends.append(RecordEnd(f"head of {event.idstr}", reader.offset))
                section = sections.find(event.idstr, event.instance_id)
                assert section is not None
                yield from sections.load(section, event, reader)
                name = f"body of {event.idstr}"
            case Command(CommandType.PING):
                pings += 1
                name = f"PING {pings}"
            case Package():
                inner = StreamDecoder(reader, outer)
                package_end = reader.offset + event.length
            case EndOfStream() if inner is not None:
                yield from reader.drop(package_end - reader.offset)
                inner = None
                name = "rest of the package"
        ends.append(RecordEnd(name, reader.offset))
