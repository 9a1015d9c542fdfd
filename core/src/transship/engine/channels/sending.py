"""The source's extra channels: work goes to whichever is free, and each sends in its own thread."""

from __future__ import annotations

import math
import threading
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import ExtraChannels
from transship.engine.channels.threads import in_thread
from transship.errors import BlockedError, ChannelError, StalledError
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from transship.abc.channel import BlockingChannel, Channel
    from transship.abc.section import ChannelWork

_WAITING_BYTES: Final = 4 * MIB
"""What may wait for one channel: enough that it never runs dry, and little to wait for when the
guest stands still."""


def extra_channels_of(channel: Channel) -> ExtraChannels:
    """What opens more channels to where one leads.

    Raises:
        BlockedError: Its transport has only one.
    """
    extra = channel.capability(ExtraChannels)  # type: ignore[type-abstract]
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
        self._stall_timeout_s = stall_timeout_s
        self._changed = threading.Condition()
        self._lanes = [
            _Lane(in_thread(channel, stall_timeout_s), channel.peer) for channel in channels
        ]
        self._sent_bytes = 0
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
            StalledError: No channel takes anything any more.
            ChannelError: One is broken; the body of :meth:`running` is being cancelled.
        """
        with self._changed:
            if work.on_every_channel:
                for lane in self._lanes:
                    lane.add(work)
            else:
                self._wait_for_room()
                min(self._lanes, key=lambda lane: lane.waiting_bytes).add(work)
            self._refuse_if_broken()
            self._changed.notify_all()

    def take_sent_bytes(self) -> int:
        """How much has left since this was last asked."""
        with self._changed:
            sent, self._sent_bytes = self._sent_bytes, 0
        return sent

    def _wait_for_room(self) -> None:
        def has_room() -> bool:
            return self._is_broken or any(
                lane.waiting_bytes < _WAITING_BYTES for lane in self._lanes
            )

        if not self._changed.wait_for(has_room, _finite(self._stall_timeout_s)):
            raise StalledError(
                f"{self._lanes[0].peer} took nothing over {len(self._lanes)} extra channels for "
                f"{self._stall_timeout_s:g} s",
                hint="the destination hangs, or the network is gone",
            )

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
            segments = work.make(number)
            try:
                sent = sum(map(len, segments))
                lane.channel.send(segments)
            finally:
                for segment in segments:
                    if isinstance(segment, memoryview):
                        segment.release()
            with self._changed:
                lane.done(work)
                self._sent_bytes += sent
                self._changed.notify_all()

    def _next_of(self, lane: _Lane) -> ChannelWork | None:
        """The next work of a channel; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: bool(lane.work) or self._is_closing or self._is_broken)
            return lane.work[0] if lane.work and not self._is_broken else None

    def _close(self) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def _break(self) -> None:
        with self._changed:
            self._is_broken = True
            self._changed.notify_all()
        for lane in self._lanes:
            lane.channel.interrupt()

    async def _break_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if not self._is_done:
                self._break()


class _Lane:
    """One channel, and what waits for it.

    Args:
        channel: In its thread's hands.
        peer: Who is at its other end.
    """

    def __init__(self, channel: BlockingChannel, peer: str) -> None:
        self.channel = channel
        self.peer = peer
        self.work: deque[ChannelWork] = deque()
        self.waiting_bytes = 0

    def add(self, work: ChannelWork) -> None:
        self.work.append(work)
        self.waiting_bytes += work.size_bytes

    def done(self, work: ChannelWork) -> None:
        self.work.popleft()
        self.waiting_bytes -= work.size_bytes


def _finite(timeout_s: float) -> float | None:
    return None if math.isinf(timeout_s) else timeout_s
