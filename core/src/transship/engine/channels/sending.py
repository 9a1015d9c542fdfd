"""The source's extra channels: work goes to whichever is free, and each sends in its own thread."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import NO_DESCRIPTOR, ExtraChannels
from transship.engine.channels.threads import sender_in_thread
from transship.errors import BlockedError, ChannelError
from transship.wire.limits import MIB
from transship.wire.multifd import INITIAL_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from transship.abc.channel import BlockingSender, Channel
    from transship.abc.section import ChannelWork
    from transship.buffers import Buffer

_AHEAD_S: Final = 0.02
"""What may wait for a channel, in time: enough that it does not run dry, and little to wait for
when the guest stands still."""

_MOST_AHEAD_BYTES: Final = 8 * MIB
"""The same in bytes, for all channels together."""


def extra_channels_of(channel: Channel) -> ExtraChannels:
    """What opens more channels to where one leads.

    Raises:
        BlockedError: Its transport has only one.
    """
    extra = channel.capability(ExtraChannels)
    if extra is None:
        raise BlockedError(
            f"there is only one channel to {channel.peer}",
            expected="a transport that opens several, as the capability multifd is on",
            hint="switch multifd off, or take tcp: or unix:",
        )
    return extra


class ChannelPool:
    """Sends work over extra channels.

    Args:
        channels: Connected, their initial packets sent; borrowed.
        stall_timeout_s: How long a channel may take nothing.
    """

    def __init__(self, channels: Sequence[Channel], stall_timeout_s: float) -> None:
        self._lock = threading.Lock()
        self._has_room = threading.Condition(self._lock)
        self._lanes = [
            _Lane(sender_in_thread(channel, stall_timeout_s), channel.peer, self._lock)
            for channel in channels
        ]
        self._ahead_bytes = _MOST_AHEAD_BYTES
        self._sent_bytes = INITIAL_BYTES * len(channels)
        self._is_closing = False
        self._is_broken = False
        self._is_done = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the body runs; it has left, all of it, when the body has ended well.

        Cancellation, and a failure of the body or of a channel: all channels are broken.
        """
        async with trio.open_nursery() as watching:
            watching.start_soon(self._break_when_cancelled)
            async with trio.open_nursery() as sending:
                limiter = trio.CapacityLimiter(len(self._lanes))
                for number, lane in enumerate(self._lanes):
                    sending.start_soon(self._send_in_thread, number, lane, limiter)
                try:
                    yield
                except BaseException:
                    self._break()
                    raise
                self._close()
            self._is_done = True
            watching.cancel_scope.cancel()

    def submit(self, work: ChannelWork) -> None:
        """Let a channel do it, in a worker thread; waits while too much is to be done already.

        Raises:
            ChannelError: One is broken; the body of :meth:`running` is being cancelled.
        """
        with self._lock:
            if work.on_every_channel:
                for lane in self._lanes:
                    lane.add(work)
            else:
                self._wait_for_room()
                min(self._lanes, key=lambda lane: lane.waiting_bytes).add(work)
            self._refuse_if_broken()

    def keep_ahead(self, bandwidth_bytes_per_s: float) -> None:
        """Let no more wait than leaves in a moment, at that speed of all channels together."""
        self._ahead_bytes = min(int(bandwidth_bytes_per_s * _AHEAD_S), _MOST_AHEAD_BYTES)

    def take_sent_bytes(self) -> int:
        """How much has left since this was last asked."""
        with self._lock:
            sent, self._sent_bytes = self._sent_bytes, 0
        return sent

    def _wait_for_room(self) -> None:
        def has_room() -> bool:
            waiting = [lane.waiting_bytes for lane in self._lanes]
            return self._is_broken or not min(waiting) or sum(waiting) < self._ahead_bytes

        self._has_room.wait_for(has_room)  # a channel that stalls is broken by its own thread

    def _refuse_if_broken(self) -> None:
        if self._is_broken:
            raise ChannelError("an extra channel is broken")

    async def _send_in_thread(
        self, number: int, lane: _Lane, limiter: trio.CapacityLimiter
    ) -> None:
        try:
            await trio.to_thread.run_sync(self._send_all, number, lane, limiter=limiter)
        except BaseException:
            self._break()
            raise

    def _send_all(self, number: int, lane: _Lane) -> None:
        while (work := self._next_of(lane)) is not None:
            sent = lane.send(work, number)
            with self._lock:
                lane.done(work)
                self._sent_bytes += sent
                self._has_room.notify()

    def _next_of(self, lane: _Lane) -> ChannelWork | None:
        """The next work of a channel; None when there will be no more."""
        with self._lock:
            lane.has_work.wait_for(lambda: bool(lane.work) or self._is_closing or self._is_broken)
            return lane.work[0] if lane.work and not self._is_broken else None

    def _close(self) -> None:
        with self._lock:
            self._is_closing = True
            self._wake_all()

    def _break(self) -> None:
        with self._lock:
            self._is_broken = True
            self._wake_all()
        for lane in self._lanes:
            lane.sender.interrupt()

    def _wake_all(self) -> None:
        self._has_room.notify_all()
        for lane in self._lanes:
            lane.has_work.notify_all()

    async def _break_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if not self._is_done:
                self._break()


class _Lane:
    """One channel, and what waits for it.

    Args:
        sender: Of its thread.
        peer: Who is at its other end.
        lock: Held by whoever looks at it or changes it.
    """

    def __init__(self, sender: BlockingSender, peer: str, lock: threading.Lock) -> None:
        self.sender = sender
        self.has_work = threading.Condition(lock)
        self.peer = peer
        self.work: deque[ChannelWork] = deque()
        self.waiting_bytes = 0

    def add(self, work: ChannelWork) -> None:
        self.work.append(work)
        self.has_work.notify()
        self.waiting_bytes += work.size_bytes

    def send(self, work: ChannelWork, number: int) -> int:
        """Send what a piece of work is; returns how many bytes that was."""
        if work.send is not None:
            sent = self.sender.send_with(partial(work.send, number))
            if sent != NO_DESCRIPTOR:
                return sent
        return sum(map(self._send_segments, work.make(number)))

    def _send_segments(self, segments: Sequence[Buffer]) -> int:
        try:
            size = sum(map(len, segments))
            self.sender.send(segments)
        finally:
            for segment in segments:
                if isinstance(segment, memoryview):
                    segment.release()
        return size

    def done(self, work: ChannelWork) -> None:
        self.work.popleft()
        self.waiting_bytes -= work.size_bytes
