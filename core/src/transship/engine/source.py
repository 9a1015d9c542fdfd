"""The source's side of one migration, step by step: what goes on the wire, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from transship.abc.channel import Channel, ReturnPath
from transship.abc.section import Pending, Section, SectionSet, Segments
from transship.engine.answers import Answers
from transship.engine.deadlines import within
from transship.engine.failures import concerning
from transship.engine.globalstate import GlobalState
from transship.engine.pacing import Pacer
from transship.engine.packing import PackedDevices, pack_devices
from transship.engine.policy import Decision, decide, threshold_bytes
from transship.engine.sender import StreamSender
from transship.engine.status import MigrationStatus
from transship.errors import ChannelError
from transship.wire import encoder
from transship.wire.constants import CommandType, RecordType
from transship.wire.events import Configuration, SectionHeader
from transship.wire.limits import PACKAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc.guest import Guest
    from transship.engine.parameters import Parameters
    from transship.engine.stats import Statistics

_PING_HELLO = 1
_PING_HANDOVER = 2
_FIRST_SECTION_ID = 1
"""Not 0: QEMU, as a destination, takes a PART with id 0 for one of a device not loaded yet."""


class Source:
    """Sends one guest over one channel.

    Args:
        guest: What moves.
        sections: Its sections, for this migration alone.
        channel: Borrowed; used by nobody else.
        parameters: Limits.
        statistics: Kept up to date.
        enter: Told of each status as it is reached.

    Attributes:
        owns_guest: Whether the guest is still ours to resume. False from the moment in which
            the destination has said that it has everything, or, without a return path, in which
            the end of the stream is about to be sent.
        was_running: Whether the guest ran when it was paused.
        is_confirmed: Whether the destination said that it has the guest.
    """

    def __init__(
        self,
        guest: Guest,
        sections: SectionSet,
        channel: Channel,
        parameters: Parameters,
        statistics: Statistics,
        enter: Callable[[MigrationStatus], None],
    ) -> None:
        self.owns_guest = True
        self.was_running = False
        self.is_confirmed = False
        self._guest = guest
        self._sections = sections
        self._channel = channel
        self._parameters = parameters
        self._statistics = statistics
        self._enter = enter
        self._pacer = Pacer(parameters.max_bandwidth_bytes_per_s, trio.current_time())
        self._sender = StreamSender(channel, self._pacer, parameters.stall_timeout_s)
        self._section_ids = {
            (section.idstr, section.instance_id): number
            for number, section in enumerate(sections, _FIRST_SECTION_ID)
        }
        self._paused_at_s: float | None = None

    async def run(self) -> None:
        """Send everything, to the hand-over and past it.

        Raises:
            MigrationError: The migration failed; :attr:`owns_guest` says whose the guest is.

        Cancellation: at any time before the hand-over; what comes after it is shielded.
        """
        path = self._channel.capability(ReturnPath)  # type: ignore[type-abstract]
        if path is None:
            await self._send_stream(None)
            return
        answers = Answers(path, self._channel.peer)
        async with trio.open_nursery() as nursery:
            listening = trio.CancelScope(shield=True)
            listening_over = trio.Event()
            nursery.start_soon(self._listen, answers, listening, listening_over)
            try:
                await self._send_stream(answers)
            except ChannelError:
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
        await self._send_header(with_return_path=answers is not None)
        if answers:
            await self._ask(answers, _PING_HELLO)
        await self._send_setup()
        self._enter(MigrationStatus.ACTIVE)
        await self._precopy()
        if answers:
            await answers.pong(_PING_HELLO, self._parameters.stall_timeout_s)
        self._enter(MigrationStatus.DEVICE)
        await self._pause_guest()
        await self._send_ends()
        devices = await self._pack_devices()
        if answers:
            await self._hand_over(devices, answers)
        else:
            await self._send_blindly(devices)
        self._statistics.remaining_bytes = 0
        self._update()

    async def _send_header(self, *, with_return_path: bool) -> None:
        configuration = Configuration(
            machine=self._guest.machine, page_size=self._guest.page_size, uuid=self._guest.uuid
        )
        await self._sender.send(encoder.stream_header() + encoder.configuration(configuration))
        if with_return_path:
            await self._sender.send(encoder.command(CommandType.OPEN_RETURN_PATH))

    async def _send_setup(self) -> None:
        started_s = trio.current_time()
        for section in self._live():
            await self._send_section(RecordType.SECTION_START, section)
        self._statistics.setup_s = trio.current_time() - started_s
        self._update()

    async def _precopy(self) -> None:
        """Send rounds while the guest runs, until what is left fits the downtime limit."""
        while True:
            await self._sender.keep_pace()
            pending = await self._pending(exact=False)
            decision = self._decide(pending, exact=False)
            if decision is Decision.SYNC:
                pending = await self._pending(exact=True)
                decision = self._decide(pending, exact=True)
            self._statistics.remaining_bytes = pending.total
            self._update()
            if decision is Decision.SWITCH_OVER:
                return
            await self._iterate()

    def _decide(self, pending: Pending, *, exact: bool) -> Decision:
        threshold = threshold_bytes(
            self._pacer.bandwidth_bytes_per_s, self._parameters.downtime_limit_s
        )
        return decide(pending.total, threshold, exact=exact)

    async def _pending(self, *, exact: bool) -> Pending:
        def ask() -> Pending:
            pending = Pending()
            for section in self._live():
                with concerning(section):
                    pending += self._sections.pending(section, exact=exact)
            return pending

        return await trio.to_thread.run_sync(ask) if exact else ask()

    async def _iterate(self) -> None:
        """Send a part of a round: the sections in order, each once those before it are through."""
        for section in self._live():
            budget = max(1, self._pacer.budget_bytes())
            if not await self._send_section(RecordType.SECTION_PART, section, budget):
                return

    async def _pause_guest(self) -> None:
        self.was_running = self._guest.is_running
        self._paused_at_s = trio.current_time()
        if self.was_running:
            await within(self._guest.pause, self._parameters.guest_timeout_s, "pause")

    async def _send_ends(self) -> None:
        for section in self._live():
            await self._send_section(RecordType.SECTION_END, section)

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
        self._update()
        await answers.pong(_PING_HANDOVER, self._parameters.handover_timeout_s)
        self.owns_guest = False
        answers.may_end = True
        with trio.CancelScope(shield=True):
            await self._send_end(devices)
            await answers.shut(self._parameters.stall_timeout_s)
        self.is_confirmed = True
        self._note_downtime()

    async def _send_blindly(self, devices: PackedDevices) -> None:
        """Without a return path nobody says whether the guest arrived."""
        await self._sender.send(devices.records)
        self.owns_guest = False
        with trio.CancelScope(shield=True):
            await self._send_end(devices)
            await self._channel.send_eof()
        self._note_downtime()

    async def _send_end(self, devices: PackedDevices) -> None:
        await self._sender.send(
            encoder.end_of_stream(), encoder.vm_description(devices.description)
        )

    async def _ask(self, answers: Answers, value: int) -> None:
        answers.expect(value)
        await self._sender.send(encoder.ping(value))

    def _note_downtime(self) -> None:
        if self.was_running and self._paused_at_s is not None:
            self._statistics.downtime_s = trio.current_time() - self._paused_at_s

    def _live(self) -> list[Section]:
        return [section for section in self._sections if section.is_live]

    async def _send_section(
        self, kind: RecordType, section: Section, budget_bytes: int = 0
    ) -> bool:
        """Send one record of a live section; returns what its body returned."""
        section_id = self._section_ids[section.idstr, section.instance_id]
        header = SectionHeader(
            kind, section_id, section.idstr, section.instance_id, section.version_id
        )
        try:
            with concerning(section):
                return await self._sender.send_record(
                    encoder.section_header(header),
                    self._body(kind, section, budget_bytes),
                    encoder.section_footer(section_id),
                    paced=kind is RecordType.SECTION_PART,
                )
        finally:
            self._update()

    def _body(self, kind: RecordType, section: Section, budget_bytes: int) -> Segments:
        match kind:
            case RecordType.SECTION_START:
                return self._sections.begin(section)
            case RecordType.SECTION_PART:
                return self._sections.iterate(section, budget_bytes)
            case _:
                return self._sections.complete(section)

    def _update(self) -> None:
        self._statistics.transferred_bytes = self._pacer.sent_bytes
        self._statistics.bandwidth_bytes_per_s = self._pacer.bandwidth_bytes_per_s
        sections = {section.idstr: section.statistics() for section in self._live()}
        self._statistics.sections = sections
        self._statistics.rounds = max(
            (counters.get("dirty_sync_count", 0) for counters in sections.values()), default=0
        )
