"""A channel over a connected stream socket, of whatever family.

This file knows neither addresses nor time-outs. How long a silent peer is borne with is the
engine's decision; how a socket came about, a transport's.
"""

from __future__ import annotations

import errno
import socket
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import C, Channel, ExtraChannels
from transship.errors import ChannelError, PeerClosedError
from transship.toolkit.blocking_socket import (
    SEGMENTS_PER_CALL,
    BlockingSocketReceiver,
    BlockingSocketSender,
    as_bytes,
)
from transship.toolkit.conflict import ConflictDetector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.abc.transport import Outgoing
    from transship.buffers import Buffer

FAIR_BYTES: Final = 4 * 1024 * 1024
"""Most that is sent before other tasks have a turn, and a cancellation its effect: about 1 ms."""

_NOW: Final = socket.MSG_DONTWAIT
"""The socket itself blocks, once a thread has had a half of it."""

_PEER_IS_GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED})


class SocketChannel(Channel):
    """Carries the stream over a socket, and the return path in its other direction.

    So both ends have the :class:`~transship.abc.ReturnPath` capability: the side that sends the
    stream receives return messages, the side that receives the stream sends them. Stream and
    return messages of one direction share the rule that one task sends and one receives.

    Args:
        connection: A connected stream socket; owned by the channel from now on.
        peer: Who is at the other end, for people.
        open_channel: Prepares another channel to the same place, where that can be done; then the
            channel has the :class:`~transship.abc.ExtraChannels` capability.
    """

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        open_channel: Callable[[], Outgoing] | None = None,
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._peer = peer
        self._open_channel = open_channel
        self._sending = ConflictDetector("another task is sending on this channel")
        self._receiving = ConflictDetector("another task is receiving on this channel")
        self._is_closed = False
        self._has_ended = False
        self._is_poisoned = False

    @property
    def peer(self) -> str:
        """Who is at the other end, for people."""
        return self._peer

    # Sending

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments, in order; see :meth:`Channel.send_segments`.

        Takes as many system calls as the kernel's buffer asks for, none with more than
        :data:`SEGMENTS_PER_CALL` buffers.
        """
        with self._sending:
            self._refuse_unless_sendable()
            is_through = False
            try:
                await self._send(segments)
                is_through = True
            except trio.ClosedResourceError:
                raise self._closed_here() from None
            except OSError as error:
                raise self._broken(error) from error
            finally:
                self._is_poisoned = not is_through

    async def _send(self, segments: Sequence[Buffer]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        ends = list(accumulate(map(_size, segments)))
        total = ends[-1] if ends else 0
        sent = 0
        fair_until = FAIR_BYTES
        has_yielded = False
        while sent < total:
            first = bisect_right(ends, sent)  # the first segment that is not through
            begun = sent - (ends[first - 1] if first else 0)
            taken = self._send_once(segments[first : first + SEGMENTS_PER_CALL], begun)
            sent += taken
            # A call that was cut short is repeated at once: a receiver that runs at the same time
            # has made room, and on TCP a sixth more goes through than if we waited each time.
            if not taken or fair_until < sent < total:
                await trio.lowlevel.wait_writable(self._socket)
                has_yielded = True
                fair_until = sent + FAIR_BYTES
        if not has_yielded:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _send_once(self, batch: Sequence[Buffer], begun: int) -> int:
        """Hand a batch over without its first ``begun`` bytes; returns how many the kernel took."""
        try:
            if not begun:
                return self._socket.sendmsg(batch, (), _NOW)
            with as_bytes(batch[0]) as whole, whole[begun:] as rest:
                return self._socket.sendmsg([rest, *batch[1:]], (), _NOW)
        except BlockingIOError:
            return 0

    async def send_eof(self) -> None:
        """Say that nothing more will be sent, and keep the other direction; idempotent.

        Raises:
            ChannelError: It broke, was closed here, or an earlier send was cut short.
            trio.BusyResourceError: Another task is sending.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._has_ended and not self._is_closed:
                return
            self._refuse_unless_sendable()
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._is_poisoned = True
                raise self._broken(error) from error
            self._has_ended = True

    # Receiving

    async def receive_some_into(self, target: memoryview) -> int:
        """Receive at least one byte; see :meth:`Channel.receive_some_into`.

        Stays legal after a failed send: the peer's last words may still be waiting.
        """
        with self._receiving:
            self._refuse_if_closed()
            if not target.nbytes:
                raise ValueError("the target is empty: nothing can be received into it")
            try:
                return await self._receive(target)
            except trio.ClosedResourceError:
                raise self._closed_here() from None
            except OSError as error:
                raise self._broken(error) from error

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
        return BlockingSocketSender(self._socket, self._peer, timeout_s, self._broken)

    def blocking_receiver(self, timeout_s: float) -> BlockingSocketReceiver:
        """The receiving half for a thread; see :class:`~transship.abc.Blocking`."""
        return BlockingSocketReceiver(self._socket, self._peer, timeout_s, self._broken)

    # The end

    async def aclose(self) -> None:
        """Close both directions at once, and break what still waits on them; idempotent.

        Never waits for the peer and never raises. Bytes that the kernel had taken are still
        delivered, unless bytes of the peer's were left unread here: then the kernel may tell
        the peer that the connection was reset, and drop them. Whoever needs the last bytes to
        arrive sends the end, and closes when the peer has ended too.
        """
        if not self._is_closed:
            self._is_closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.cancel_shielded_checkpoint()

    # The one place where the kernel's words become ours

    def _broken(self, error: OSError) -> ChannelError:
        if self._is_closed:
            return self._closed_here()
        if error.errno in _PEER_IS_GONE:
            return PeerClosedError(f"{self._peer} closed the channel: {error.strerror}")
        return ChannelError(f"the channel to {self._peer} broke: {error.strerror or error}")

    def _closed_here(self) -> ChannelError:
        return ChannelError(f"the channel to {self._peer} was closed on this side")

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise self._closed_here()

    def _refuse_unless_sendable(self) -> None:
        self._refuse_if_closed()
        if self._is_poisoned:
            raise ChannelError(
                f"nothing more can be sent to {self._peer}: an earlier send was cut short"
            )
        if self._has_ended:
            raise ChannelError(f"nothing more can be sent to {self._peer}: the end was sent")


def _size(segment: Buffer) -> int:
    return segment.nbytes if isinstance(segment, memoryview) else len(segment)
