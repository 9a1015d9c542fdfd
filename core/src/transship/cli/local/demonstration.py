"""The demonstration: a second process waits, a guest under load moves there, and is checked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from transship import assembly
from transship.abc.settings import Parameters
from transship.cli.exits import ExitCode
from transship.cli.local.attempts import carry_out, conclude, outcome
from transship.cli.local.routes import route_of
from transship.errors import BlockedError, ConnectError, LocalError
from transship.guests.pattern import PAGE
from transship.guests.spec import parse_guest
from transship.units import counted, format_rate, format_size, format_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Guest
    from transship.cli.console import Console
    from transship.cli.local.routes import Route
    from transship.engine.migration import Migration
    from transship.errors import MigrationError

_BEFORE_S: Final = 0.5
_AFTER_S: Final = 0.5
_START_TIMEOUT_S: Final = 30.0
_ARRIVAL_TIMEOUT_S: Final = 300.0
_STOP_TIMEOUT_S: Final = 60.0
_WORKING_SHARE: Final = 4
_ZERO_FRACTION: Final = 0.25
_OTHER_SEED: Final = 99
"""What the second process's memory holds before; so a page that is not sent cannot look right."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What is to be shown.

    Args:
        transport: A scheme, or a whole address.
        ram_bytes: Size of the guest.
        dirty_rate_bytes_per_s: How fast it writes.
    """

    transport: str
    ram_bytes: int
    dirty_rate_bytes_per_s: int


async def demonstrate(plan: Demonstration, console: Console) -> int:
    """Show a migration. Returns the exit code."""
    if plan.ram_bytes % PAGE:
        raise BlockedError(f"a guest of {plan.ram_bytes} bytes", expected="whole pages of 4 KiB")
    guest = parse_guest(
        f"synthetic:ram={plan.ram_bytes},dirty-rate={plan.dirty_rate_bytes_per_s},"
        f"working-set={plan.ram_bytes // _WORKING_SHARE},zero={_ZERO_FRACTION}"
    )
    with (
        tempfile.TemporaryDirectory(prefix="transship-") as folder,
        route_of(plan.transport, folder) as route,
    ):
        move = _move_later if route.is_stored else _move
        return await move(plan, route, guest, console)


async def _move(plan: Demonstration, route: Route, guest: Guest, console: Console) -> int:
    """Let the second process wait, and move the guest there."""
    async with _second_process(plan, route) as second:
        there = await second.waits_at()
        migration, error = await _leave(plan, route, route.outgoing or there, guest, console)
        if error is not None:
            return conclude(console, migration, error)
        return await _conclude(second, migration, console, "as the guest saw it")


async def _move_later(plan: Demonstration, route: Route, guest: Guest, console: Console) -> int:
    """Let the guest leave, and then the second process begin."""
    migration, error = await _leave(plan, route, route.outgoing or route.incoming, guest, console)
    if error is not None:
        return conclude(console, migration, error)
    console.note("the guest stands still in between; a second process loads it")
    async with _second_process(plan, route) as second:
        return await _conclude(
            second,
            migration,
            console,
            "as the guest saw it, the start of the second process included",
        )


async def _leave(
    plan: Demonstration, route: Route, address: str, guest: Guest, console: Console
) -> tuple[Migration, MigrationError | None]:
    """Move the guest away; one that could not leave is stopped."""
    console.note(
        f"moving {format_size(plan.ram_bytes)} of guest that writes "
        f"{format_rate(plan.dirty_rate_bytes_per_s)} to {address}"
    )
    migration = assembly.migrate(
        guest,
        address,
        parameters=Parameters(max_bandwidth_bytes_per_s=0),
        options=route.options,
    )
    await guest.resume()
    await trio.sleep(_BEFORE_S)
    error = await carry_out(migration, console)
    if error is not None and guest.is_running:
        await guest.pause()
    return migration, error


async def _conclude(
    second: _SecondProcess, migration: Migration, console: Console, downtime_is: str
) -> int:
    """Let the guest run in the second process, ask it how it was, and say so."""
    try:
        await second.arrived()
        await trio.sleep(_AFTER_S)
        verdict = await second.stop()
    except LocalError as failure:
        console.note(f"transship: {failure}")
        return ExitCode.FAILED
    code = ExitCode.DONE if verdict["consistent"] else ExitCode.FAILED
    facts = {**outcome(migration, None, code=code), "guest": verdict}
    console.result(facts, _summary(facts, downtime_is))
    return code


def _summary(facts: dict[str, Any], downtime_is: str) -> str:
    statistics, guest = facts["statistics"], facts["guest"]
    ram = statistics["sections"]["ram"]
    downtime_s = guest["observed_downtime_s"]
    downtime = "unknown" if downtime_s is None else format_time(downtime_s)
    moved = format_size(statistics["transferred_bytes"])
    lines = {
        "total time": format_time(statistics["total_s"]),
        "downtime": f"{downtime}, {downtime_is}",
        "moved": f"{moved}, {counted(statistics['dirty_syncs'], 'pass', 'passes')}",
        "pages": f"{ram['normal']} sent, {ram['duplicate']} zero",
        "verdict": (
            f"all pages and the counter ({guest['counter']}) are right"
            if guest["consistent"]
            else f"BROKEN: {guest['reason']}"
        ),
    }
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


class _SecondProcess:
    """The process to which the guest moves."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._errors = bytearray()
        self._output = b""
        self._said = b""

    async def waits_at(self) -> str:
        """Wait until it can be connected to, or reads. Returns its address."""
        assert self._process.stderr is not None
        with trio.move_on_after(_START_TIMEOUT_S):
            async for data in self._process.stderr:
                self._errors += data
                for line in self._errors.decode(errors="replace").splitlines(keepends=True):
                    word, _, address = line.partition(" ")
                    if word in ("listening", "reading") and address.endswith("\n"):
                        return address.strip()
        raise ConnectError(
            "the second process waits for no guest",
            found=self._errors.decode(errors="replace").strip() or "nothing",
        )

    async def arrived(self) -> None:
        """Wait until the guest is there: not every channel says so.

        Raises:
            LocalError: It never came.
        """
        with trio.move_on_after(_ARRIVAL_TIMEOUT_S):
            await self._event("arrived")
            return
        raise LocalError("the guest did not arrive in the second process")

    async def stop(self) -> dict[str, Any]:
        """Stop the guest there. Returns what it says of itself.

        Raises:
            LocalError: It says nothing.
        """
        self._process.send_signal(signal.SIGTERM)
        with trio.move_on_after(_STOP_TIMEOUT_S):
            report: dict[str, Any] = (await self._event("stopped"))["guest"]
            return report
        raise LocalError("the second process said nothing of its guest")

    async def _event(self, name: str) -> dict[str, Any]:
        """Wait until it tells an event.

        Raises:
            LocalError: It ended before.
        """
        assert self._process.stdout is not None
        while True:
            *lines, self._output = self._output.split(b"\n")
            for line in lines:
                event: dict[str, Any] = json.loads(line)
                if event.get("event") == name:
                    return event
                self._said = line
            data = await self._process.stdout.receive_some()
            if not data:
                raise LocalError(
                    "the second process ended too early",
                    expected=name,
                    found=self._said.decode() or "nothing",
                )
            self._output += data


@asynccontextmanager
async def _second_process(plan: Demonstration, route: Route) -> AsyncIterator[_SecondProcess]:
    guest = f"synthetic:ram={plan.ram_bytes},seed={_OTHER_SEED}"
    waiting = ("--incoming", route.incoming, "--json")
    command = [sys.executable, "-m", "transship", "run", guest, *waiting]
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[one.fileno() for one in route.inherited],
    )
    for one in route.inherited:
        one.close()
    try:
        yield _SecondProcess(process)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
