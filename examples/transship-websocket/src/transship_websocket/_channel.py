"""A channel over a WebSocket.

A WebSocket has messages, and one end for both directions. So the stream goes in binary messages of
any size, and a text message says that nothing more follows in its direction.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from trio_websocket import ConnectionClosed

from transship.abc import ExtraChannels
from transship.errors import ChannelError, PeerClosedError
from transship.toolkit import GuardedChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trio_websocket import WebSocketConnection

    from transship.abc import Outgoing
    from transship.abc.channel import C
    from transship.buffers import Buffer
    from transship.toolkit import OwnedNursery

MESSAGE_BYTES: Final = 256 * 1024
"""Of a message that is sent. A longer one only costs memory at both ends."""

_END: Final = "end"


class WebSocketChannel(GuardedChannel):
    """Carries the stream in one direction, and the return path in the other.

    Args:
        connection: Connected.
        stream: What is below it; owned by the channel from now on.
        tasks: With the task that reads; owned as well.
        peer: Who is at the other end, for people.
        open_channel: How the source opens another channel to the same place.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        stream: trio.abc.Stream,
        tasks: OwnedNursery,
        peer: str,
        open_channel: Callable[[], Outgoing] | None = None,
    ) -> None:
        super().__init__(peer)
        self._connection = connection
        self._stream = stream
        self._tasks = tasks
        self._open_channel = open_channel
        self._rest = b""
        self._has_received_end = False

    # Sending

    async def _send(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments, in messages that hold a copy of them."""
        await trio.lowlevel.checkpoint()
        with self._translated():
            for message in _messages(segments):
                await self._connection.send_message(message)

    async def _end(self) -> None:
        with self._translated():
            await self._connection.send_message(_END)

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source; as :meth:`send_segments`."""
        await self.send_segments((message,))

    # Receiving

    async def _receive(self, target: memoryview) -> int:
        """Receive from the message in hand, or from the next one."""
        await trio.lowlevel.checkpoint()
        with self._translated():
            while not self._rest and not self._has_received_end:
                self._take(await self._connection.get_message())
        self._refuse_if_closed()
        part = self._rest[: len(target)]
        target[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages; as :meth:`receive_some_into`."""
        return await self.receive_some_into(target)

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._rest = message
        elif message == _END:
            self._has_received_end = True
        else:
            raise ChannelError(
                f"{self._peer} does not speak as Transship does over a WebSocket",
                expected=f"binary messages, and {_END!r} behind them",
                found=f"the text {message[:40]!r}",
            )

    # More channels

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        if kind is ExtraChannels and self._open_channel is None:
            return None
        return super().capability(kind)

    def open_channel(self) -> Outgoing:
        """Prepare another channel to the same place."""
        if self._open_channel is None:
            raise ChannelError(f"there is only one channel to {self._peer}")
        return self._open_channel()

    # The end

    async def _close(self) -> None:
        """Close both directions at once; never waits for the peer to close as well."""
        try:
            await trio.aclose_forcefully(self._stream)
        finally:
            await self._tasks.aclose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ConnectionClosed as error:
            self._refuse_if_closed()
            raise PeerClosedError(f"{self._peer} closed the channel") from error


def _messages(segments: Sequence[Buffer]) -> Iterator[bytes]:
    """The same bytes in pieces of at most :data:`MESSAGE_BYTES`, none of them empty."""
    message = bytearray()
    for segment in segments:
        data = bytes(segment)
        for start in range(0, len(data), MESSAGE_BYTES):
            message += data[start : start + MESSAGE_BYTES]
            if len(message) >= MESSAGE_BYTES:
                yield bytes(message[:MESSAGE_BYTES])
                del message[:MESSAGE_BYTES]
    if message:
        yield bytes(message)
