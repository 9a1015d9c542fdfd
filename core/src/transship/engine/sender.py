"""The sending half of a channel: time-outs, pacing and accounting."""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import Blocking, Seekable
from transship.abc.section import ChannelWork, FileWork, RemoteWork
from transship.engine.batches import batches
from transship.engine.channels.threads import run_in_thread
from transship.engine.pacing import SLICE_S
from transship.errors import ChannelError, LocalError, StalledError
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc.channel import BlockingSender, Channel
    from transship.abc.section import Segments
    from transship.buffers import Buffer
    from transship.engine.channels.sending import ChannelPool
    from transship.engine.pacing import Pacer
    from transship.engine.remote import TimedWriter


_BREATH_BYTES: Final = 64 * MIB
"""What is sent in a thread before others are asked whether it may go on: 20 ms where it is fast."""

_SMALL_BYTES: Final = 64
"""A segment of up to so many ends a record at once: between records others may be sent."""


class _End:
    """A generator has returned, with this value."""

    def __init__(self, value: bool) -> None:
        self.value = value


class StreamSender:
    """Sends records over one channel.

    Args:
        channel: Borrowed.
        pacer: Told of every byte.
        stall_timeout_s: How long a call, or 64 KiB where calls do not block, may take.
        cap_bytes_per_s: Says what the pacer's cap is at the moment; asked at every slice.
        on_slice: Called at the end of each.
    """

    def __init__(
        self,
        channel: Channel,
        pacer: Pacer,
        stall_timeout_s: float,
        cap_bytes_per_s: Callable[[], int],
        on_slice: Callable[[], None] = lambda: None,
    ) -> None:
        self._channel = channel
        self._pacer = pacer
        self._stall_timeout_s = stall_timeout_s
        self._cap_bytes_per_s = cap_bytes_per_s
        self._on_slice = on_slice
        self._pool: ChannelPool | None = None
        self._writer: TimedWriter | None = None
        blocking = channel.capability(Blocking)
        self._thread_sender: BlockingSender | None = None
        if blocking is not None:
            self._thread_sender = blocking.blocking_sender(stall_timeout_s)

    def use(self, pool: ChannelPool | None) -> None:
        """Let work for extra channels go there, from now on; what went to another is counted."""
        self._count_extra()
        self._pool = pool

    def write_with(self, writer: TimedWriter | None) -> None:
        """Let memory be written remotely, from now on."""
        self._writer = writer

    async def send(self, *segments: Buffer) -> None:
        """Send, whatever the cap says.

        Raises:
            StalledError: The peer does not take it in time.
            ChannelError: The channel broke.
        """
        for batch in batches(segments):
            with trio.move_on_after(self._stall_timeout_s) as scope:
                await self._channel.send_segments(batch)
            if scope.cancelled_caught:
                raise StalledError(
                    f"{self._channel.peer} did not take {sum(map(len, batch))} bytes within "
                    f"{self._stall_timeout_s:g} s",
                    hint="the destination hangs, or the network is gone",
                )
            self._pacer.sent(sum(map(len, batch)))

    async def send_record(
        self, header: Buffer, body: Segments, footer: Buffer, *, paced: bool
    ) -> bool:
        """Send a record, its body from a worker thread.

        Args:
            header: What precedes the body.
            body: Pulled one segment ahead at most; closed at the end, also of a failure.
            footer: What follows it.
            paced: Whether the bandwidth cap holds.

        Returns:
            What the body returned.
        """
        await self.send(header)
        with closing(body):
            if self._thread_sender is None:
                value = await self._send_ahead(body, paced=paced)
            else:
                value = await self._send_in_thread(self._thread_sender, body, paced=paced)
        await self.send(footer)
        return value

    async def _send_ahead(self, body: Segments, *, paced: bool) -> bool:
        """Send a body, packing a segment in a thread while the one before it is sent."""
        step = await self._advance(body)
        while not isinstance(step, _End):
            if isinstance(step, FileWork | RemoteWork):
                await self._work_beside(step)
                step = await self._advance(body)
                if paced and not isinstance(step, _End):
                    await self.keep_pace()
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.send, step)
                following = await self._advance(body)
            step = following
            if (
                paced
                and not isinstance(step, _End | FileWork | RemoteWork)
                and len(step) > _SMALL_BYTES
            ):
                await self.keep_pace()
        return step.value

    async def _send_in_thread(self, sender: BlockingSender, body: Segments, *, paced: bool) -> bool:
        """Send a body, packing and sending in turns in one thread.

        That is the fastest where processors are few: a segment is still in the cache when it is
        sent, and nothing waits for the event loop. What is ahead is in the kernel's buffers.
        """
        while True:
            quota = min(self._pacer.budget_bytes(), _BREATH_BYTES) if paced else _BREATH_BYTES
            pump = partial(self._pump, sender, body, quota, trio.lowlevel.current_clock())
            sent, end = await run_in_thread(pump, sender.interrupt)
            self._pacer.sent(sent)
            self._count_extra()
            if end is not None:
                return end.value
            if paced:
                await self.keep_pace()

    def _pump(
        self, sender: BlockingSender, body: Segments, quota: int, clock: trio.abc.Clock
    ) -> tuple[int, _End | None]:
        """Send segments until it is time for a breath; says how much, and how the body ended."""
        sent = 0
        until_s = clock.current_time() + SLICE_S
        while not isinstance(step := self._next(body), _End):
            if isinstance(step, FileWork):
                self._work_in_file(step)
                size = step.size_bytes
            elif isinstance(step, RemoteWork):
                trio.from_thread.run(self._write_remotely, step)
                size = step.size_bytes
            else:
                sender.send((step,))
                size = len(step)
            sent += size
            is_due = sent >= quota or clock.current_time() >= until_s
            if is_due and size > _SMALL_BYTES:
                return sent, None
        return sent, step

    async def keep_pace(self, at_most_s: float = math.inf) -> bool:
        """Sleep as the bandwidth cap demands; returns whether more may be sent now.

        Args:
            at_most_s: Sleep no longer than that, and return False then.
        """
        until_s = trio.current_time() + at_most_s
        self._tick()
        while pause_s := self._pacer.pause_s(trio.current_time()):
            if trio.current_time() + pause_s > until_s:
                return False
            await trio.sleep(pause_s)
            self._tick()
        return True

    def record_bytes(self) -> int:
        """How much the next record may hold; see :meth:`Pacer.record_bytes`."""
        return self._pacer.record_bytes()

    def _tick(self) -> None:
        self._count_extra()
        self._pacer.cap_bytes_per_s = self._cap_bytes_per_s()
        if self._pacer.tick(trio.current_time()):
            self._on_slice()

    def _count_extra(self) -> None:
        if self._pool is not None:
            self._pacer.sent(self._pool.take_sent_bytes())
            if self._pacer.slices:
                self._pool.keep_ahead(self._pacer.bandwidth_bytes_per_s)

    async def _work_beside(self, work: FileWork | RemoteWork) -> None:
        if isinstance(work, FileWork):
            await trio.to_thread.run_sync(self._work_in_file, work)
        else:
            await self._write_remotely(work)
        self._pacer.sent(work.size_bytes)

    async def _write_remotely(self, work: RemoteWork) -> None:
        writer = self._writer
        if writer is None:
            raise LocalError("a section writes memory remotely, and the channel cannot")
        if work.runs:
            await writer.write(work.runs)
        if work.flush:
            await writer.flush()

    def _work_in_file(self, work: FileWork) -> None:
        """Let a section write in the file; the stream goes on where it says."""
        file = self._channel.capability(Seekable)
        if file is None:
            raise LocalError("a section has work for a file, and the channel is none")
        try:
            file.seek(work.do(file.descriptor, file.tell()))
        except OSError as error:
            raise ChannelError(f"{self._channel.peer}: {error.strerror or error}") from error

    async def _advance(self, body: Segments) -> Buffer | FileWork | RemoteWork | _End:
        step = await trio.to_thread.run_sync(self._next, body)
        self._count_extra()
        return step

    def _next(self, body: Segments) -> Buffer | FileWork | RemoteWork | _End:
        """The next segment of the stream; work for extra channels is handed out meanwhile."""
        try:
            while isinstance(segment := next(body), ChannelWork):
                if self._pool is None:
                    raise LocalError("a section has work for extra channels that are not there")
                self._pool.submit(segment)
        except StopIteration as stop:
            return _End(bool(stop.value))
        return segment
