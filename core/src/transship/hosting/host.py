"""A guest and everything that an operator may ask of it: what control and the command line drive.

Knows neither JSON nor sockets of control. The guest runs on in here whatever becomes of a
migration; the process that embeds a host decides when it ends.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, asynccontextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, Final

import trio

from transship import assembly
from transship.abc.settings import Capability, Settings, check_capabilities
from transship.engine.announce import announce
from transship.engine.blockers import Blockers, blockers_of
from transship.engine.notifiers import HandoverBegins, Notice, Notifiers
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, CancelledError, MigrationError
from transship.hosting.keeper import Keeper
from transship.hosting.runstate import RunState
from transship.hosting.shutdown import ShutdownCause, ShuttingDown
from transship.hosting.storage.exporting import Exporting
from transship.hosting.storage.mirroring import Mirroring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from transship.abc.guest import Guest
    from transship.abc.settings import Parameters
    from transship.abc.transport import Options
    from transship.engine.attempt import Attempt
    from transship.engine.incoming import IncomingMigration
    from transship.engine.limiter import BandwidthLimiter
    from transship.engine.migration import Migration


_OF_TLS: Final = frozenset({"tls_creds", "tls_hostname", "tls_authz"})
_NO_OPTIONS: Final[Options] = {}
_NOTHING_READ: Final = (MigrationStatus.NONE, MigrationStatus.SETUP)


class DiskShare(Enum):
    """How much of the guest's disks goes along in one migration."""

    FULL = "full"
    """All of it."""
    INCREMENTAL = "incremental"
    """What they do not have from a base that the destination has as well."""


class Host:
    """One guest in this process. Made by :func:`open_host`.

    Attributes:
        guest: The machine.
        settings: Of the migrations to come; parameters hold for the one under way as well.
        blockers: What forbids moving the guest, besides what it says itself.
        notifiers: Who is told of what happens here: every notice of every migration,
            ``GuestPaused`` and ``GuestResumed`` also when an operator is the reason, and
            :class:`~transship.hosting.shutdown.ShuttingDown`.
        objects: What ``tls_creds`` and ``tls_authz`` may name; see :mod:`transship.tls`.
        outgoing: The last migration away from here, over or not.
        incoming: The last migration to here, over or not.
        incoming_options: What its transport was told beside the address.
        exits_on_error: Whether the process is to end if the migration to here fails.
        shutdown_cause: Why the process is to end; None as long as nobody wants it to.
        mirroring: Copies of the guest's disks to other devices.
        exporting: The server of the guest's disks.
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
        self.settings = settings
        self.blockers = Blockers()
        self.notifiers = Notifiers()
        self.objects: dict[str, object] = {}
        self.outgoing: Migration | None = None
        self.incoming: IncomingMigration | None = None
        self.incoming_options: Options = _NO_OPTIONS
        self.exits_on_error = True
        self.shutdown_cause: ShutdownCause | None = None
        self._nursery = nursery
        self._limiter = limiter
        self._on_over = on_over
        self._keeper = Keeper(
            guest,
            RunState.INMIGRATE if awaits_migration else RunState.PRELAUNCH,
            autostart=autostart,
            guest_timeout_s=lambda: self.settings.parameters.guest_timeout_s,
            tell=self._tell,
        )
        self.mirroring = Mirroring(guest, nursery, self._check_may_copy)
        self.exporting = Exporting(nursery, lambda: self.run_state is RunState.INMIGRATE)
        self._let_go: Migration | None = None
        self._announcing = trio.CancelScope()
        self._has_changed = trio.Event()
        self.notifiers.add(self._announce_no_more, "the announcements")

    # The guest.

    @property
    def run_state(self) -> RunState:
        """What the guest's processors do, and why."""
        return self._keeper.run_state

    async def stop(self) -> None:
        """Pause the guest; see :meth:`~transship.hosting.keeper.Keeper.stop`."""
        await self._keeper.stop()

    async def cont(self) -> None:
        """Let the guest run; see :meth:`~transship.hosting.keeper.Keeper.cont`."""
        await self._keeper.cont()

    def blocked_reasons(self) -> list[str]:
        """All that forbids moving the guest at the moment, each with its owner; never raises."""
        try:
            return [str(blocker) for blocker in blockers_of(self.guest, self.blockers)]
        except Exception as error:
            return [f"the guest cannot say what forbids moving it: {error!r}"]

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

    def _announce_no_more(self, notice: Notice) -> None:
        if isinstance(notice, HandoverBegins):
            self._announcing.cancel()

    # Settings.

    def set_parameters(self, changes: Mapping[str, object]) -> None:
        """Change parameters, of the migration under way as well.

        Args:
            changes: By the names in :class:`~transship.abc.settings.Parameters`.

        Raises:
            ValueError: They make no sense.
            BlockedError: They are of TLS, and a migration is under way or waited for.
            PluginError: No plugin provides the method of compression.
        """
        parameters = dataclasses.replace(self.settings.parameters, **changes)  # type: ignore[arg-type]
        attempt = self.active
        if attempt is not None and not _OF_TLS.isdisjoint(changes):
            raise BlockedError(
                "parameters of TLS cannot be changed while a migration is under way or waited for",
                hint="with --incoming defer they can be set before migrate-incoming",
            )
        if "multifd_compression" in changes:
            compression = assembly.compression_of(parameters)
            if attempt is not None and self._waits_for_source:
                attempt.settings.compression = compression
        self.settings.parameters = parameters
        if attempt is not None:
            attempt.parameters = parameters

    def set_capabilities(self, changes: Mapping[str, bool]) -> None:
        """Switch capabilities on and off, for the migrations to come.

        Raises:
            BlockedError: A migration is under way, or they cannot be had.
        """
        active = self.active
        if active is not None and not self._waits_for_source:
            raise BlockedError("capabilities cannot be changed while a migration is under way")
        switched_on = {name for name, is_on in changes.items() if is_on}
        capabilities = (self.settings.capabilities - changes.keys()) | switched_on
        check_capabilities(capabilities)
        if active is not None and Capability.MULTIFD in capabilities ^ self.settings.capabilities:
            raise BlockedError(
                "capability 'multifd' cannot be changed once a source is waited for",
                hint="with --incoming defer it can be set before migrate-incoming",
            )
        self.settings.capabilities = capabilities
        if active is not None:
            active.settings.capabilities = capabilities

    @property
    def _waits_for_source(self) -> bool:
        """Whether a migration to here is under way of which nothing has come yet."""
        return (
            self.incoming is not None
            and self.active is self.incoming
            and self.run_state is RunState.INMIGRATE
            and self.incoming.status in _NOTHING_READ
        )

    # Migrations.

    @property
    def active(self) -> Attempt | None:
        """The migration that is under way, one that waits for a source included."""
        for attempt in (self.outgoing, self.incoming):
            if attempt is not None and not attempt.is_over:
                return attempt
        return None

    async def start_migration(
        self,
        uri: str,
        *,
        options: Options = _NO_OPTIONS,
        until_over: ExitStack | None = None,
        disks: DiskShare | None = None,
    ) -> Migration:
        """Begin to move the guest away; returns when it is in ``setup``.

        Args:
            uri: Where to.
            options: For the transport.
            until_over: What the transport borrows. It is the host's from the call on, which closes
                it when the migration is over, or at once if it is refused.
            disks: Whether and how the disks go along in this migration; None for what the
                capability ``block`` and the parameter ``block_incremental`` say.

        Raises:
            BlockedError: The address is malformed; a migration is under way; the guest waits for
                one, or has moved away already; something forbids it; a disk is being copied, and
                the migration would not wait for that before its switchover.
            CancelledError: The process is about to end.
            PluginError: No plugin carries the scheme, or provides the method of compression.

        Cancellation: the migration goes on.
        """
        parameters, capabilities = self.settings.parameters, self.settings.capabilities
        if disks is not None:
            is_incremental = disks is DiskShare.INCREMENTAL
            parameters = dataclasses.replace(parameters, block_incremental=is_incremental)
            capabilities |= {Capability.BLOCK}
        with until_over or ExitStack() as lent:
            migration = assembly.migrate(
                self.guest,
                uri,
                parameters=parameters,
                capabilities=capabilities,
                options=options,
                objects=self.objects,
                notifiers=Notifiers(self.notifiers),
                custodian=self._keeper.departure(),
                blockers=self.blockers,
                limiter=self._limiter,
            )
            if self.shutdown_cause is not None:
                raise CancelledError("the migration was cancelled: the process is about to end")
            if self.run_state is RunState.INMIGRATE:
                raise BlockedError("the guest waits for a migration to here")
            if self.active is not None:
                raise BlockedError("a migration is under way")
            if Capability.PAUSE_BEFORE_SWITCHOVER not in capabilities:
                self.mirroring.check_over()
            if self.run_state is RunState.POSTMIGRATE:
                raise BlockedError("the guest has moved away already")
            migration.check()
            self.outgoing = migration
            has_begun = trio.Event()
            migration.notifiers.add(lambda _: has_begun.set(), "the start of a migration")
            self._nursery.start_soon(self._carry_out, migration, has_begun, lent.pop_all())
        await has_begun.wait()
        return migration

    def switch_over(self) -> None:
        """Let a migration go on that waits in ``pre-switchover``; without effect for others.

        Raises:
            BlockedError: A disk is still being copied.
        """
        if self.outgoing is not None and self.outgoing.status is MigrationStatus.PRE_SWITCHOVER:
            self.mirroring.check_over()
            self._let_go = self.outgoing
            self.outgoing.switch_over()

    def _check_may_copy(self) -> None:
        """Refuse to begin a copy of a disk that the guest may leave behind.

        Raises:
            BlockedError: The guest is not here, or is on its way and will not be held up.
        """
        if self.run_state in (RunState.INMIGRATE, RunState.POSTMIGRATE):
            raise BlockedError("the guest is not here", found=self.run_state.value)
        leaving = self.outgoing
        if leaving is None or leaving.is_over:
            return
        waits = Capability.PAUSE_BEFORE_SWITCHOVER in leaving.settings.capabilities
        if not waits or leaving is self._let_go:
            raise BlockedError("the guest is on its way, and would not wait for the copy of a disk")

    def cancel(self) -> None:
        """Cancel the migration away from here, if one is under way; does not wait."""
        if self.outgoing is not None:
            self.outgoing.cancel()

    async def start_incoming(
        self,
        uri: str,
        *,
        options: Options = _NO_OPTIONS,
        until_over: ExitStack | None = None,
        exits_on_error: bool = True,
    ) -> IncomingMigration:
        """Begin to wait for a migration; returns when a source can connect.

        Args:
            uri: Where to listen.
            options: For the transport.
            until_over: As for :meth:`start_migration`.
            exits_on_error: Whether the process is to end if the migration fails.

        Raises:
            BlockedError: The guest does not wait for one, or has begun to already; the address is
                malformed.
            PluginError: No plugin carries the scheme.
            ConnectError: Nobody can listen there; may be tried again with another address.

        Cancellation: the waiting goes on.
        """
        with until_over or ExitStack() as lent:
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
                options=options,
                objects=self.objects,
                notifiers=Notifiers(self.notifiers),
                custodian=self._keeper.arrival(),
                on_listening=lambda _: is_listening.set(),
            )
            self.incoming, self.incoming_options = incoming, options
            self.exits_on_error = exits_on_error
            self._nursery.start_soon(self._carry_out, incoming, is_listening, lent.pop_all())
        await is_listening.wait()
        if incoming.address is None:
            self.incoming = None
            assert incoming.error is not None
            raise incoming.error
        return incoming

    async def _carry_out(self, attempt: Attempt, has_begun: trio.Event, lent: ExitStack) -> None:
        """Run an attempt to its end, whoever asked for it."""
        try:
            with lent, suppress(MigrationError):
                await attempt.run()
        finally:
            had_begun = has_begun.is_set()
            has_begun.set()
        if attempt is self.incoming and attempt.status is MigrationStatus.COMPLETED:
            self.announce(self.settings.parameters)
        if had_begun and self._on_over is not None:
            await self._on_over(attempt)
        self._notify()

    # The end.

    async def quit(self, cause: ShutdownCause) -> None:
        """Ask the process to end, and cancel what is under way; the first cause counts."""
        if self.shutdown_cause is not None:
            return
        self.shutdown_cause = cause
        try:
            await self._tell(ShuttingDown(cause))
        finally:
            if self.active is not None:
                self.active.cancel()
            self._notify()

    async def wait_for_quit(self) -> ShutdownCause:
        """Wait until somebody has asked the process to end, and nothing is under way any more."""
        while self.shutdown_cause is None or self.active is not None:
            await self._has_changed.wait()
        return self.shutdown_cause

    def _notify(self) -> None:
        self._has_changed.set()
        self._has_changed = trio.Event()

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
    await trio.to_thread.run_sync(assembly.load_plugins)
    async with trio.open_nursery() as nursery:
        host = Host(
            guest,
            nursery,
            settings or Settings(),
            awaits_migration=awaits_migration,
            autostart=autostart,
            limiter=limiter,
            on_over=on_over,
        )
        try:
            yield host
        except Exception as error:
            failure = error  # as it is: no exception group around it
        finally:
            host.mirroring.cancel()
        nursery.cancel_scope.cancel()
    await host.mirroring.close()
    if failure is not None:
        raise failure
