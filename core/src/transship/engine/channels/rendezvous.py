"""Where the stream and its extra channels wait for each other, on the destination."""

from __future__ import annotations

import threading
from typing import final

import trio

from transship.errors import ChannelError, PeerClosedError


@final
class MeetingPoint:
    """The channels come in their threads, the stream in the event loop; then all go on.

    Args:
        count: How many channels there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._changed = threading.Condition()
        self._waiting = 0
        self._meetings = 0
        self._is_broken = False
        self._has_ended = False
        self._all_here = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def channel_arrives(self) -> None:
        """Wait, in a channel's thread, for the stream.

        Raises:
            ChannelError: It will not come any more.
        """
        with self._changed:
            meeting = self._meetings
            self._waiting += 1
            if self._waiting == self.count:
                self._token.run_sync_soon(self._all_here.set)
            self._changed.wait_for(lambda: self._meetings > meeting or self._is_broken)
            if self._meetings == meeting:
                raise ChannelError("the stream does not go on")

    def channel_ended(self) -> None:
        """A channel comes no more, told by the event loop; the stream waits in vain for it."""
        self._has_ended = True
        self._all_here.set()

    async def stream_arrives(self) -> None:
        """Wait for all channels, and let them go on.

        Raises:
            PeerClosedError: One of them has ended before.

        Cancellation: they wait on.
        """
        await self._all_here.wait()
        with self._changed:
            if self._waiting < self.count:
                raise PeerClosedError(
                    "an extra channel ended before the stream did",
                    expected=f"{self.count} channels",
                    found="the end of one",
                )
            if not self._has_ended:
                self._all_here = trio.Event()
            self._waiting = 0
            self._meetings += 1
            self._changed.notify_all()

    def give_up(self) -> None:
        """Nobody comes any more; from any thread, idempotent."""
        with self._changed:
            self._is_broken = True
            self._changed.notify_all()
