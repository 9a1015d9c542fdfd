"""The source's side of one migration, step by step: what goes on the wire, and when."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING

import trio

from transship.abc.channel import RemoteMemory, Seekable
from transship.abc.settings import Capability
from transship.engine.answers import Answers
from transship.engine.channels.sending import ChannelPool, extra_channels_of
from transship.engine.deadlines import within
from transship.engine.entering import entered
from transship.engine.failures import collapse
from transship.engine.globalstate import GlobalState
from transship.engine.layout import check_layout, layout_capabilities
from transship.engine.lending import Lender
from transship.engine.live import LiveSections
from transship.engine.measures import Measures
from transship.engine.notifiers import GuestPaused, HandoverBegins
from transship.engine.pacing import Pacer
from transship.engine.packing import PackedDevices, pack_devices
from transship.engine.precopy import Precopy
from transship.engine.remote import TimedWriter, writing
from transship.engine.sender import StreamSender
from transship.engine.status import MigrationStatus
from transship.engine.wayback import return_path_of
from transship.errors import BlockedError, ChannelError, LocalError, StalledError
from transship.wire import encoder
from transship.wire.constants import PING_GREETING, CommandType, Feature, ReturnType
from transship.wire.events import Configuration
from transship.wire.limits import PACKAGE_BYTES
from transship.wire.multifd import initial_packet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from transship.abc.channel import Channel
    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.settings import Parameters, Settings
    from transship.engine.custody import Custodian
    from transship.engine.disks import GuestDisks
    from transship.engine.notifiers import Notice
    from transship.engine.stats import Statistics

_PING_HELLO = 1
_PING_HANDOVER = 2
_FIRST_PING_ALIVE = 3
_FIRST_PING_CATCH_UP = 0x4000_0000
_FIRST_SECTION_ID = 1
"""Not 0: QEMU, as a destination, takes a PART with id 0 for one of a device not loaded yet."""


class Source:
    """Sends one guest over one channel.

    Args:
        guest: What moves.
        sections: Its sections, for this migration alone.
        disks: Its disks; had back, if it stays, by whoever made this.
        channel: Borrowed; used by nobody else.
        settings: Of this migration; parameters are read again whenever they matter.
        cap_bytes_per_s: Says what may be sent at the moment while the guest runs; 0 is unlimited.
        statistics: Kept up to date.
        enter: Told of each status as it is reached.
        tell: Told of everything else that happens.
        custodian: Who has a say over the guest besides.

    Attributes:
        owns_guest: Whether the guest is still ours to resume. False from the moment in which
            the destination has said that it has everything; without a return path, in which the
            end of the stream is about to be sent, or is in a file for good.
        was_running: Whether the guest ran when it was to be paused.
        has_paused: Whether it was; so from before anybody is told to the end of the migration.
        is_confirmed: Whether the destination said that it has the guest.
        may_switch_over: Set by whoever lets a source go on that waits in ``pre-switchover``.
    """

    def __init__(
        self,
        guest: Guest,
        sections: SectionSet,
        disks: GuestDisks,
        channel: Channel,
        settings: Settings,
        cap_bytes_per_s: Callable[[], int],
        statistics: Statistics,
        enter: Callable[[MigrationStatus], Awaitable[None]],
        tell: Callable[[Notice], Awaitable[None]],
        custodian: Custodian,
    ) -> None:
        self.owns_guest = True
        self.was_running = False
        self.has_paused = False
        self.is_confirmed = False
        self.may_switch_over = trio.Event()
        self._guest = guest
        self._sections = sections
        self._disks = disks
        self._channel = channel
        self._settings = settings
        self._statistics = statistics
        self._enter = enter
        self._tell = tell
        self._custodian = custodian
        pacer = Pacer(cap_bytes_per_s(), trio.current_time())
        self._measures = Measures(statistics, pacer, guest, sections, settings, trio.current_time())
        self._sender = StreamSender(
            channel,
            pacer,
            self._parameters.stall_timeout_s,
            cap_bytes_per_s,
            self._measures.update,
        )
        self._section_ids = {
            (section.idstr, section.instance_id): number
            for number, section in enumerate(sections, _FIRST_SECTION_ID)
        }
        self._live = LiveSections(sections, self._section_ids, self._sender, self._measures.update)
        self._precopy = Precopy(
            guest,
            self._live,
            self._sender,
            self._measures,
            settings,
            tell,
            self._stay_alive,
            self._catch_up,
        )
        self._lender = Lender(guest, channel, self._parameters.stall_timeout_s)
        self._answers: Answers | None = None
        self._pings_alive = 0
        self._features = Feature(0)
        self._writer: TimedWriter | None = None
        self._catches = 0
        self._mark_s: float | None = None

    @property
    def _parameters(self) -> Parameters:
        return self._settings.parameters

    async def run(self) -> None:
        """Send everything, to the hand-over and past it.

        Raises:
            BlockedError: The channel lacks what a capability asks for.
            MigrationError: The migration failed; :attr:`owns_guest` says whose the guest is.

        Cancellation: at any time before the hand-over; what comes after it is shielded.
        """
        try:
            await self._run()
        finally:
            if self.owns_guest:
                self._lender.take_back()
            else:
                self._lender.give_away()

    async def _run(self) -> None:
        if any(section.extra_channels for section in self._sections):
            extra_channels_of(self._channel)
        check_layout(self._channel, self._settings)
        path = return_path_of(
            self._channel, is_asked_for=self._settings.has(Capability.RETURN_PATH)
        )
        if path is None:
            if self._settings.has(Capability.RETURN_PATH):
                raise BlockedError(
                    f"the channel to {self._channel.peer} has no return path",
                    expected="one, as the capability return-path is on",
                    hint="switch return-path off, or take a transport that has one",
                )
            await self._send_stream(None)
            return
        answers = Answers(path, self._channel.peer, self._parameters.cleanup_timeout_s)
        async with trio.open_nursery() as nursery:
            listening = trio.CancelScope(shield=True)
            listening_over = trio.Event()
            nursery.start_soon(self._listen, answers, listening, listening_over)
            try:
                await self._send_stream(answers)
            except Exception as error:
                if isinstance(collapse(error), ChannelError):
                    with trio.move_on_after(self._parameters.cleanup_timeout_s):
                        await listening_over.wait()
                raise
            finally:
                listening.cancel()
            nursery.cancel_scope.shield = True

    @staticmethod
    async def _listen(answers: Answers, scope: trio.CancelScope, over: trio.Event) -> None:
        """Listen; when that fails, the reason given by the peer cancels the sending.

        Only the sender ends it: a cancellation that comes when the guest has been given up must
        not keep the destination's last word from being heard.
        """
        try:
            with scope:
                await answers.listen()
        finally:
            over.set()

    async def _send_stream(self, answers: Answers | None) -> None:
        self._answers = answers
        await self._send_header(with_return_path=answers is not None)
        if answers:
            await self._ask(answers, _PING_HELLO)
            await self._greet(answers)
            if self._lender.has_an_offer and self._features & Feature.TAKES_MEMORY:
                await self._lender.lend(self._sender, answers)
        async with AsyncExitStack() as stack:
            pool = await self._open_extra_channels(stack)
            if pool is None:
                await self._send_live(answers)
            else:
                async with pool.running():
                    self._sender.use(pool)
                    await self._send_live(answers)
                self._sender.use(None)
            await self._disks.give_up()
            devices = await self._pack_devices()
            if answers:
                await self._hand_over(devices, answers)
            elif self._channel.capability(Seekable) is not None:
                await self._store(devices)
            else:
                await self._send_blindly(devices)
        self._statistics.remaining_bytes = 0
        self._measures.update()

    async def _greet(self, answers: Answers) -> None:
        """Ask a destination of our kind what it can do, if we can make use of it."""
        if not self._lender.has_an_offer and self._channel.capability(RemoteMemory) is None:
            return
        answers.expect_reply(ReturnType.GREETING)
        await self._ask(answers, PING_GREETING)
        await answers.pong(PING_GREETING, self._parameters.stall_timeout_s)
        greeting = answers.has_replied(ReturnType.GREETING)
        if greeting is not None:
            self._features = Feature(greeting.value())

    async def _open_extra_channels(self, stack: AsyncExitStack) -> ChannelPool | None:
        """What sends over extra channels, if a section wants any; they stay open till the end.

        Raises:
            ConnectError: The destination does not take that many.
        """
        count = sum(section.extra_channels for section in self._sections)
        if not count:
            return None
        extra = extra_channels_of(self._channel)
        limits = self._parameters
        channels = []
        for number in range(count):
            outgoing = entered(
                extra.open_channel(), limits.connect_timeout_s, limits.cleanup_timeout_s
            )
            channel = await stack.enter_async_context(outgoing)
            await channel.send_segments([initial_packet(self._guest.uuid, number)])
            channels.append(channel)
        return ChannelPool(channels, limits.stall_timeout_s)

    async def _send_live(self, answers: Answers | None) -> None:
        """Send what is live: while the guest runs, and to its end when it stands still."""
        await self._send_setup()
        async with self._writing_remotely():
            await self._enter(MigrationStatus.ACTIVE)
            try:
                async with self._disks.written_out():
                    await self._precopy.run()
                if answers:
                    await answers.pong(_PING_HELLO, self._parameters.stall_timeout_s)
                await self._pause_guest()
                await self._disks.quiesce()
            finally:
                self._precopy.end_throttling()
            if self._settings.has(Capability.PAUSE_BEFORE_SWITCHOVER):
                await self._wait_for_switchover()
            await self._enter(MigrationStatus.DEVICE)
            await self._catch_up()
            await self._send_ends()

    @asynccontextmanager
    async def _writing_remotely(self) -> AsyncIterator[None]:
        """Let memory be written to the destination's, where channel and destination can do that."""
        remote = self._channel.capability(RemoteMemory)
        sections = [one for one in self._sections if one.remote_memory()]
        if remote is None or not sections or not self._features & Feature.EXPOSES_MEMORY:
            yield
            return
        await self._sender.send(encoder.command(CommandType.EXPOSE_MEMORY))
        async with writing(self._channel, remote, sections, self._settings) as self._writer:
            self._sender.write_with(self._writer)
            for section in sections:
                section.write_remotely()
            yield
        self._writer = None
        self._sender.write_with(None)

    async def _catch_up(self) -> None:
        """What was written remotely is there, and the stream so far has been loaded.

        Else a page that comes twice, once this way and once the other, could be the older one.
        """
        if self._writer is None or self._answers is None:
            return
        number = _FIRST_PING_CATCH_UP + self._catches
        self._catches += 1
        await self._writer.flush()
        await self._ask(self._answers, number)
        await self._answers.pong(number, self._parameters.stall_timeout_s)

    async def _send_header(self, *, with_return_path: bool) -> None:
        configuration = Configuration(
            machine=self._guest.machine,
            page_size=self._guest.page_size,
            uuid=self._guest.uuid,
            capabilities=layout_capabilities(self._settings),
        )
        await self._sender.send(encoder.stream_header() + encoder.configuration(configuration))
        if with_return_path:
            await self._sender.send(encoder.command(CommandType.OPEN_RETURN_PATH))

    async def _send_setup(self) -> None:
        started_s = trio.current_time()
        await self._live.begin()
        self._statistics.setup_s = trio.current_time() - started_s
        await self._precopy.synced()

    async def _begin_handover(self) -> None:
        """Have the guest to ourselves.

        Raises:
            StalledError: Somebody is at it, and does not come to an end.
        """
        timeout_s = 2 * self._parameters.guest_timeout_s
        with trio.move_on_after(timeout_s) as waiting:
            await self._custodian.begin_handover()
        if waiting.cancelled_caught:
            raise StalledError(
                f"whoever pauses or resumes the guest did not end in {timeout_s:g} s"
            )
        await self._tell(HandoverBegins())

    async def _pause_guest(self) -> None:
        await self._begin_handover()
        self.was_running = self._guest.is_running
        self._mark_s = trio.current_time()
        if self.was_running:
            await within(self._guest.wake, self._parameters.guest_timeout_s, "wake")
            await within(self._guest.pause, self._parameters.guest_timeout_s, "pause")
            self.has_paused = True
            self._custodian.guest_paused()
            await self._tell(GuestPaused())
        self._measures.update()
        self._statistics.downtime.pause_s = self._lap_s()

    async def _wait_for_switchover(self) -> None:
        """Wait until somebody lets the migration go on; the destination hears that we live."""
        await self._enter(MigrationStatus.PRE_SWITCHOVER)
        while not self.may_switch_over.is_set():
            with trio.move_on_after(self._parameters.alive_interval_s) as waiting:
                await self.may_switch_over.wait()
            if waiting.cancelled_caught:
                await self._stay_alive()

    async def _stay_alive(self) -> None:
        """Say something, so that the destination does not believe us dead, and hear that it lives.

        Raises:
            StalledError: It has not answered the last time.
        """
        answers = self._answers
        if answers is None:
            await self._live.iterate(lambda: 1)
            return
        number = _FIRST_PING_ALIVE + self._pings_alive
        if self._pings_alive:
            await answers.pong(number - 1, self._parameters.stall_timeout_s)
        await self._ask(answers, number)
        self._pings_alive += 1

    async def _send_ends(self) -> None:
        await self._live.complete()
        self._statistics.downtime.memory_s = self._lap_s()
        await self._precopy.synced()

    async def _pack_devices(self) -> PackedDevices:
        state = self._sections.find(GlobalState.idstr, 0)
        if isinstance(state, GlobalState):
            state.run_state = "running" if self.was_running else "paused"
        devices = await trio.to_thread.run_sync(
            pack_devices, self._guest, self._sections, self._section_ids
        )
        self._statistics.device_bytes = len(devices.records)
        return devices

    async def _hand_over(self, devices: PackedDevices, answers: Answers) -> None:
        """Send the devices, give the guest up when they have been loaded, then end the stream."""
        package = devices.package()
        if len(package) <= PACKAGE_BYTES:
            await self._sender.send(encoder.package_header(len(package)), package)
        else:
            await self._sender.send(devices.records)
        await self._ask(answers, _PING_HANDOVER)
        self._measures.update()
        self._statistics.downtime.devices_s = self._lap_s()
        await answers.pong(_PING_HANDOVER, self._parameters.handover_timeout_s)
        self._give_up_guest()
        answers.may_end = True
        self._statistics.downtime.confirm_s = self._lap_s()
        with trio.CancelScope(shield=True):
            await self._send_end(devices)
            await answers.shut(self._parameters.stall_timeout_s)
        self.is_confirmed = True
        self._statistics.downtime.start_s = self._lap_s()
        self._note_downtime()

    async def _send_blindly(self, devices: PackedDevices) -> None:
        """Without a return path nobody says whether the guest arrived."""
        await self._sender.send(devices.records)
        self._give_up_guest()
        with trio.CancelScope(shield=True):
            await self._send_end(devices)
            await self._channel.send_eof()
        self._note_unconfirmed()

    async def _store(self, devices: PackedDevices) -> None:
        """Into a file, where nobody runs it: it is ours until all of it is there for good."""
        await self._sender.send(devices.records)
        await self._send_end(devices)
        await self._channel.send_eof()
        self._give_up_guest()
        self._note_unconfirmed()

    def _note_unconfirmed(self) -> None:
        self._statistics.downtime.devices_s = self._lap_s()
        self._note_downtime()

    def _give_up_guest(self) -> None:
        """From here on the guest is the destination's.

        Raises:
            LocalError: Somebody has let it run meanwhile; it stays here.
        """
        if self._guest.is_running:
            raise LocalError(
                "somebody let the guest run while it was handed over",
                expected="a guest that stands still",
                hint="what was sent is no longer what it is",
            )
        self.owns_guest = False

    async def _send_end(self, devices: PackedDevices) -> None:
        await self._sender.send(
            encoder.end_of_stream(), encoder.vm_description(devices.description)
        )

    async def _ask(self, answers: Answers, value: int) -> None:
        answers.expect(value)
        await self._sender.send(encoder.ping(value))

    def _lap_s(self) -> float:
        """The time since the last call, or since the guest began to be paused."""
        now_s = trio.current_time()
        assert self._mark_s is not None
        lap_s, self._mark_s = now_s - self._mark_s, now_s
        return lap_s

    def _note_downtime(self) -> None:
        if self.was_running:
            self._statistics.downtime_s = sum(astuple(self._statistics.downtime))
