"""The destination's extra channels: each is received in a thread of its own, into guest RAM."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.section import FromDescriptor
from transship.engine.channels.rendezvous import MeetingPoint
from transship.engine.channels.threads import receiver_in_thread
from transship.engine.failures import concerning
from transship.errors import MigrationError, RemoteError, StalledError, StreamError
from transship.wire.multifd import parse_initial_packet
from transship.wire.reader import Rendezvous

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc.channel import BlockingReceiver, Channel
    from transship.abc.section import ChannelParsing, Section, SectionSet

_LOOKS: Final = 8
"""How often within its time-out a stream that waits looks whether anything comes."""


class ChannelLoaders:
    """Loads what comes over the extra channels of one section.

    Args:
        sections: Of this migration; borrowed.
        section: The one that has extra channels.
        uuid: The guest's, which every channel must name, if both have one.
        stall_timeout_s: How long a stream that waits for them may see nothing come.

    Attributes:
        failure: Why the first of them failed, if one has.
        all_stopped: Set when no thread uses a channel any more, and none ever will.
    """

    def __init__(
        self, sections: SectionSet, section: Section, uuid: bytes | None, stall_timeout_s: float
    ) -> None:
        self._sections = sections
        self._section = section
        self._uuid = uuid
        self._stall_timeout_s = stall_timeout_s
        self._point = MeetingPoint(section.extra_channels)
        self.failure: BaseException | None = None
        self._loaders: dict[int, _Loader] = {}
        self._stopping = threading.Event()
        self._nursery: trio.Nursery | None = None
        self.all_stopped = trio.Event()
        self._limiter = trio.CapacityLimiter(section.extra_channels)

    @property
    def received_bytes(self) -> int:
        """How much has come over all of them."""
        return sum(loader.received_bytes for loader in self._loaders.values())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load while the body runs; a channel that fails fails it.

        When this is left no channel is received from any more, whatever happened.
        """
        async with trio.open_nursery() as watching:
            watching.start_soon(self._stop_when_cancelled)
            try:
                async with trio.open_nursery() as self._nursery:
                    try:
                        yield
                    finally:
                        self._interrupt()
            finally:
                self.all_stopped.set()
                watching.cancel_scope.cancel()

    def start(self, channel: Channel, initial: bytes) -> None:
        """Load a channel from now on; one that comes when all is over is left alone.

        Args:
            channel: Borrowed until :attr:`all_stopped`.
            initial: Its first packet.

        Raises:
            RemoteError: It does not belong here.
        """
        if self._stopping.is_set():
            return
        packet = parse_initial_packet(initial)
        if not self._loaders:
            self._uuid = self._uuid or packet.uuid
        if packet.uuid not in (None, self._uuid):
            raise RemoteError(
                "an extra channel is of another guest",
                section=self._section.idstr,
                expected="none" if self._uuid is None else self._uuid.hex(),
                found=f"{packet.uuid.hex()}, from {channel.peer}",
            )
        if packet.number >= self._point.count or packet.number in self._loaders:
            raise RemoteError(
                "more extra channels than were agreed on",
                section=self._section.idstr,
                expected=f"numbers 0 to {self._point.count - 1}, each once",
                found=f"another with number {packet.number}, from {channel.peer}",
                hint="set multifd-channels to the same on both sides, if nobody else connected",
            )
        loader = _Loader(
            packet.number,
            self._sections.load_channel(self._section, packet.number),
            receiver_in_thread(channel),
            self._point,
            self._stopping,
        )
        self._loaders[packet.number] = loader
        assert self._nursery is not None
        self._nursery.start_soon(self._load, loader)

    async def meet(self) -> None:
        """Wait until all channels have come as far as the stream.

        Raises:
            StalledError: Nothing comes over them any more, or some were never opened.
        """
        received, since_s = self.received_bytes, trio.current_time()
        while True:
            with trio.move_on_after(self._stall_timeout_s / _LOOKS) as waiting:
                await self._point.stream_arrives()
            if not waiting.cancelled_caught:
                return
            if self.received_bytes != received:
                received, since_s = self.received_bytes, trio.current_time()
            elif trio.current_time() >= since_s + self._stall_timeout_s:
                raise self._stalled()

    def _stalled(self) -> StalledError:
        count = len(self._loaders)
        if count == self._point.count:
            hint = "the source hangs, or the network is gone"
        elif count:
            hint = "set multifd-channels to the same on both sides"
        else:
            hint = "switch the capability multifd on at the source, or off at the destination"
        return StalledError(
            f"nothing came over the extra channels for {self._stall_timeout_s:g} s",
            section=self._section.idstr,
            expected=f"{self._point.count} channels, and memory over each",
            found=f"{count} channels, and {self.received_bytes} bytes over all of them",
            hint=hint,
        )

    async def stop(self) -> None:
        """Receive nothing more; when this returns no channel writes guest RAM."""
        self._interrupt()
        for loader in self._loaders.values():
            await loader.ended.wait()

    async def _load(self, loader: _Loader) -> None:
        try:
            with concerning(self._section):
                await trio.to_thread.run_sync(loader.run, limiter=self._limiter)
        except Exception as error:
            self.failure = self.failure or error
            raise
        finally:
            loader.ended.set()
            self._point.channel_ended()

    def _interrupt(self) -> None:
        self._stopping.set()
        self._point.give_up()
        for loader in self._loaders.values():
            loader.receiver.interrupt()

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._interrupt()


class _Loader:
    """One channel.

    Args:
        number: From 0.
        parsing: Of its section.
        receiver: Of the thread.
        point: Where it meets the stream.
        stopping: Whether it is over.
    """

    def __init__(
        self,
        number: int,
        parsing: ChannelParsing,
        receiver: BlockingReceiver,
        point: MeetingPoint,
        stopping: threading.Event,
    ) -> None:
        self.number = number
        self.receiver = receiver
        self.ended = trio.Event()
        self.received_bytes = 0
        self._parsing = parsing
        self._point = point
        self._stopping = stopping

    def run(self) -> None:
        """Receive until the channel ends, or it is over."""
        try:
            self._run()
        except MigrationError as error:
            if self._stopping.is_set():
                return
            if isinstance(error, StreamError) and error.offset is None:
                error.offset = self.received_bytes
            error.cause = f"extra channel {self.number}: {error.cause}"
            raise
        finally:
            self._parsing.close()

    def _run(self) -> None:
        try:
            want = next(self._parsing)
            while True:
                if isinstance(want, Rendezvous):
                    self._point.channel_arrives()
                    count = 0
                elif isinstance(want, FromDescriptor):
                    count = self.receiver.receive_with(want.receive)
                    self.received_bytes += max(count, 0)
                else:
                    count = self.receiver.receive(want)
                    self.received_bytes += count
                want = self._parsing.send(count)
        except StopIteration:
            return


async def beginning_of(channel: Channel, count: int, timeout_s: float) -> bytes:
    """So many bytes that a channel begins with; nothing, if they are not there in time."""
    first = bytearray(count)
    with trio.move_on_after(timeout_s):
        await channel.receive_into(memoryview(first))
        return bytes(first)
    return b""
