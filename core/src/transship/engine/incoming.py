"""One incoming migration, from listening to the running guest: the façade's other half."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.settings import Settings
from transship.engine.attempt import LOG, Attempt
from transship.engine.channels.loading import ChannelLoaders, beginning_of
from transship.engine.deadlines import within
from transship.engine.destination import Destination
from transship.engine.disks import GuestDisks
from transship.engine.entering import entered
from transship.engine.failures import add_trouble, after_handover, as_migration_error, collapse
from transship.engine.globalstate import GlobalState
from transship.engine.notifiers import GuestResumed, Notifiers
from transship.engine.securing import secured_listener
from transship.engine.status import MigrationStatus
from transship.errors import (
    CancelledError,
    ChannelError,
    MigrationError,
    NotStartedError,
    RemoteError,
    UnknownOutcomeError,
)
from transship.units import counted
from transship.wire.constants import MULTIFD_MAGIC
from transship.wire.multifd import INITIAL_BYTES
from transship.wire.reader import not_several_channels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from transship.abc.channel import Channel
    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.transport import Incoming, Listener
    from transship.engine.custody import Custodian

_INTRODUCTION_S: Final = 5.0
"""How long a connection may take to say what it is."""

_STRANGERS: Final = 16
"""Connections that have not said yet what they are; more wait to be accepted."""


class IncomingMigration(Attempt):
    """Waits for a guest and loads it. An object is used once.

    Args:
        guest: Where it is loaded; paused.
        sections: Its sections, made for this migration.
        incoming: The transport's context manager, not entered yet.
        settings: The same that the sections were made with.
        notifiers: Who is told of what happens.
        custodian: Who has a say over the guest besides.
        on_listening: Called with the address that a source can use, once it can connect.
        autostart: Whether a guest that ran on the source is to run here.

    Attributes:
        address: The address that a source can use; None until it can connect.
        listens: Whether sources connect to that address; if not, it is read, as a file is.
    """

    waiting_for = "waiting for a source"
    cancelled_text = "waiting for a migration was cancelled"

    def __init__(
        self,
        guest: Guest,
        sections: SectionSet,
        incoming: Incoming,
        settings: Settings | None = None,
        *,
        notifiers: Notifiers | None = None,
        custodian: Custodian | None = None,
        on_listening: Callable[[str], None] | None = None,
        autostart: bool = True,
    ) -> None:
        super().__init__(settings or Settings(), notifiers, custodian)
        self._autostart = autostart
        self.address: str | None = None
        self.listens = True
        self._guest = guest
        self._sections = sections
        self._incoming = incoming
        self._disks = GuestDisks(guest, lambda: self.parameters.handover_timeout_s)
        self._on_listening = on_listening
        self._destination: Destination | None = None
        self._refusal: MigrationError | None = None

    async def _attempt(self) -> None:
        async with (
            entered(self._incoming, math.inf, self.parameters.cleanup_timeout_s) as listening,
            secured_listener(
                listening, self.settings.security, self.parameters.connect_timeout_s
            ) as listener,
            AsyncExitStack() as stack,
        ):
            self.address, self.listens = listener.uri, listener.accepts_more
            if self._on_listening:
                self._on_listening(listener.uri)
            channel, first, early = await self._accept_stream(listener, stack)
            self._begin_clock()
            await self._enter(MigrationStatus.ACTIVE)
            await self._load_from(channel, first, early, listener)
            self._has_moved = True

    async def _accept_stream(
        self, listener: Listener, stack: AsyncExitStack
    ) -> tuple[Channel, bytes, Sequence[Channel]]:
        """The channel of the stream, what has come over it, and extra channels that were faster.

        Over TLS the channel that a source opens first need not be the first to be agreed on.

        Raises:
            RemoteError: More extra channels came than belong to a stream, and no stream.
        """
        early: list[Channel] = []
        while True:
            channel = await listener.accept()
            stack.push_async_callback(self._close, channel)
            extra_channels = sum(section.extra_channels for section in self._sections)
            first = b""
            if self.settings.security is not None and extra_channels:
                first = await beginning_of(channel, len(MULTIFD_MAGIC), _INTRODUCTION_S)
            if not first.startswith(MULTIFD_MAGIC):
                return channel, first, early
            if len(early) == extra_channels:
                raise RemoteError(
                    "the source opens extra channels, and does not begin its stream",
                    expected=counted(extra_channels, "extra channel", "extra channels"),
                    found=f"one more, from {channel.peer}",
                    hint="set multifd-channels to the same on both sides",
                )
            early.append(channel)

    async def _load_from(
        self, channel: Channel, first: bytes, early: Sequence[Channel], listener: Listener
    ) -> None:
        """Load from a channel, and from the extra ones that the source opens to it.

        Raises:
            RemoteError: The source opened extra channels that do not belong here.
        """
        async with trio.open_nursery() as nursery:
            loading = trio.CancelScope()
            async with self._extra_channels() as extra:
                for other in early:
                    nursery.start_soon(self._admit, other, extra, loading, MULTIFD_MAGIC)
                nursery.start_soon(self._accept_others, listener, extra, loading)
                nursery.start_soon(self._keep_disks_flushed, loading)
                with loading:
                    await self._load(channel, first, extra, nursery)
                    nursery.cancel_scope.shield = True
            nursery.cancel_scope.cancel()
        if loading.cancelled_caught:
            assert self._refusal is not None
            raise self._refusal

    @asynccontextmanager
    async def _extra_channels(self) -> AsyncIterator[ChannelLoaders | None]:
        """What loads extra channels, if a section has any."""
        for section in self._sections:
            if section.extra_channels:
                extra = ChannelLoaders(
                    self._sections, section, self._guest.uuid, self.parameters.stall_timeout_s
                )
                async with extra.running():
                    yield extra
                return
        yield None

    async def _accept_others(
        self, listener: Listener, extra: ChannelLoaders | None, loading: trio.CancelScope
    ) -> None:
        """Hand extra channels to those who load them, and turn everybody else away."""
        strangers = trio.Semaphore(_STRANGERS)
        async with trio.open_nursery() as nursery:
            while True:
                await strangers.acquire()
                try:
                    other = await listener.accept()
                except Exception:
                    LOG.debug("nobody else can connect any more", exc_info=True)
                    return
                nursery.start_soon(self._admit, other, extra, loading, b"", strangers.release)

    async def _keep_disks_flushed(self, loading: trio.CancelScope) -> None:
        """Write disks out while they are loaded; one that cannot be written ends the loading."""
        try:
            await self._disks.keep_flushed()
        except MigrationError as error:
            if self._destination is None or not self._destination.may_have_guest:
                self._refusal = self._refusal or error
                loading.cancel()

    async def _admit(
        self,
        other: Channel,
        extra: ChannelLoaders | None,
        loading: trio.CancelScope,
        first: bytes,
        when_known: Callable[[], None] = lambda: None,
    ) -> None:
        """Let a channel in that begins as one of multifd; one that is refused ends the loading.

        Otherwise the loading would wait in vain for what goes over that channel.
        """
        try:
            initial = b""
            with suppress(ChannelError):
                rest = await beginning_of(other, INITIAL_BYTES - len(first), _INTRODUCTION_S)
                initial = first + rest
            when_known()
            is_late = self._destination is not None and self._destination.may_have_guest
            if is_late or not initial.startswith(MULTIFD_MAGIC):
                return
            try:
                await self._load_extra(other, initial, extra)
            except MigrationError as error:
                self._refusal = self._refusal or error
                loading.cancel()
        finally:
            await self._close(other)

    @staticmethod
    async def _load_extra(other: Channel, initial: bytes, extra: ChannelLoaders | None) -> None:
        """Load an extra channel until nothing uses it any more.

        Raises:
            RemoteError: It does not belong here.
        """
        if extra is None:
            raise not_several_channels(RemoteError, f"another, of multifd, from {other.peer}")
        extra.start(other, initial)
        with trio.CancelScope(shield=True):
            await extra.all_stopped.wait()

    async def _close(self, channel: Channel) -> None:
        with (
            trio.move_on_after(self.parameters.cleanup_timeout_s, shield=True),
            suppress(Exception),
        ):
            await channel.aclose()

    async def _load(
        self,
        channel: Channel,
        first: bytes,
        extra: ChannelLoaders | None,
        nursery: trio.Nursery,
    ) -> None:
        destination = self._destination = Destination(
            self._guest,
            self._sections,
            self._disks,
            channel,
            self.settings,
            self.statistics,
            self._enter,
            nursery,
            extra,
            first,
        )
        try:
            await destination.run()
            with trio.CancelScope(shield=True):
                await self._start()
        except BaseException as error:
            failure = self._refusal or (extra.failure if extra else None)
            await destination.say_failed(self._as_reason(failure or error))
            raise
        with trio.CancelScope(shield=True):
            await destination.say_started()

    async def _start(self) -> None:
        state = self._sections.find(GlobalState.idstr, 0)
        is_to_run = self._autostart and self.custodian.may_resume()
        if is_to_run and isinstance(state, GlobalState) and state.was_running:
            await within(self._guest.resume, self.parameters.guest_timeout_s, "resume")
            self.custodian.guest_resumed()
            await self._tell(GuestResumed())

    def _as_reason(self, error: BaseException) -> MigrationError:
        """What the source is told."""
        reason = collapse(error)
        if isinstance(reason, trio.Cancelled):
            return CancelledError("the migration was cancelled on the destination")
        known = as_migration_error(reason)
        has_guest = self._destination is not None and self._destination.owns_guest
        return self._not_started(known) if has_guest else known

    @staticmethod
    def _not_started(error: MigrationError) -> NotStartedError:
        said = "it is at the destination, and was not started", error.hint
        hint = "; ".join(filter(None, said))
        what = "the guest arrived"
        return after_handover(NotStartedError, error, what, side="destination", hint=hint)

    async def _clean_up(self, error: MigrationError) -> MigrationError:
        """Whatever happened: exactly one side may run the guest, and the error says which."""
        destination = self._destination
        if destination is not None and destination.owns_guest:
            return self._not_started(error)
        if destination is not None and destination.may_have_guest:
            try:
                place = await self._guest.keep_unconfirmed()
            except Exception as broken:
                place = f"what arrived could not be put away: {broken}"
            return UnknownOutcomeError(
                f"everything arrived, but not the source's last word: {error.cause}",
                side="destination",
                phase=error.phase,
                offset=error.offset,
                expected=error.expected,
                found=error.found,
                hint=f"{place}; look at the source before anything else",
            )
        error.add_context(
            side="destination",
            source_may_resume=destination is not None or None,
        )
        if destination is not None:
            destination.abandon_memory()
        try:
            await self._disks.release()
        except Exception as broken:
            add_trouble(error, "the disks could not be let go", broken)
        try:
            await self._guest.discard()
        except Exception as broken:
            add_trouble(error, "what was loaded could not be discarded", broken)
        return error
