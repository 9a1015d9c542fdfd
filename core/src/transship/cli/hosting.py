"""Hosts a guest in this process: it arrives or starts, runs, and leaves or is stopped.

A guest that is here is never dropped because a migration failed: the process stays until it is
told to end.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from transship import assembly
from transship.cli.exits import ExitCode, exit_code
from transship.cli.session import carry_out, conclude
from transship.errors import HandoverError, MigrationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc.guest import Guest
    from transship.cli.console import Console
    from transship.engine.attempt import Attempt
    from transship.engine.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen to the guest.

    Args:
        incoming: Address to wait at; None to start the guest here.
        migrate_to: Address to leave for; None to stay.
        after_s: How long to run before leaving.
        paused: Whether the guest stands still until it is told to run.
        parameters: Limits of both migrations.
    """

    incoming: str | None
    migrate_to: str | None
    after_s: float
    paused: bool
    parameters: Parameters


_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


async def host(guest: Guest, plan: Plan, console: Console) -> int:
    """Carry out a plan. Returns the exit code.

    Signals are received from beginning to end: what they do by default, between two steps of the
    plan, would end a process that may have the only copy of a guest.
    """
    if plan.migrate_to is not None:
        assembly.check_outgoing(plan.migrate_to)
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        return await _host(guest, plan, console, signals)


async def _host(guest: Guest, plan: Plan, console: Console, signals: AsyncIterator[int]) -> int:
    error = None
    if plan.incoming is not None:
        error = await _arrive(guest, plan.incoming, plan, console, signals)
        if error is not None and not isinstance(error, HandoverError):
            return exit_code(error)
    elif not plan.paused:
        await guest.resume()
    if error is None and plan.migrate_to is not None:
        if await _is_told_to_end_within(plan.after_s, signals):
            return await _stop(guest, None, console)
        error = await _leave(guest, plan.migrate_to, plan, console, signals)
        if error is None:
            return ExitCode.DONE
    await _stay(guest, error, console, signals)
    return await _stop(guest, error, console)


async def _arrive(
    guest: Guest, uri: str, plan: Plan, console: Console, signals: AsyncIterator[int]
) -> MigrationError | None:
    incoming = assembly.receive(
        guest,
        uri,
        parameters=plan.parameters,
        on_listening=lambda address: console.note(f"listening {address}"),
        autostart=not plan.paused,
    )
    return await _attempt("arrived", incoming, console, signals)


async def _leave(
    guest: Guest, uri: str, plan: Plan, console: Console, signals: AsyncIterator[int]
) -> MigrationError | None:
    try:
        migration = assembly.migrate(guest, uri, parameters=plan.parameters)
    except MigrationError as error:
        console.note(f"transship: {error}")
        return error
    return await _attempt("left", migration, console, signals)


async def _attempt(
    event: str, attempt: Attempt, console: Console, signals: AsyncIterator[int]
) -> MigrationError | None:
    error = await carry_out(attempt, console, signals)
    conclude(console, attempt, error, facts={"event": "failed" if error else event})
    return error


async def _is_told_to_end_within(duration_s: float, signals: AsyncIterator[int]) -> bool:
    """Let the guest run for a while; whether a signal asked for its end instead."""
    with trio.move_on_after(duration_s):
        async for number in signals:
            if number != signal.SIGUSR1:
                return True
    return False


async def _stay(
    guest: Guest, error: MigrationError | None, console: Console, signals: AsyncIterator[int]
) -> None:
    """Keep the guest until a signal asks for its end."""
    if isinstance(error, HandoverError):
        console.note(
            "the guest stays here, paused: SIGUSR1 lets it run, if it runs nowhere else; "
            "SIGINT or SIGTERM drops it"
        )
    elif guest.is_running:
        console.note("the guest runs here; SIGINT or SIGTERM stops it")
    else:
        console.note("the guest is here, paused; SIGUSR1 lets it run, SIGINT or SIGTERM drops it")
    async for number in signals:
        if number != signal.SIGUSR1:
            return
        if guest.is_running:
            continue
        try:
            await guest.resume()
        except Exception as error:
            console.note(f"the guest could not be resumed: {error}")
        else:
            console.result({"event": "resumed"}, "the guest runs here now")


async def _stop(guest: Guest, error: MigrationError | None, console: Console) -> int:
    if guest.is_running:
        await guest.pause()
    report: dict[str, Any] = await trio.to_thread.run_sync(guest.report)
    console.result(
        {"event": "stopped", "exit_code": int(exit_code(error)), "guest": report},
        "stopped" + "".join(f"\n  {name}: {_shown(value)}" for name, value in report.items()),
    )
    return exit_code(error)


def _shown(value: str | float | None) -> str:
    """A value of a guest's report, for people."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
