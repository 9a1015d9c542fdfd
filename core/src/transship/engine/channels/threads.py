"""A channel in a thread: as its transport can do it, or through the event loop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import trio

from transship.abc.channel import Blocking, BlockingChannel, Channel
from transship.errors import ChannelError, StalledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from transship.buffers import Buffer

T = TypeVar("T")


def in_thread(channel: Channel, timeout_s: float = math.inf) -> BlockingChannel:
    """The channel for a thread started by ``trio.to_thread``.

    Args:
        channel: Borrowed; from now on used by that thread, and closed here.
        timeout_s: How long a send or a receive may make no progress.
    """
    blocking = channel.capability(Blocking)  # type: ignore[type-abstract]
    if blocking is not None:
        return blocking.blocking(timeout_s)
    return _ThroughLoop(channel, timeout_s)


class _ThroughLoop(BlockingChannel):
    """Lets the event loop do what the thread asks for, and wait for it."""

    def __init__(self, channel: Channel, timeout_s: float) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._scope = trio.CancelScope()
        self._token = trio.lowlevel.current_trio_token()

    def send(self, segments: Sequence[Buffer]) -> None:
        trio.from_thread.run(self._within, self._send, segments, trio_token=self._token)

    def receive(self, targets: Sequence[memoryview]) -> int:
        return trio.from_thread.run(self._within, self._receive, targets, trio_token=self._token)

    def interrupt(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)

    async def _send(self, segments: Sequence[Buffer]) -> None:
        await self._channel.send_segments(segments)

    async def _receive(self, targets: Sequence[memoryview]) -> int:
        received = 0
        for target in targets:
            done = 0
            while done < len(target):
                with target[done:] as rest:
                    count = await self._channel.receive_some_into(rest)
                if not count:
                    return received
                done += count
                received += count
        return received

    async def _within(
        self, what: Callable[[Sequence[T]], Awaitable[int | None]], of: Sequence[T]
    ) -> int:
        """Do it, unless it is interrupted or takes too long."""
        with self._scope, trio.move_on_after(self._timeout_s) as waiting:
            return await what(of) or 0
        if waiting.cancelled_caught:
            raise StalledError(f"{self._channel.peer} did nothing for {self._timeout_s:g} s")
        raise ChannelError(f"the channel to {self._channel.peer} was closed on this side")
