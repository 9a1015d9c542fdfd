"""A channel over a connected stream socket, of whatever family.

This file knows neither addresses nor time-outs. How long a silent peer is borne with is the
engine's decision; how a socket came about, a transport's.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import C, ExtraChannels
from transship.errors import ChannelError
from transship.toolkit.blocking_socket import BlockingSocketReceiver, BlockingSocketSender
from transship.toolkit.guarded_channel import GuardedChannel
from transship.toolkit.vectored import Vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.abc.transport import Outgoing
    from transship.buffers import Buffer

FAIR_BYTES: Final = 4 * 1024 * 1024
"""Most that is sent before other tasks have a turn, and a cancellation its effect: about 1 ms."""

_NOW: Final = socket.MSG_DONTWAIT
"""The socket itself blocks, once a thread has had a half of it."""


class SocketChannel(GuardedChannel):
    """Carries the stream over a socket, and the return path in its other direction.

    So both ends have the :class:`~transship.abc.ReturnPath` capability: the side that sends the
    stream receives return messages, the side that receives the stream sends them. Stream and
    return messages of one direction share the rule that one task sends and one receives. Receiving
    stays legal after a failed send: the peer's last words may still be waiting.

    Closing never waits for the peer. Bytes that the kernel had taken are still delivered, unless
    bytes of the peer's were left unread here: then the kernel may tell the peer that the
    connection was reset, and drop them. Whoever needs the last bytes to arrive sends the end, and
    closes when the peer has ended too.

    Args:
        connection: A connected stream socket; owned by the channel from now on.
        peer: Who is at the other end, for people.
        open_channel: Prepares another channel to the same place, where that can be done; then the
            channel has the :class:`~transship.abc.ExtraChannels` capability.
        host: The other host as the operator named it, whom its certificate is to name.
    """

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        open_channel: Callable[[], Outgoing] | None = None,
        *,
        host: str | None = None,
    ) -> None:
        super().__init__(peer)
        connection.setblocking(False)
        self._socket = connection
        self._open_channel = open_channel
        self._host = host

    @property
    def host(self) -> str | None:
        """The other host as the operator named it, if it has a name."""
        return self._host

    # What moves bytes

    async def _send(self, segments: Sequence[Buffer]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        data = Vector(segments)
        sent, fair_until = 0, FAIR_BYTES
        has_yielded = False
        while sent < data.length:
            taken = data.offer(sent, self._send_once)
            sent += taken
            # A call that was cut short is repeated at once: a receiver that runs at the same time
            # has made room, and on TCP a sixth more goes through than if we waited each time.
            if not taken or fair_until < sent < data.length:
                await trio.lowlevel.wait_writable(self._socket)
                has_yielded = True
                fair_until = sent + FAIR_BYTES
        if not has_yielded:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _send_once(self, buffers: Sequence[Buffer]) -> int:
        """How many bytes the kernel took."""
        try:
            return self._socket.sendmsg(buffers, (), _NOW)
        except BlockingIOError:
            return 0

    async def _receive(self, target: memoryview) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            count = self._socket.recv_into(target, 0, _NOW)
        except BlockingIOError:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return count
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv_into(target, 0, _NOW)
            except BlockingIOError:
                continue

    async def _end(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def _close(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

    # The other direction

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source; as :meth:`send_segments`."""
        await self.send_segments((message,))

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages; as :meth:`receive_some_into`."""
        return await self.receive_some_into(target)

    # More channels

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        if kind is ExtraChannels and self._open_channel is None:
            return None
        return super().capability(kind)

    def open_channel(self) -> Outgoing:
        """Prepare another channel to the same place; see :class:`~transship.abc.ExtraChannels`.

        Raises:
            ChannelError: There is none to be had.
        """
        if self._open_channel is None:
            raise ChannelError(f"there is only one channel to {self._peer}")
        return self._open_channel()

    # In the hands of a thread

    def blocking_sender(self, timeout_s: float) -> BlockingSocketSender:
        """The sending half for a thread; see :class:`~transship.abc.Blocking`."""
        self._refuse_unless_sendable()
        return BlockingSocketSender(
            self._socket, self._peer, timeout_s, self._broken, self._spoil_sending
        )

    def blocking_receiver(self, timeout_s: float) -> BlockingSocketReceiver:
        """The receiving half for a thread; see :class:`~transship.abc.Blocking`."""
        self._refuse_unless_receivable()
        return BlockingSocketReceiver(
            self._socket, self._peer, timeout_s, self._broken, self._spoil_receiving
        )
