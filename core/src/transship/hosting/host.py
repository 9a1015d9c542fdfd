"""A guest and everything that an operator may ask of it: what control and the command line drive.

Knows neither JSON nor sockets of control. The guest runs on in here whatever becomes of a
migration; the process that embeds a host decides when it ends.
"""

from __future__ import annotations

import dataclasses
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from transship import assembly
from transship.abc.settings import Settings
from transship.engine.announce import announce
from transship.engine.blockers import Blockers
from transship.engine.deadlines import within
from transship.engine.failures import as_migration_error
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    HandoverBegins,
    Notice,
    Notifier,
    Notifiers,
    ShuttingDown,
    StatusReached,
)
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, HandoverError, MigrationError
from transship.hosting.runstate import RunState, check_transition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from transship.abc.guest import Guest
    from transship.abc.settings import Parameters
    from transship.engine.attempt import Attempt
    from transship.engine.incoming import Incoming
    from transship.engine.limiter import BandwidthLimiter
    from transship.engine.migration import Migration


_NOTHING_READ: Final = (MigrationStatus.NONE, MigrationStatus.SETUP)


class Host:
    """One guest in this process. Made by :func:`open_host`.

    Attributes:
        guest: The machine.
        run_state: What its processors do, and why.
        settings: Of the migrations to come; parameters hold for the one under way as well.
        blockers: What forbids moving the guest, besides what it says itself.
        notifiers: Who is told of what happens here: every notice of every migration, and
            ``GuestPaused`` and ``GuestResumed`` also when an operator is the reason.
        outgoing: The last migration away from here, over or not.
        incoming: The last migration to here, over or not.
        exits_on_error: Whether the process is to end if the migration to here fails.
        is_quitting: Set when somebody has asked the process to end.
        quit_reason: Why, in QEMU's words; None as long as nobody has.
    """

    def __init__(
        self,
        guest: Guest,
        nursery: trio.Nursery,
        settings: Settings,
        *,
        awaits_migration: bool,
        autostart: bool,
        limiter: BandwidthLimiter | None,
        on_over: Callable[[Attempt], Awaitable[None]] | None,
    ) -> None:
        self.guest = guest
        self.run_state = RunState.INMIGRATE if awaits_migration else RunState.PRELAUNCH
        self.settings = settings
        self.blockers = Blockers()
        self.notifiers = Notifiers()
        self.outgoing: Migration | None = None
        self.incoming: Incoming | None = None
        self.exits_on_error = True
        self.is_quitting = trio.Event()
        self.quit_reason: str | None = None
        self._nursery = nursery
        self._autostart = autostart
        self._limiter = limiter
        self._on_over = on_over
        self._operating = trio.Lock()
        self._is_handing_over = False
        self._was_told_late = False
        self._stood_as = RunState.PAUSED
        self._announcing = trio.CancelScope()

    # The guest.

    async def stop(self) -> None:
        """Pause the guest; one that is still to arrive will not be started.

        One that is being handed over stands still already, and is not resumed if it stays.

        Raises:
            MigrationError: It does not pause.
        """
        async with self._operating:
            if self.run_state is RunState.INMIGRATE:
                self._set_autostart(False)
            elif self._is_handing_over and self.outgoing is not None:
                self.outgoing.resumes_guest = False
            elif self.run_state is RunState.RUNNING:
                await self._within(self.guest.pause, "pause")
                self._become(RunState.PAUSED)
                await self._tell(GuestPaused())

    async def cont(self) -> None:
        """Let the guest run; one that is still to arrive will be started.

        Raises:
            BlockedError: It is being handed over, or runs on the destination.
            MigrationError: It does not resume.
        """
        async with self._operating:
            if self.run_state is RunState.INMIGRATE:
                self._set_autostart(True)
            elif self._is_handing_over:
                raise BlockedError(
                    "the guest cannot be resumed while it is handed over",
                    hint="wait for the end of the migration, or cancel it",
                )
            elif self.run_state is not RunState.RUNNING:
                self._check_still_ours()
                await self._within(self.guest.resume, "resume")
                self._become(RunState.RUNNING)
                await self._tell(GuestResumed())

    def announce(self, parameters: Parameters) -> None:
        """Begin to let the guest announce itself, on a schedule; does not wait for its end.

        A schedule that has begun before ends.
        """
        self._announcing.cancel()
        self._announcing = trio.CancelScope()
        self._nursery.start_soon(self._announce, parameters, self._announcing)

    async def _announce(self, parameters: Parameters, announcing: trio.CancelScope) -> None:
        with announcing:
            await announce(self.guest, parameters)

    def _set_autostart(self, autostart: bool) -> None:
        self._autostart = autostart
        if self.incoming is not None:
            self.incoming.autostart = autostart
            self._was_told_late = self.incoming.status is MigrationStatus.DEVICE

    async def _obey_late_order(self) -> None:
        """Do what an operator wanted when the guest was being started, or just not started."""
        if self._was_told_late:
            await (self.cont() if self._autostart else self.stop())

    def _check_still_ours(self) -> None:
        outgoing = self.outgoing
        if outgoing is not None and outgoing.is_confirmed:
            raise BlockedError(
                "the guest has moved away; it is the destination's",
                expected="a guest that was not handed over",
                found="the destination's word that it has the guest",
            )

    # Settings.

    def set_parameters(self, changes: Mapping[str, object]) -> None:
        """Change parameters, of the migration under way as well.

        Args:
            changes: By the names in :class:`~transship.abc.settings.Parameters`.
        """
        parameters = dataclasses.replace(self.settings.parameters, **changes)  # type: ignore[arg-type]
        self.settings.parameters = parameters
        if (attempt := self.active) is not None:
            attempt.parameters = parameters

    def set_capabilities(self, changes: Mapping[str, bool]) -> None:
        """Switch capabilities on and off, for the migrations to come.

        Raises:
            BlockedError: A migration is under way.
        """
        active = self.active
        waits_for_source = active is self.incoming and self.run_state is RunState.INMIGRATE
        if active is not None and not (waits_for_source and active.status in _NOTHING_READ):
            raise BlockedError("capabilities cannot be changed while a migration is under way")
        switched_on = {name for name, is_on in changes.items() if is_on}
        self.settings.capabilities = (self.settings.capabilities - changes.keys()) | switched_on
        if active is not None:
            active.settings.capabilities = self.settings.capabilities

    # Migrations.

    @property
    def active(self) -> Attempt | None:
        """The migration that is under way, one that waits for a source included."""
        for attempt in (self.outgoing, self.incoming):
            if attempt is not None and not attempt.is_over:
                return attempt
        return None

    async def start_migration(self, uri: str) -> Migration:
        """Begin to move the guest away; returns when it is in ``setup``.

        Raises:
            BlockedError: The address is malformed; a migration is under way; the guest waits for
                one, or has moved away already; something forbids it.
            PluginError: No plugin carries the scheme.

        Cancellation: the migration goes on.
        """
        migration = assembly.migrate(
            self.guest,
            uri,
            parameters=self.settings.parameters,
            capabilities=self.settings.capabilities,
            notifiers=self._notifiers_of(self._heed_outgoing),
            blockers=self.blockers,
            limiter=self._limiter,
        )
        if self.run_state is RunState.INMIGRATE:
            raise BlockedError("the guest waits for a migration to here")
        if self.active is not None:
            raise BlockedError("a migration is under way")
        if self.run_state is RunState.POSTMIGRATE:
            raise BlockedError("the guest has moved away already")
        migration.check()
        self.outgoing = migration
        has_begun = trio.Event()
        migration.notifiers.add(lambda _: has_begun.set(), "the start of a migration")
        self._nursery.start_soon(self._carry_out, migration, has_begun)
        await has_begun.wait()
        return migration

    def cancel(self) -> None:
        """Cancel the migration away from here, if one is under way; does not wait."""
        if self.outgoing is not None:
            self.outgoing.cancel()

    async def start_incoming(self, uri: str, *, exits_on_error: bool = True) -> Incoming:
        """Begin to wait for a migration; returns when a source can connect.

        Raises:
            BlockedError: The guest does not wait for one, or has begun to already; the address is
                malformed.
            PluginError: No plugin carries the scheme.
            ConnectError: Nobody can listen there; may be tried again with another address.

        Cancellation: the waiting goes on.
        """
        if self.run_state is not RunState.INMIGRATE:
            raise BlockedError(
                "the guest does not wait for a migration",
                expected=RunState.INMIGRATE.value,
                found=self.run_state.value,
            )
        if self.incoming is not None and (self.incoming.address or not self.incoming.is_over):
            raise BlockedError("the guest has begun to wait for a migration already")
        is_listening = trio.Event()
        incoming = assembly.receive(
            self.guest,
            uri,
            parameters=self.settings.parameters,
            capabilities=self.settings.capabilities,
            notifiers=self._notifiers_of(self._heed_incoming),
            on_listening=lambda _: is_listening.set(),
            autostart=self._autostart,
        )
        self.incoming, self.exits_on_error = incoming, exits_on_error
        self._nursery.start_soon(self._carry_out, incoming, is_listening)
        await is_listening.wait()
        if incoming.address is None:
            self.incoming = None
            assert incoming.error is not None
            raise incoming.error
        return incoming

    async def _carry_out(self, attempt: Attempt, has_begun: trio.Event) -> None:
        """Run an attempt to its end, whoever asked for it."""
        try:
            with suppress(MigrationError):
                await attempt.run()
        finally:
            had_begun = has_begun.is_set()
            has_begun.set()
        if had_begun and self._on_over is not None:
            await self._on_over(attempt)

    def _notifiers_of(self, heed: Notifier) -> Notifiers:
        notifiers = Notifiers(self.notifiers)
        notifiers.add(heed, "the host")
        return notifiers

    async def _heed_outgoing(self, notice: Notice) -> None:
        """Keep the run state true while the guest moves away."""
        match notice:
            case HandoverBegins():
                self._is_handing_over = True
                self._announcing.cancel()
                try:
                    async with self._operating:
                        pass  # whoever has begun to pause or to resume the guest ends first
                finally:
                    self._stood_as = RunState.PAUSED
                    if self.run_state is not RunState.RUNNING:
                        self._stood_as = self.run_state
                        self._become(RunState.FINISH_MIGRATE)
            case GuestPaused():
                self._become(RunState.FINISH_MIGRATE)
            case GuestResumed():
                self._become(RunState.RUNNING)
            case StatusReached(status) if status.is_final:
                self._is_handing_over = False
                if self.outgoing is not None and not self.outgoing.owns_guest:
                    self._become(RunState.POSTMIGRATE)
                elif self.run_state is RunState.FINISH_MIGRATE:
                    self._become(self._stood_as)
                elif self.outgoing is not None and not self.outgoing.resumes_guest:
                    await self.stop()  # it was told to when it was about to be paused

    async def _heed_incoming(self, notice: Notice) -> None:
        """Keep the run state true when the guest arrives, and let it announce itself."""
        match notice:
            case GuestResumed():
                self._become(RunState.RUNNING)
            case StatusReached(MigrationStatus.COMPLETED):
                if self.run_state is RunState.INMIGRATE:
                    self._become(RunState.PAUSED)
                self.announce(self.settings.parameters)
                await self._obey_late_order()
            case StatusReached(MigrationStatus.FAILED):
                if self.incoming is not None and isinstance(self.incoming.error, HandoverError):
                    self._become(RunState.PAUSED)

    # The end.

    async def quit(self, reason: str) -> None:
        """Ask the process to end, once what is under way has been brought to an end.

        Args:
            reason: In QEMU's words: ``host-qmp-quit``, or ``host-signal``.
        """
        if self.quit_reason is not None:
            return
        self.quit_reason = reason
        try:
            await self._tell(ShuttingDown(reason))
        finally:
            self.is_quitting.set()

    # Private steps.

    def _become(self, run_state: RunState) -> None:
        check_transition(self.run_state, run_state)
        self.run_state = run_state

    async def _within(self, action: Callable[[], Awaitable[None]], name: str) -> None:
        try:
            await within(action, self.settings.parameters.guest_timeout_s, name)
        except Exception as error:
            raise as_migration_error(error) from error

    async def _tell(self, notice: Notice) -> None:
        await self.notifiers.tell(notice, timeout_s=self.settings.parameters.notice_timeout_s)


@asynccontextmanager
async def open_host(
    guest: Guest,
    settings: Settings | None = None,
    *,
    awaits_migration: bool = False,
    autostart: bool = True,
    limiter: BandwidthLimiter | None = None,
    on_over: Callable[[Attempt], Awaitable[None]] | None = None,
) -> AsyncIterator[Host]:
    """Host a guest as long as the block lasts.

    Args:
        guest: Paused. It stays as it is: use :meth:`Host.cont`.
        settings: Of the migrations to come; the host's own from now on.
        awaits_migration: Whether the guest comes from elsewhere.
        autostart: Whether it is started when it has come, if it ran there.
        limiter: What all migrations of this host share their bandwidth with.
        on_over: Called with each migration that has ended.

    Cancellation: as leaving. What is under way is cancelled; up to the hand-over the guest stays
    here, and after it the migration completes.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield Host(
                guest,
                nursery,
                settings or Settings(),
                awaits_migration=awaits_migration,
                autostart=autostart,
                limiter=limiter,
                on_over=on_over,
            )
        except Exception as error:
            failure = error  # as it is: no exception group around it
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
