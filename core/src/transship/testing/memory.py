"""A pair of channels inside this process, for tests of whatever drives channels.

Bytes are copied through bounded buffers, so a sender blocks on a receiver that does not read, as
it does on a socket; time passes only where the test lets it, since nothing here asks the kernel.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from transship.abc.channel import C, RemoteMemory
from transship.errors import ChannelError, PeerClosedError
from transship.testing.remote_memory import SharedMemory
from transship.toolkit.guarded_channel import GuardedChannel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from transship.abc.channel import RemoteWriter
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
class MemoryChannel(GuardedChannel):
    """One end of a :func:`memory_channel_pair`; carries a return path in its other direction."""

    def __init__(
        self, peer: str, outgoing: _Pipe, incoming: _Pipe, memory: SharedMemory | None
    ) -> None:
        super().__init__(peer)
        self._outgoing = outgoing
        self._incoming = incoming
        self._memory = memory

    async def _send(self, segments: Sequence[Buffer]) -> None:
        await trio.lowlevel.checkpoint()
        with self._not_taken_for_the_peers_end():
            for segment in segments:
                with memoryview(segment) as view, view.cast("B") as data:
                    await self._outgoing.write(data, self._peer)
                self._refuse_if_closed()

    async def _receive(self, target: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        with self._not_taken_for_the_peers_end():
            count = await self._incoming.read_into(target, self._peer)
        self._refuse_if_closed()
        return count

    @contextmanager
    def _not_taken_for_the_peers_end(self) -> Iterator[None]:
        """Closing breaks both pipes, at both ends."""
        try:
            yield
        except PeerClosedError:
            self._refuse_if_closed()
            raise

    async def _end(self) -> None:
        self._outgoing.end()

    async def _close(self) -> None:
        """Close both directions; what was sent before can still be received by the peer."""
        self._break_memory()
        self._outgoing.end()
        self._outgoing.break_()
        self._incoming.break_()

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source; as :meth:`send_segments`."""
        await self.send_segments((message,))

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages; as :meth:`receive_some_into`."""
        return await self.receive_some_into(target)

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        if kind is RemoteMemory and self._memory is None:
            return None
        return super().capability(kind)

    def expose(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AbstractAsyncContextManager[None]:
        """Let the source write to memory; see :class:`~transship.abc.RemoteMemory`."""
        return self._shared_memory().expose(blocks, at_once=at_once)

    def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AbstractAsyncContextManager[RemoteWriter]:
        """Write to the destination's memory; see :class:`~transship.abc.RemoteMemory`."""
        return self._shared_memory().mirror(blocks, at_once=at_once)

    def _shared_memory(self) -> SharedMemory:
        if self._memory is None:
            raise ChannelError(f"the channel to {self._peer} has no remote memory")
        return self._memory

    def lose_peer(self) -> None:
        """Break both directions as if the peer's host had lost power: no end is ever read."""
        self._outgoing.break_()
        self._incoming.break_()
        self._break_memory()

    def _break_memory(self) -> None:
        if self._memory is not None:
            self._memory.break_(PeerClosedError("the channel was closed, here or there"))


def memory_channel_pair(
    capacity_bytes: int = CAPACITY_BYTES, *, remote_memory: bool = False
) -> tuple[MemoryChannel, MemoryChannel]:
    """Make two connected channels: the source's and the destination's.

    Args:
        capacity_bytes: How much each direction holds before its sender blocks, at least 1.
        remote_memory: Whether they have the :class:`~transship.abc.RemoteMemory` capability.
    """
    if capacity_bytes < 1:
        raise ValueError("a channel that holds nothing carries nothing")
    towards_destination = _Pipe(capacity_bytes)
    towards_source = _Pipe(capacity_bytes)
    memory = SharedMemory() if remote_memory else None
    source = MemoryChannel("memory:destination", towards_destination, towards_source, memory)
    destination = MemoryChannel("memory:source", towards_source, towards_destination, memory)
    return source, destination
