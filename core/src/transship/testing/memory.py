"""A pair of channels inside this process, for tests of whatever drives channels.

Bytes are copied through bounded buffers, so a sender blocks on a receiver that does not read, as
it does on a socket; time passes only where the test lets it, since nothing here asks the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import trio

from transship.abc.channel import Channel
from transship.errors import ChannelError, PeerClosedError
from transship.toolkit.conflict import ConflictDetector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.buffers import Buffer

CAPACITY_BYTES: Final = 64 * 1024
"""What one direction holds by default: less than a slice of the engine, so that senders block."""


@final
class _Pipe:
    """One direction: a bounded buffer with one writer and one reader."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._held = bytearray()
        self._has_ended = False
        self._is_broken = False
        self._changed = trio.lowlevel.ParkingLot()

    async def write(self, data: memoryview, peer: str) -> None:
        """Put all of it in, as room appears.

        Raises:
            PeerClosedError: The reader is gone.
        """
        done = 0
        while True:
            if self._is_broken:
                raise PeerClosedError(f"{peer} closed the channel")
            room = self._capacity_bytes - len(self._held)
            with data[done : done + room] as part:
                self._held += part
                done += len(part)
            self._changed.unpark_all()
            if done == len(data):
                return
            await self._changed.park()

    async def read_into(self, target: memoryview, peer: str) -> int:
        """Take some bytes out, or 0 at the end.

        Raises:
            PeerClosedError: The writer is gone, and did not say that this is the end.
        """
        while not self._held:
            if self._has_ended:
                return 0
            if self._is_broken:
                raise PeerClosedError(f"{peer} closed the channel")
            await self._changed.park()
        count = min(len(self._held), len(target))
        with memoryview(self._held) as held, held[:count] as part:
            target[:count] = part
        del self._held[:count]
        self._changed.unpark_all()
        return count

    def end(self) -> None:
        """Nothing more will be written."""
        self._has_ended = True
        self._changed.unpark_all()

    def break_(self) -> None:
        """Writing has no sense any more; what was written can still be read."""
        self._is_broken = True
        self._changed.unpark_all()


@final
class MemoryChannel(Channel):
    """One end of a :func:`memory_channel_pair`; carries a return path in its other direction."""

    def __init__(self, peer: str, outgoing: _Pipe, incoming: _Pipe) -> None:
        self._peer = peer
        self._outgoing = outgoing
        self._incoming = incoming
        self._sending = ConflictDetector("another task is sending on this channel")
        self._receiving = ConflictDetector("another task is receiving on this channel")
        self._is_closed = False
        self._has_ended = False
        self._is_poisoned = False

    @property
    def peer(self) -> str:
        """Who is at the other end, for people."""
        return self._peer

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments, in order; see :meth:`Channel.send_segments`."""
        with self._sending:
            self._refuse_unless_sendable()
            is_through = False
            try:
                await trio.lowlevel.checkpoint()
                for segment in segments:
                    with memoryview(segment) as view, view.cast("B") as data:
                        await self._outgoing.write(data, self._peer)
                    self._refuse_if_closed()
                is_through = True
            except PeerClosedError:
                self._refuse_if_closed()
                raise
            finally:
                self._is_poisoned = not is_through

    async def receive_some_into(self, target: memoryview) -> int:
        """Receive at least one byte; see :meth:`Channel.receive_some_into`."""
        with self._receiving:
            self._refuse_if_closed()
            if not target.nbytes:
                raise ValueError("the target is empty: nothing can be received into it")
            await trio.lowlevel.checkpoint()
            try:
                count = await self._incoming.read_into(target, self._peer)
            except PeerClosedError:
                self._refuse_if_closed()
                raise
            self._refuse_if_closed()
            return count

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; idempotent."""
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._has_ended and not self._is_closed:
                return
            self._refuse_unless_sendable()
            self._has_ended = True
            self._outgoing.end()

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source; as :meth:`send_segments`."""
        await self.send_segments((message,))

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages; as :meth:`receive_some_into`."""
        return await self.receive_some_into(target)

    async def aclose(self) -> None:
        """Close both directions; what was sent before can still be received by the peer."""
        if not self._is_closed:
            self._is_closed = True
            self._outgoing.end()
            self._outgoing.break_()
            self._incoming.break_()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def lose_peer(self) -> None:
        """Break both directions as if the peer's host had lost power: no end is ever read."""
        self._outgoing.break_()
        self._incoming.break_()

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ChannelError(f"the channel to {self._peer} was closed on this side")

    def _refuse_unless_sendable(self) -> None:
        self._refuse_if_closed()
        if self._is_poisoned:
            raise ChannelError(
                f"nothing more can be sent to {self._peer}: an earlier send was cut short"
            )
        if self._has_ended:
            raise ChannelError(f"nothing more can be sent to {self._peer}: the end was sent")


def memory_channel_pair(
    capacity_bytes: int = CAPACITY_BYTES,
) -> tuple[MemoryChannel, MemoryChannel]:
    """Make two connected channels: the source's and the destination's.

    Args:
        capacity_bytes: How much each direction holds before its sender blocks, at least 1.
    """
    if capacity_bytes < 1:
        raise ValueError("a channel that holds nothing carries nothing")
    towards_destination = _Pipe(capacity_bytes)
    towards_source = _Pipe(capacity_bytes)
    source = MemoryChannel("memory:destination", towards_destination, towards_source)
    destination = MemoryChannel("memory:source", towards_source, towards_destination)
    return source, destination
