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
from transship.abc import Address
from transship.abc.settings import Parameters
from transship.cli.exits import ExitCode
from transship.cli.local.attempts import carry_out, conclude, outcome
from transship.errors import BlockedError, ConnectError, LocalError
from transship.guests.pattern import PAGE
from transship.guests.spec import parse_guest
from transship.plugin.discovery import find_transport
from transship.units import format_rate, format_size, format_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.cli.console import Console

_BEFORE_S: Final = 0.5
_AFTER_S: Final = 0.5
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 60.0
_WORKING_SHARE: Final = 4
_ZERO_FRACTION: Final = 0.25
_OTHER_SEED: Final = 99
"""What the second process's memory holds before; so a page that is not sent cannot look right."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What is to be shown.

    Args:
        transport: ``unix``, ``tcp``, or a whole address.
        ram_bytes: Size of the guest.
        dirty_rate_bytes_per_s: How fast it writes.
    """

    transport: str
    ram_bytes: int
    dirty_rate_bytes_per_s: int

    def address(self, folder: str) -> str:
        """Where the second process listens."""
        match self.transport:
            case "unix":
                return f"unix:{folder}/demo.sock"
            case "tcp":
                return "tcp:127.0.0.1:0"
        if ":" in self.transport:
            return self.transport
        find_transport(self.transport)
        raise BlockedError(
            f"the demonstration knows no address for {self.transport!r}",
            expected="unix, tcp, or a whole address such as SCHEME:ADDRESS",
        )


async def demonstrate(plan: Demonstration, console: Console) -> int:
    """Show a migration. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="transship-") as folder:
        address = plan.address(folder)
        find_transport(Address.parse(address).scheme)
        if plan.ram_bytes % PAGE:
            raise BlockedError(
                f"a guest of {plan.ram_bytes} bytes", expected="whole pages of 4 KiB"
            )
        guest = parse_guest(
            f"synthetic:ram={plan.ram_bytes},dirty-rate={plan.dirty_rate_bytes_per_s},"
            f"working-set={plan.ram_bytes // _WORKING_SHARE},zero={_ZERO_FRACTION}"
        )
        async with _second_process(plan, address) as second:
            listening = await second.listening()
            console.note(
                f"moving {format_size(plan.ram_bytes)} of guest that writes "
                f"{format_rate(plan.dirty_rate_bytes_per_s)} to {listening}"
            )
            await guest.resume()
            await trio.sleep(_BEFORE_S)
            migration = assembly.migrate(
                guest, listening, parameters=Parameters(max_bandwidth_bytes_per_s=0)
            )
            error = await carry_out(migration, console)
            if error is not None:
                await guest.pause()
                return conclude(console, migration, error)
            await trio.sleep(_AFTER_S)
            try:
                verdict = await second.stop()
            except LocalError as failure:
                console.note(f"transship: {failure}")
                return ExitCode.FAILED
    code = ExitCode.DONE if verdict["consistent"] else ExitCode.FAILED
    facts = {**outcome(migration, None, code=code), "guest": verdict}
    console.result(facts, _summary(facts))
    return code


def _summary(facts: dict[str, Any]) -> str:
    statistics, guest = facts["statistics"], facts["guest"]
    ram = statistics["sections"]["ram"]
    downtime_s = guest["observed_downtime_s"]
    downtime = "unknown" if downtime_s is None else format_time(downtime_s)
    moved = format_size(statistics["transferred_bytes"])
    lines = {
        "total time": format_time(statistics["total_s"]),
        "downtime": f"{downtime}, as the guest saw it",
        "moved": f"{moved}, {statistics['dirty_syncs']} passes",
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

    async def listening(self) -> str:
        """Wait until it can be connected to. Returns its address."""
        assert self._process.stderr is not None
        with trio.move_on_after(_START_TIMEOUT_S):
            async for data in self._process.stderr:
                self._errors += data
                for line in self._errors.decode(errors="replace").splitlines(keepends=True):
                    word, _, address = line.partition(" ")
                    if word == "listening" and address.endswith("\n"):
                        return address.strip()
        raise ConnectError(
            "the second process did not listen",
            found=self._errors.decode(errors="replace").strip() or "nothing",
        )

    async def stop(self) -> dict[str, Any]:
        """Stop the guest there. Returns what it says of itself."""
        assert self._process.stdout is not None
        output = bytearray()
        self._process.send_signal(signal.SIGTERM)
        with trio.move_on_after(_STOP_TIMEOUT_S):
            async for data in self._process.stdout:
                output += data
        for line in output.decode().splitlines():
            event = json.loads(line)
            if event.get("event") == "stopped":
                report: dict[str, Any] = event["guest"]
                return report
        raise LocalError("the second process said nothing of its guest", found=output.decode())


@asynccontextmanager
async def _second_process(plan: Demonstration, address: str) -> AsyncIterator[_SecondProcess]:
    guest = f"synthetic:ram={plan.ram_bytes},seed={_OTHER_SEED}"
    command = [sys.executable, "-m", "transship", "run", guest, "--incoming", address, "--json"]
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield _SecondProcess(process)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
