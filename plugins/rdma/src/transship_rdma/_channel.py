"""A channel over a link: its stream in messages, as many at a time as the receiver has room for.

A TCP connection stays beside it. It carries nothing any more, but it ends when a process does,
which no endpoint tells reliably.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, final

import trio

from transship.abc import Channel
from transship.errors import ChannelError, PeerClosedError
from transship.toolkit import ConflictDetector
from transship_rdma._link import Link
from transship_rdma._messages import (
    Kind,
    MalformedError,
    pack_count,
    unpack_count,
    unpack_nothing,
)
from transship_rdma._remote_memory import MEMORY_KINDS, FabricMemory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from transship.abc import RemoteWriter
    from transship.buffers import Buffer
    from transship_rdma._fabric import Endpoint

SLOTS: Final = 256
"""Buffers of a channel's endpoint: 4 MiB, half of them to receive into."""

CREDITS: Final = 112
"""Messages of the stream that may be on their way or wait for their reader: 1.75 MiB. The other 16
buffers that receive are for what is no stream."""

_CREDITS_AT_A_TIME: Final = CREDITS // 3

LINGER_S: Final = 0.5
"""How long closing waits for the peer to have everything: within what closing may take (1 s)."""


_GRACE_S: Final = 0.2
"""How long the last messages may take to be seen, once the TCP connection has ended."""


class _Arrived(NamedTuple):
    """A piece of the stream, in the slot where it came."""

    slot: int
    body: memoryview


@final
class FabricChannel(Channel):
    """One end: stream, return path and remote memory.

    Args:
        endpoint: Owned by the channel from now on.
        identity: What messages to this end must begin with.
        host: Address of this side's interface, for further endpoints.
        provider: The provider of all endpoints.
        lifeline: The TCP connection; owned by the channel from now on.
        address: Who is at the other end, for people.

    Attributes:
        provider: The provider that both sides agreed on.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        identity: int,
        host: str,
        provider: str,
        lifeline: trio.SocketStream,
        address: str,
    ) -> None:
        peer = f"{address} ({provider})"
        self._peer = peer
        self.provider = provider
        self._lifeline = lifeline
        self._link = Link(endpoint, peer, self._deliver, identity)
        self._memory = FabricMemory(self._link, host, provider, peer)
        self._sending = ConflictDetector("another task is sending on this channel")
        self._receiving = ConflictDetector("another task is receiving on this channel")
        self._arrived: deque[_Arrived] = deque()
        self._may_send = CREDITS
        self._may_come = CREDITS
        self._consumed = 0
        self._is_closed = False
        self._has_ended = False
        self._is_poisoned = False
        self._peer_has_ended = False
        self._peer_has_closed = False
        self._is_open = trio.Event()
        self._has_met = False
        self._lifeline_has_ended = trio.Event()

    @property
    def peer(self) -> str:
        """Who is at the other end, and over which provider, for people."""
        return self._peer

    # Opening

    def start(self) -> None:
        """Let messages come."""
        self._link.on_failure(lambda _: self._is_open.set())
        self._link.start()

    async def meet(self, name: bytes, identity: int, *, is_source: bool) -> None:
        """Say who the peer is, and wait for its first message: it came over the fabric.

        Raises:
            ChannelError: That failed.
        """
        self._link.connect(name, identity)
        trio.lowlevel.spawn_system_task(self._watch, name="transship-rdma lifeline")
        if is_source:
            self._link.send_soon(Kind.OPEN)
        await self._is_open.wait()
        self._link.refuse_if_failed()
        if not is_source:
            self._link.send_soon(Kind.OPENED)
        self._has_met = True

    async def _watch(self) -> None:
        """Notice the end of the peer's process, or of its side of the channel."""
        try:
            said = await self._lifeline.receive_some(1)
            why = "it spoke out of turn" if said else "its process is gone"
        except trio.BrokenResourceError as error:
            why = str(error.__cause__ or error)
        except trio.ClosedResourceError:
            return
        self._lifeline_has_ended.set()
        with trio.move_on_after(_GRACE_S):
            while not (self._is_closed or self._peer_has_closed or self._link.failure):
                await self._link.change()
        if not (self._is_closed or self._peer_has_closed):
            self._link.fail(PeerClosedError(f"{self._peer} was lost: {why}"))

    # Sending

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments, in order; see :meth:`Channel.send_segments`."""
        with self._sending:
            self._refuse_unless_sendable()
            is_through = False
            try:
                await trio.lowlevel.checkpoint()
                await self._send(segments)
                is_through = True
            finally:
                self._is_poisoned = not is_through

    async def _send(self, segments: Sequence[Buffer]) -> None:
        room = self._link.body_bytes
        parts: list[memoryview] = []
        held = 0
        for segment in segments:
            with memoryview(segment) as whole, whole.cast("B") as view:
                start = 0
                while start < len(view):
                    part = view[start : start + room - held]
                    parts.append(part)
                    start += len(part)
                    held += len(part)
                    if held == room:
                        await self._send_data(parts)
                        held = 0
        if parts:
            await self._send_data(parts)

    async def _send_data(self, parts: list[memoryview]) -> None:
        """Send one message as soon as it may be, and let go of its parts."""
        try:
            while True:
                self._refuse_if_gone()
                if self._may_send and self._link.try_send(Kind.DATA, parts):
                    self._may_send -= 1
                    return
                await self._link.change()
        finally:
            for part in parts:
                part.release()
            parts.clear()

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; idempotent. See :meth:`Channel.send_eof`."""
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._has_ended and not self._is_closed:
                return
            self._refuse_unless_sendable()
            self._has_ended = True
            self._link.send_soon(Kind.END)

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source; as :meth:`send_segments`."""
        await self.send_segments((message,))

    # Receiving

    async def receive_some_into(self, target: memoryview) -> int:
        """Receive at least one byte; see :meth:`Channel.receive_some_into`.

        What had arrived before the channel broke can still be received.
        """
        with self._receiving:
            self._refuse_if_closed()
            if not target.nbytes:
                raise ValueError("the target is empty: nothing can be received into it")
            await trio.lowlevel.checkpoint()
            while not self._arrived:
                self._refuse_if_closed()
                if self._peer_has_ended or self._peer_has_closed:
                    return 0
                self._link.refuse_if_failed()
                await self._link.change()
            self._refuse_if_closed()
            return self._take_into(target)

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages; as :meth:`receive_some_into`."""
        return await self.receive_some_into(target)

    def _take_into(self, target: memoryview) -> int:
        done = 0
        with target.cast("B") as room:
            while self._arrived and done < len(room):
                slot, body = self._arrived[0]
                count = min(len(body), len(room) - done)
                room[done : done + count] = body[:count]
                done += count
                if count < len(body):
                    self._arrived[0] = _Arrived(slot, body[count:])
                    break
                self._arrived.popleft()
                self._link.release(slot)
                self._grant()
        return done

    def _grant(self) -> None:
        self._consumed += 1
        if self._consumed >= _CREDITS_AT_A_TIME:
            self._may_come += self._consumed
            self._link.send_soon(Kind.CREDIT, pack_count(self._consumed))
            self._consumed = 0

    def _deliver(self, kind: int, slot: int, body: memoryview) -> bool:
        if kind == Kind.DATA:
            if not self._may_come or not body or self._peer_has_ended or self._peer_has_closed:
                raise MalformedError("a piece of the stream came that may not come")
            self._may_come -= 1
            self._arrived.append(_Arrived(slot, body))
            return True
        words = bytes(body)
        if kind in MEMORY_KINDS:
            self._memory.deliver(Kind(kind), words)
        elif kind == Kind.CREDIT:
            count = unpack_count(words)
            if not 0 < count <= CREDITS - self._may_send:
                raise MalformedError("more credit came than was used", found=str(count))
            self._may_send += count
        elif kind in (Kind.OPEN, Kind.OPENED) and not self._is_open.is_set():
            unpack_nothing(words)
            self._is_open.set()
        elif kind == Kind.END and not self._peer_has_ended:
            unpack_nothing(words)
            self._peer_has_ended = True
        elif kind == Kind.CLOSE and not self._peer_has_closed:
            unpack_nothing(words)
            self._peer_has_closed = True
            self._memory.end(PeerClosedError(f"{self._peer} closed the channel"))
            with suppress(OSError):  # it may be gone already
                self._lifeline.socket.shutdown(trio.socket.SHUT_WR)  # "all has come"
        else:
            raise MalformedError("a message came that may not come here", found=f"kind {kind}")
        return False

    # Memory

    def expose(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AbstractAsyncContextManager[None]:
        """Let the source write to memory; see :class:`~transship.abc.RemoteMemory`."""
        return self._memory.expose(blocks, at_once=at_once)

    def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AbstractAsyncContextManager[RemoteWriter]:
        """Write to the destination's memory; see :class:`~transship.abc.RemoteMemory`."""
        return self._memory.mirror(blocks, at_once=at_once)

    # The end

    async def aclose(self) -> None:
        """Close both directions at once, and break what still waits on them; idempotent.

        Waits for at most :data:`LINGER_S` for the peer to have all that was sent, as it has
        nothing more of us once the endpoint is gone.
        """
        if not self._is_closed:
            self._is_closed = True
            self._memory.end(ChannelError(f"the channel to {self._peer} was closed on this side"))
            self._link.wake()
            with trio.move_on_after(LINGER_S, shield=True):
                await self._say_farewell()
            self._link.close()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._lifeline)
            self._arrived.clear()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _say_farewell(self) -> None:
        if not self._has_met or self._link.failure is not None:
            return
        self._link.send_soon(Kind.CLOSE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_link_is_gone, nursery.cancel_scope)
            await self._lifeline_has_ended.wait()
            nursery.cancel_scope.cancel()

    async def _until_link_is_gone(self, scope: trio.CancelScope) -> None:
        while self._link.failure is None:
            await self._link.change()
        scope.cancel()

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ChannelError(f"the channel to {self._peer} was closed on this side")

    def _refuse_if_gone(self) -> None:
        self._refuse_if_closed()
        if self._peer_has_closed:
            raise PeerClosedError(f"{self._peer} closed the channel")
        self._link.refuse_if_failed()

    def _refuse_unless_sendable(self) -> None:
        self._refuse_if_closed()
        if self._is_poisoned:
            raise ChannelError(
                f"nothing more can be sent to {self._peer}: an earlier send was cut short"
            )
        if self._has_ended:
            raise ChannelError(f"nothing more can be sent to {self._peer}: the end was sent")
        self._refuse_if_gone()
