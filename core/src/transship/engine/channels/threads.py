"""Channels in threads: as their transport can do it, or through the event loop."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from outcome import Error, capture

from transship.abc.channel import Blocking, BlockingReceiver, BlockingSender, Channel
from transship.engine.batches import batches
from transship.errors import ChannelError, StalledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from transship.buffers import Buffer

T = TypeVar("T")


def sender_in_thread(channel: Channel, timeout_s: float) -> BlockingSender:
    """The sending half of a channel, for a thread that ``trio.to_thread`` has started.

    Args:
        channel: Borrowed.
        timeout_s: How long a call may make no progress.
    """
    blocking = channel.capability(Blocking)
    return (
        _LoopSender(channel, timeout_s) if blocking is None else blocking.blocking_sender(timeout_s)
    )


def receiver_in_thread(channel: Channel) -> BlockingReceiver:
    """The receiving half of a channel, for such a thread; it waits for ever."""
    blocking = channel.capability(Blocking)
    if blocking is None:
        return _LoopReceiver(channel, math.inf)
    return blocking.blocking_receiver(math.inf)


async def run_in_thread(work: Callable[[], T], interrupt: Callable[[], None]) -> T:
    """Do something in a worker thread.

    Args:
        work: What blocks.
        interrupt: Makes it end; called at most once, when this is cancelled.

    Cancellation: it was interrupted, and has ended.
    """
    is_over = False

    async def watch() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if not is_over:
                interrupt()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        # Not one of the threads that all others share: as many migrations may wait for a peer.
        captured = await trio.to_thread.run_sync(capture, work, limiter=trio.CapacityLimiter(1))
        is_over = True
        nursery.cancel_scope.cancel()
    if isinstance(captured, Error) and isinstance(captured.error, ChannelError):
        await trio.lowlevel.checkpoint_if_cancelled()
    return captured.unwrap()


class _Loop:
    """Lets the event loop do what the thread asks for, and wait for it."""

    def __init__(self, channel: Channel, timeout_s: float) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._scope: trio.CancelScope | None = None
        self._is_interrupted = False
        self._token = trio.lowlevel.current_trio_token()

    def interrupt(self) -> None:
        self._token.run_sync_soon(self._interrupt)

    def _interrupt(self) -> None:
        self._is_interrupted = True
        if self._scope is not None:
            self._scope.cancel()

    def _run(self, what: Callable[[], Awaitable[T]]) -> T:
        return trio.from_thread.run(self._within, what, trio_token=self._token)

    async def _within(self, what: Callable[[], Awaitable[T]]) -> T:
        if not self._is_interrupted:
            with trio.CancelScope() as self._scope, trio.move_on_after(self._timeout_s) as waiting:
                return await what()
            if waiting.cancelled_caught:
                raise StalledError(f"{self._channel.peer} did nothing for {self._timeout_s:g} s")
        raise ChannelError(f"the channel to {self._channel.peer} was closed on this side")


class _LoopSender(_Loop, BlockingSender):
    def send(self, segments: Sequence[Buffer]) -> None:
        for batch in batches(segments):
            self._run(partial(self._channel.send_segments, batch))


class _LoopReceiver(_Loop, BlockingReceiver):
    def receive_some(self, target: memoryview) -> int:
        return self._run(lambda: self._channel.receive_some_into(target))
