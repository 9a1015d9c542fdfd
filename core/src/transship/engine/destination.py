"""The destination's side of one migration: what comes off the wire, and what it means."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from transship.engine.adopting import Adopter
from transship.engine.failures import concerning
from transship.engine.layout import check_same_layout
from transship.engine.receiver import StreamReceiver
from transship.engine.remote import Exposure
from transship.engine.status import MigrationStatus
from transship.engine.wayback import return_path_of
from transship.errors import MigrationError, StalledError
from transship.wire.constants import PING_GREETING, CommandType, Feature, RecordType
from transship.wire.decoder import StreamDecoder
from transship.wire.events import (
    Command,
    Configuration,
    EndOfStream,
    Event,
    Header,
    Package,
    SectionFooter,
    SectionHeader,
    VMDescription,
)
from transship.wire.reason import reason
from transship.wire.returnpath import ReturnMessage, greeting, pong, shut
from transship.wire.tail import read_tail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.abc.channel import Channel, ReturnPath
    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.settings import Settings
    from transship.engine.channels.loading import ChannelLoaders
    from transship.engine.disks import GuestDisks
    from transship.engine.stats import Statistics


_REST_BYTES: Final = 65_536
"""Room for what a source still says when it has been told that the guest runs here."""


class Destination:
    """Loads one guest from one channel.

    Args:
        guest: Where to; paused.
        sections: Its sections, for this migration alone.
        disks: Its disks; released, if it does not arrive, by whoever made this.
        channel: Borrowed; used by nobody else.
        settings: Of the migration.
        statistics: Kept up to date.
        enter: Told of each status as it is reached.
        nursery: Lives at least as long as this.
        extra: The extra channels, if a section has any.
        first: What of the stream has come already.

    Attributes:
        may_have_guest: Whether the source may have given the guest up: it has been told, or may
            have heard, that everything has loaded.
        owns_guest: Whether the source has given it up for certain.
    """

    def __init__(
        self,
        guest: Guest,
        sections: SectionSet,
        disks: GuestDisks,
        channel: Channel,
        settings: Settings,
        statistics: Statistics,
        enter: Callable[[MigrationStatus], Awaitable[None]],
        nursery: trio.Nursery,
        extra: ChannelLoaders | None = None,
        first: bytes = b"",
    ) -> None:
        self.may_have_guest = False
        self.owns_guest = False
        self._guest = guest
        self._sections = sections
        self._disks = disks
        self._channel = channel
        self._settings = settings
        self._parameters = settings.parameters
        self._statistics = statistics
        self._enter = enter
        self._extra = extra
        self._receiver = StreamReceiver.of_stream(
            channel, self._parameters.stall_timeout_s, extra.meet if extra else None
        )
        self._reader = self._receiver.reader
        self._reader.writable()[: len(first)] = first
        self._reader.received(len(first))
        self._adopter = Adopter(guest, channel, self._parameters.stall_timeout_s)
        self._exposure = Exposure(channel, settings, nursery)
        self._return_path: ReturnPath | None = None
        self._loaded: set[tuple[str, int]] = set()
        self._devices_loaded = False
        self._in_device = False
        self._has_begun = False
        self._has_said = False
        self._refusal: MigrationError | None = None

    async def run(self) -> None:
        """Load everything, to the hand-over.

        Raises:
            MigrationError: The migration failed; the attributes say whose the guest is.

        Cancellation: at any time before the hand-over.
        """
        decoder = StreamDecoder(self._reader)
        try:
            while not await self._ended(await self._next(decoder), decoder):
                pass
        finally:
            await self._exposure.end()
        await self._take_over()

    async def _next(self, decoder: StreamDecoder) -> Event | None:
        event = await self._receiver.run(decoder.next_event())
        beside_bytes = self._extra.received_bytes if self._extra else self._receiver.file_bytes
        self._statistics.transferred_bytes = self._reader.offset + beside_bytes
        return event

    async def _ended(self, event: Event | None, decoder: StreamDecoder) -> bool:
        """Act on an event of the outer stream. Returns whether the guest is complete."""
        if self.may_have_guest and not isinstance(event, (SectionFooter, EndOfStream)):
            self._check_after_prepared(event)
        if self._refusal is not None:
            await self._refuse(event, self._refusal)
        match event:
            case Header() | SectionFooter() | None:
                return event is None
            case Configuration():
                self._configure(event)
            case SectionHeader():
                return await self._section(event)
            case Command():
                await self._command(event)
            case Package():
                await self._package(event, decoder)
            case EndOfStream():
                return self.may_have_guest
            case VMDescription():
                return True
        return False

    def _configure(self, configuration: Configuration) -> None:
        try:
            check_same_layout(configuration, self._settings)
            self._guest.configure(configuration)
        except MigrationError as error:
            self._refusal = error

    async def _refuse(self, event: Event | None, refusal: MigrationError) -> NoReturn:
        """Fail because of the configuration, now that the source may have opened a return path."""
        if isinstance(event, Command) and event.command is CommandType.OPEN_RETURN_PATH:
            await self._command(event)
        raise refusal

    def _check_after_prepared(self, event: Event | None) -> None:
        """Refuse whatever would change the guest after the source was told that it has loaded."""
        if isinstance(event, Command) and event.command is CommandType.PING:
            return
        raise self._reader.error(
            "the source goes on after it was told that everything has loaded",
            offset=event.offset if event else None,
            expected="PING or EndOfStream",
            found=type(event).__name__ if event else "the end",
        )

    async def _section(self, header: SectionHeader) -> bool:
        """Load one record, or the whole rest of the stream if only its description ends it."""
        self._has_begun = True
        section = self._sections.find(header.idstr, header.instance_id)
        if section is None:
            if header.kind is RecordType.SECTION_FULL and self._guest.accepts_any:
                await self._unknown_devices(header)
                return True
            raise self._reader.error(
                f"the source has a section {header.idstr!r} that nothing here loads",
                offset=header.offset,
                expected="one of " + ", ".join(section.idstr for section in self._sections),
                found=f"{header.idstr!r}, instance {header.instance_id}",
                hint="a device or a section plugin is missing on the destination",
            )
        if not section.minimum_version_id <= header.version_id <= section.version_id:
            raise self._reader.error(
                "unsupported section version",
                offset=header.offset,
                expected=f"{section.minimum_version_id} to {section.version_id}",
                found=str(header.version_id),
            )
        with concerning(section, lambda: self._reader.offset):
            parsing = self._sections.load(section, header, self._reader)
            await (self._receiver.run_long if section.is_live else self._receiver.run)(parsing)
        if header.kind is RecordType.SECTION_END and self._extra and section.extra_channels:
            await self._extra.stop()
        if header.kind is RecordType.SECTION_END:
            await self._exposure.end_of(section)
        if header.kind in (RecordType.SECTION_END, RecordType.SECTION_FULL):
            self._loaded.add((header.idstr, header.instance_id))
        self._statistics.sections[header.idstr] = section.statistics()
        return False

    async def _unknown_devices(self, first: SectionHeader) -> None:
        """Keep device sections from ``first`` to the description, which tells them apart."""
        await self._enter_device()
        tail = await self._receiver.run(read_tail(self._reader, first))
        self._guest.add_device_records(tail.records)
        self._guest.set_description(tail.description)
        self._statistics.device_bytes = tail.length
        self._devices_loaded = True

    async def _command(self, command: Command) -> None:
        match command.command:
            case CommandType.OPEN_RETURN_PATH:
                self._return_path = return_path_of(self._channel, is_asked_for=True)
                if self._return_path is None:
                    raise self._reader.error(
                        f"{self._channel.peer} asks for a return path that this channel lacks",
                        offset=command.offset,
                        hint="switch the source's capability return-path off",
                    )
            case CommandType.PING:
                if not self.may_have_guest and (self._devices_loaded or not self._missing()):
                    await self._prepare()
                if command.value() == PING_GREETING:
                    await self._answer(greeting(self._features), command)
                await self._answer(pong(command.value()), command)
            case CommandType.OFFER_MEMORY:
                await self._adopt(command)
            case CommandType.EXPOSE_MEMORY:
                await self._expose(command)
            case CommandType.SWITCHOVER_START:
                await self._enter_device()
            case CommandType.POSTCOPY_ADVISE if not command.payload:
                pass  # dirty bitmaps could follow later, and do not unless somebody says so
            case _:
                raise self._reader.error(
                    f"the source wants {command.command.name}, which is not supported",
                    offset=command.offset,
                    expected="a precopy migration",
                    hint="switch postcopy and COLO off at the source",
                )

    async def _adopt(self, command: Command) -> None:
        """Take memory of the source's, which offers it before anything else of the guest."""
        if self._has_begun or len(self._reader.buffered()):
            raise self._reader.error(
                "an offer of memory that comes too late, or is not waited for",
                offset=command.offset,
                expected="it before the first section, and nothing behind it",
                found="more",
            )
        await self._adopter.adopt(command, partial(self._answer, command=command))

    @property
    def _features(self) -> Feature:
        """What a source of our kind can make use of."""
        can_expose = self._exposure.is_possible and not self._guest.accepts_any
        return self._adopter.features | (Feature.EXPOSES_MEMORY if can_expose else Feature(0))

    async def _expose(self, command: Command) -> None:
        """Let the source write to memory of which it has told us."""
        is_late = self._in_device or self.may_have_guest
        if is_late or not await self._exposure.begin(self._sections):
            raise self._reader.error(
                "the source wants to write to memory, and there is none to be had",
                offset=command.offset,
                expected="the table of RAM blocks before, and a channel that can do it",
            )

    def abandon_memory(self) -> None:
        """What is still the source's has to be the source's alone; idempotent."""
        self._adopter.abandon()

    async def _answer(self, message: ReturnMessage, command: Command) -> None:
        if self._return_path is None:
            raise self._reader.error(
                "the source asks without having opened the return path",
                offset=command.offset,
                expected="OPEN_RETURN_PATH before",
                found=command.command.name,
            )
        await self._send_return(self._return_path, message)

    async def _send_return(self, path: ReturnPath, message: ReturnMessage) -> None:
        timeout_s = self._parameters.stall_timeout_s
        with trio.move_on_after(timeout_s) as scope:
            await path.send_return(message.encode())
        if scope.cancelled_caught:
            raise StalledError(
                f"{self._channel.peer} did not take {message.type.name} within {timeout_s:g} s",
                offset=self._reader.offset,
                hint="the source does not read the return path",
            )

    async def _package(self, package: Package, outer: StreamDecoder) -> None:
        """Load the device sections of a package, which ends with EOF and their description."""
        await self._enter_device()
        decoder = StreamDecoder(self._reader, outer)
        end = self._reader.offset + package.length
        with self._reader.bounded(package.length):
            ended = False
            while not ended:
                match await self._next(decoder):
                    case SectionHeader() as header:
                        ended = await self._section(header)
                    case EndOfStream():
                        ended = True
            await self._receiver.run(self._reader.drop(end - self._reader.offset))
        self._devices_loaded = True

    async def _prepare(self) -> None:
        """Everything is here: make it last. From the next message on the source may give it up."""
        if missing := self._missing():
            raise self._reader.error(
                "the source left sections out, or did not end them",
                expected=", ".join(missing),
                found="the end of the stream",
            )
        await self._enter_device()
        await self._disks.flush()
        await self._guest.prepare()
        self._adopter.check()
        self.may_have_guest = True

    def _missing(self) -> list[str]:
        """Sections that this guest cannot do without, and that have not been loaded to the end."""
        missing = [
            section.idstr
            for section in self._sections
            if (section.idstr, section.instance_id) not in self._loaded and not section.is_optional
        ]
        if self._guest.accepts_any and not self._devices_loaded:
            missing.append("device state")
        return missing

    async def _take_over(self) -> None:
        """The source has sent the end: the guest is ours.

        A source that did not ask before (QEMU) waits for our word, if there is a return path,
        and has finished already, if there is none.
        """
        if not self.may_have_guest:
            await self._prepare()
            with trio.CancelScope(shield=True):
                await self._say(failed=False)
        self.owns_guest = True
        self._adopter.own()
        with trio.CancelScope(shield=True):
            await self._guest.commit()
            await self._disks.own()

    async def _enter_device(self) -> None:
        if not self._in_device:
            self._in_device = True
            await self._enter(MigrationStatus.DEVICE)

    async def say_started(self) -> None:
        """Tell a source that waits for it that the guest is here, and let it close the channel.

        Best effort: whatever happens now, the guest is ours.
        """
        rest = memoryview(bytearray(_REST_BYTES))
        with (
            trio.move_on_after(self._parameters.cleanup_timeout_s, shield=True),
            suppress(Exception),
        ):
            await self._say(failed=False)
            while await self._channel.receive_some_into(rest):
                pass

    async def say_failed(self, error: MigrationError) -> None:
        """Tell the source that it failed, and why. Best effort."""
        with (
            trio.move_on_after(self._parameters.cleanup_timeout_s, shield=True),
            suppress(Exception),
        ):
            if await self._say(failed=True) and self._return_path is not None:
                await self._send_return(self._return_path, reason(error))

    async def _say(self, *, failed: bool) -> bool:
        """Send SHUT, once; returns whether it was."""
        if self._return_path is None or self._has_said:
            return False
        self._has_said = True
        await self._send_return(self._return_path, shut(failed=failed))
        return True
