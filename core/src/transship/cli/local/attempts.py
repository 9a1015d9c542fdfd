"""One attempt, carried out for a verb: shown, cancelled by signals, and told when it has ended."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from transship.cli.exits import ExitCode, exit_code
from transship.cli.interrupts import SIGNALS, Interrupts
from transship.cli.results import result_of
from transship.engine.status import MigrationStatus
from transship.errors import CancelledError, MigrationError
from transship.guests.nolog import NoDirtyLog
from transship.units import counted, format_rate, format_size, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transship.cli.console import Console
    from transship.engine.attempt import Attempt
    from transship.engine.incoming import IncomingMigration


async def carry_out(attempt: Attempt, console: Console) -> MigrationError | None:
    """Run an attempt to its end.

    The first SIGINT or SIGTERM cancels it and waits for the outcome. After a second SIGINT the
    process ends with 130 as soon as the guest has been given back; if it has been handed over by
    then, the outcome is told as ever.

    Args:
        attempt: Not yet begun.
        console: Where progress is shown.

    Returns:
        Why it failed; None if it completed.

    Raises:
        SystemExit: There was a second SIGINT.
    """
    interrupts = Interrupts()
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def heed() -> None:
                async for number in signals:
                    interrupts.heed(number, console.note)
                    if interrupts.is_leaving:
                        nursery.cancel_scope.cancel()
                        return
                    attempt.cancel()

            nursery.start_soon(heed)
            nursery.start_soon(show_progress, lambda: attempt, console)
            with suppress(MigrationError):
                await attempt.run()
            nursery.cancel_scope.cancel()
    if interrupts.is_leaving and isinstance(attempt.error, CancelledError):
        raise SystemExit(int(ExitCode.LEFT))
    return attempt.error


def beginning(incoming: IncomingMigration) -> str:
    """Where a source can connect, or what is read, now that it is known."""
    return f"{'listening' if incoming.listens else 'reading'} {incoming.address}"


def outcome(
    attempt: Attempt, error: MigrationError | None, *, code: int | None = None
) -> dict[str, Any]:
    """How an attempt ended, as plain data.

    Args:
        attempt: What ended.
        error: Why it failed; None if it completed.
        code: The exit code, where the error does not decide it alone.
    """
    statistics = dataclasses.asdict(attempt.statistics)
    return result_of(attempt.status.value, error, code=code, statistics=statistics)


def conclude(
    console: Console,
    attempt: Attempt,
    error: MigrationError | None,
    *,
    facts: Mapping[str, Any] | None = None,
    text: str = "",
) -> ExitCode:
    """Print how an attempt ended; a failure is said on standard error as well.

    Args:
        console: Where to.
        attempt: What ended.
        error: Why it failed; None if it completed.
        facts: What the verb adds for programs.
        text: What the verb adds for people, if it completed.
    """
    described = summary(attempt, error) + (f"\n{text}" if text and not error else "")
    console.result({**(facts or {}), **outcome(attempt, error)}, described)
    if error is not None and console.as_json:
        console.note(f"transship: {error}")
    return exit_code(error)


def summary(attempt: Attempt, error: MigrationError | None) -> str:
    """How an attempt ended, in a line or two for people."""
    if error is not None:
        return f"{attempt.status.value}: {error}"
    statistics = attempt.statistics
    parts = [
        f"{format_size(statistics.transferred_bytes)} in {format_time(statistics.total_s)}",
    ]
    if shared_bytes := statistics.sections.get("ram", {}).get("shared_bytes", 0):
        parts.append(f"{format_size(shared_bytes)} handed over")
    if statistics.downtime_s is not None:
        parts.append(f"downtime {format_time(statistics.downtime_s)}")
    if statistics.dirty_syncs:
        parts.append(counted(statistics.dirty_syncs, "pass", "passes"))
    if statistics.dirty_log not in (None, NoDirtyLog.name):
        parts.append(f"dirty log {statistics.dirty_log}")
    return f"{attempt.status.value}: {', '.join(parts)}"


async def show_progress(active: Callable[[], Attempt | None], console: Console) -> None:
    """Say how far the migration under way is, again only when it has moved."""
    shown = ""
    while True:
        await trio.sleep(console.progress_interval_s)
        attempt = active()
        line = "" if attempt is None else _progress_line(attempt)
        if line not in ("", shown):
            console.progress(line)
        shown = line


def _progress_line(attempt: Attempt) -> str:
    if attempt.status in (MigrationStatus.NONE, MigrationStatus.SETUP):
        return attempt.waiting_for
    statistics = attempt.statistics
    parts = [attempt.status.value, f"{format_size(statistics.transferred_bytes)} moved"]
    if statistics.bandwidth_bytes_per_s:
        parts.append(format_rate(statistics.bandwidth_bytes_per_s))
    if statistics.remaining_bytes:
        parts.append(f"{format_size(statistics.remaining_bytes)} left")
    if statistics.dirty_syncs:
        parts.append(f"pass {statistics.dirty_syncs}")
    return " · ".join(parts)
