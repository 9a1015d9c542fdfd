"""Runs a guest in this process: it starts or arrives, runs, and leaves or is stopped.

A guest that is here is never dropped because a migration failed: the process stays until it is
told to end, by a signal or over QMP.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from transship import assembly
from transship.cli.exits import ExitCode, exit_code
from transship.cli.interrupts import SIGNALS, Interrupts
from transship.cli.local.attempts import beginning, conclude, show_progress
from transship.cli.results import result_of
from transship.errors import CancelledError, ConnectError, HandoverError, MigrationError
from transship.hosting.host import Host, open_host
from transship.hosting.shutdown import ShutdownCause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc.guest import Guest
    from transship.abc.settings import Settings
    from transship.cli.addresses import Target
    from transship.cli.console import Console
    from transship.engine.attempt import Attempt


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen to the guest.

    Args:
        incoming: Address to wait at; ``defer`` to be told over QMP; None to start the guest here.
        migrate_to: Address to leave for; None to stay.
        after_s: How long to run before leaving.
        paused: Whether the guest stands still until it is told to run.
        qmp: Address at which to take commands; None for no such thing.
        settings: Of all migrations.
    """

    incoming: Target | None
    migrate_to: Target | None
    after_s: float
    paused: bool
    qmp: str | None
    settings: Settings


DEFER: Final = "defer"


async def run_guest(guest: Guest, plan: Plan, console: Console) -> int:
    """Carry out a plan. Returns the exit code.

    Signals are received from beginning to end: what they do by default, between two steps of the
    plan, would end a process that may have the only copy of a guest.

    Raises:
        MigrationError: An address makes no sense, nobody provides the method of compression, what
            the planned migration needs is missing, or nobody can listen at the address for QMP.
    """
    if plan.migrate_to is not None:
        assembly.check_outgoing(
            guest,
            plan.migrate_to.uri,
            parameters=plan.settings.parameters,
            capabilities=plan.settings.capabilities,
            options=plan.migrate_to.options,
        )
    assembly.compression_of(plan.settings.parameters)
    with trio.open_signal_receiver(*SIGNALS, signal.SIGUSR1) as signals:
        running = _Running(plan, console)
        async with open_host(
            guest,
            plan.settings,
            awaits_migration=plan.incoming is not None,
            autostart=not plan.paused,
            on_over=running.report,
        ) as here:
            try:
                await running.carry_out(here, signals)
            except* MigrationError as group:
                running.refusal = group
        if running.refusal is not None:
            raise _first(running.refusal)
        return running.code


class _Running:
    """What becomes of a plan.

    Attributes:
        code: The exit code.
        refusal: What kept it from beginning.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self.code: int = ExitCode.DONE
        self.refusal: BaseExceptionGroup[MigrationError] | None = None
        self._plan = plan
        self._console = console
        self._host: Host
        self._error: MigrationError | None = None
        self._is_over = trio.Event()
        self._has_arrived = trio.Event()
        self._interrupts = Interrupts()

    async def carry_out(self, here: Host, signals: AsyncIterator[int]) -> None:
        """Do what is planned, until something ends it."""
        self._host = here
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heed, signals)
            nursery.start_soon(self._wait_for_quit)
            nursery.start_soon(show_progress, lambda: here.active, self._console)
            if self._plan.qmp is not None:
                from transship.control.service import serve_host

                address = await nursery.start(serve_host, self._plan.qmp, here)
                self._console.note(f"qmp {address}")
            nursery.start_soon(self._begin)
            await self._is_over.wait()
            nursery.cancel_scope.cancel()

    async def _begin(self) -> None:
        """Start the guest, or wait for it; then let it leave, if it is to."""
        plan = self._plan
        if plan.incoming is not None and plan.incoming.uri == DEFER:
            self._console.note("the guest is to arrive; migrate-incoming says where")
        elif plan.incoming is not None:
            if not await self._listen(plan.incoming):
                return
        elif not plan.paused:
            await self._host.cont()
        if plan.incoming is not None:
            await self._has_arrived.wait()
        if plan.migrate_to is None:
            self._say_where_the_guest_is()
            return
        await trio.sleep(plan.after_s)
        try:
            await self._host.start_migration(plan.migrate_to.uri, options=plan.migrate_to.options)
        except MigrationError as error:
            self._error = error.add_context(side="source", phase="setup")
            self._console.note(f"transship: {error}")
            if not isinstance(error, CancelledError):
                self._say_where_the_guest_is()

    async def _listen(self, where: Target) -> bool:
        try:
            incoming = await self._host.start_incoming(where.uri, options=where.options)
        except ConnectError as error:
            facts = {"event": "failed", **result_of("failed", error)}
            self._console.result(facts, f"failed: {error}")
            if self._console.as_json:
                self._console.note(f"transship: {error}")
            self._end(exit_code(error))
            return False
        self._console.note(beginning(incoming))
        return True

    async def report(self, attempt: Attempt) -> None:
        """Say how a migration ended, and draw the consequence."""
        error = self._error = attempt.error
        interrupts, self._interrupts = self._interrupts, Interrupts()
        is_arrival = attempt is self._host.incoming
        event = "failed" if error else "arrived" if is_arrival else "left"
        conclude(self._console, attempt, error, facts={"event": event})
        if self._host.shutdown_cause is not None:
            if isinstance(error, CancelledError):
                self._error = None  # that was wanted
        elif interrupts.is_leaving and isinstance(error, CancelledError):
            self._end(ExitCode.LEFT)
        elif is_arrival and not (error is None or isinstance(error, HandoverError)):
            if self._host.exits_on_error or isinstance(error, CancelledError):
                self._end(exit_code(error))
        elif is_arrival and error is None:
            self._has_arrived.set()
        elif error is not None:
            self._say_where_the_guest_is()
        elif self._plan.qmp is None:
            self._end(ExitCode.DONE)

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            attempt = self._host.active
            if number == signal.SIGUSR1:
                await self._resume()
            elif attempt is None:
                await self._host.quit(ShutdownCause.HOST_SIGNAL)
            else:
                self._interrupts.heed(number, self._console.note)
                attempt.cancel()

    async def _resume(self) -> None:
        was_running = self._host.guest.is_running
        try:
            await self._host.cont()
        except MigrationError as error:
            self._console.note(f"the guest could not be resumed: {error}")
        else:
            if self._host.guest.is_running and not was_running:
                self._console.result({"event": "resumed"}, "the guest runs here now")

    async def _wait_for_quit(self) -> None:
        cause = await self._host.wait_for_quit()
        if cause is not ShutdownCause.HOST_SIGNAL:
            self._error = None  # whoever quits knows
        await self._stop()

    def _say_where_the_guest_is(self) -> None:
        outgoing = self._host.outgoing
        if outgoing is not None and outgoing.is_confirmed:
            self._console.note(
                "the guest is at the destination, and cannot run here; SIGINT or SIGTERM ends this"
            )
        elif isinstance(self._error, HandoverError):
            self._console.note(
                "the guest stays here, paused: SIGUSR1 lets it run, if it runs nowhere else; "
                "SIGINT or SIGTERM drops it"
            )
        elif self._host.guest.is_running:
            self._console.note("the guest runs here; SIGINT or SIGTERM stops it")
        else:
            self._console.note(
                "the guest is here, paused; SIGUSR1 lets it run, SIGINT or SIGTERM drops it"
            )

    async def _stop(self) -> None:
        """Stop the guest, and say what it says of itself."""
        guest, code = self._host.guest, exit_code(self._error)
        if guest.is_running:
            await guest.pause()
        report: dict[str, Any] = await trio.to_thread.run_sync(guest.report)
        self._console.result(
            {"event": "stopped", "exit_code": int(code), "guest": report},
            "stopped" + "".join(f"\n  {name}: {_shown(value)}" for name, value in report.items()),
        )
        self._end(code)

    def _end(self, code: int) -> None:
        self.code = code
        self._is_over.set()


def _first(group: BaseExceptionGroup[MigrationError]) -> MigrationError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _shown(value: str | float | None) -> str:
    """A value of a guest's report, for people."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
