"""The sending half of a channel: time-outs, pacing and accounting; one segment packed ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from transship.errors import StalledError

if TYPE_CHECKING:
    from transship.abc.channel import Channel
    from transship.abc.section import Segments
    from transship.buffers import Buffer
    from transship.engine.pacing import Pacer


class _End:
    """A generator has returned, with this value."""

    def __init__(self, value: bool) -> None:
        self.value = value


class StreamSender:
    """Sends records over one channel.

    Args:
        channel: Borrowed.
        pacer: Told of every byte.
        stall_timeout_s: How long one send may take; it is about a mebibyte.
    """

    def __init__(self, channel: Channel, pacer: Pacer, stall_timeout_s: float) -> None:
        self._channel = channel
        self._pacer = pacer
        self._stall_timeout_s = stall_timeout_s

    async def send(self, *segments: Buffer) -> None:
        """Send, whatever the cap says.

        Raises:
            StalledError: The peer does not take it in time.
            ChannelError: The channel broke.
        """
        with trio.move_on_after(self._stall_timeout_s) as scope:
            await self._channel.send_segments(segments)
        if scope.cancelled_caught:
            raise StalledError(
                f"{self._channel.peer} took nothing for {self._stall_timeout_s:g} s",
                hint="the destination hangs, or the network is gone",
            )
        self._pacer.sent(sum(map(len, segments)))

    async def send_record(
        self, header: Buffer, body: Segments, footer: Buffer, *, paced: bool
    ) -> bool:
        """Send a record, packing a segment in a worker thread while the one before it is sent.

        Args:
            header: What precedes the body.
            body: Pulled one segment ahead, never further.
            footer: What follows it.
            paced: Whether the bandwidth cap holds.

        Returns:
            What the body returned.
        """
        step = await _advance(body)
        while not isinstance(step, _End):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.send, header, step)
                following = await _advance(body)
            step, header = following, b""
            if paced:
                await self.keep_pace()
        await self.send(header, footer)
        return step.value

    async def keep_pace(self) -> None:
        """Sleep as the bandwidth cap demands."""
        self._pacer.tick(trio.current_time())
        while pause_s := self._pacer.pause_s(trio.current_time()):
            await trio.sleep(pause_s)
            self._pacer.tick(trio.current_time())


async def _advance(body: Segments) -> Buffer | _End:
    return await trio.to_thread.run_sync(_next, body)


def _next(body: Segments) -> Buffer | _End:
    try:
        return next(body)
    except StopIteration as stop:
        return _End(bool(stop.value))
