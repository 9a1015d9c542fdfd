"""Channels with something wrong with them: wrappers that cut, stall or dribble.

Each wraps any other channel, and they can be stacked. Counts are of bytes of the stream; return
messages pass through the same wrapper, in the direction that they have on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, final

import trio

from transship.abc.channel import Channel, ReturnPath
from transship.errors import ChannelError, PeerClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.buffers import Buffer

C = TypeVar("C")


class ChannelWrapper(Channel):
    """Passes everything on; what a fault subclasses.

    Args:
        inner: The channel that does the work; owned by the wrapper.
    """

    def __init__(self, inner: Channel) -> None:
        self.inner = inner

    @property
    def peer(self) -> str:
        """Who is at the other end, for people."""
        return self.inner.peer

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Pass segments on."""
        await self.inner.send_segments(segments)

    async def receive_some_into(self, target: memoryview) -> int:
        """Pass bytes on."""
        return await self.inner.receive_some_into(target)

    async def send_eof(self) -> None:
        """Pass the end on."""
        await self.inner.send_eof()

    async def aclose(self) -> None:
        """Close the channel within."""
        await self.inner.aclose()

    async def send_return(self, message: Buffer) -> None:
        """Send a return message as what it is on the wire: bytes in this direction."""
        await self.send_segments((message,))

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive a return message as what it is on the wire: bytes in this direction."""
        return await self.receive_some_into(target)

    def capability(self, kind: type[C]) -> C | None:
        """What the channel within can do, by way of this wrapper where it is about bytes."""
        within = self.inner.capability(kind)
        through_here = self if isinstance(self, kind) else None
        if issubclass(kind, ReturnPath):
            return through_here if within is not None else None
        return within


class _After(ChannelWrapper):
    """Something happens once so many bytes have passed in one direction.

    Args:
        inner: The channel that does the work; owned by the wrapper.
        sent_bytes: How many may be sent; None for any number.
        received_bytes: How many may be received; None for any number.
    """

    def __init__(
        self,
        inner: Channel,
        *,
        sent_bytes: int | None = None,
        received_bytes: int | None = None,
    ) -> None:
        super().__init__(inner)
        self._may_send = sent_bytes
        self._may_receive = received_bytes

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Pass on what may be sent."""
        if self._may_send is None:
            await self.inner.send_segments(segments)
            return
        allowed = list(_first_bytes(segments, self._may_send))
        count = sum(map(len, allowed))
        if count:
            await self.inner.send_segments(allowed)
        self._may_send -= count
        if not self._may_send:
            await self._happen()
        if count < sum(memoryview(segment).nbytes for segment in segments):
            await self._refuse()

    async def receive_some_into(self, target: memoryview) -> int:
        """Pass on what may be received."""
        if self._may_receive is None:
            return await self.inner.receive_some_into(target)
        if not self._may_receive:
            await self._happen()
            await self._refuse()
        with target[: self._may_receive] as part:
            count = await self.inner.receive_some_into(part)
        self._may_receive -= count
        return count

    async def _happen(self) -> None:
        """Do what the fault is about, once; more calls do nothing."""

    async def _refuse(self) -> None:
        """Do not let more bytes pass: always raises."""
        raise NotImplementedError


@final
class CloseAfter(_After):
    """Closes once exactly so many bytes have passed, as if the peer had gone."""

    _has_happened = False

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Pass on what may be sent, then close."""
        await self._refuse_if_happened()
        await super().send_segments(segments)

    async def receive_some_into(self, target: memoryview) -> int:
        """Pass on what may be received, then close."""
        await self._refuse_if_happened()
        return await super().receive_some_into(target)

    async def send_eof(self) -> None:
        """Pass the end on, unless it is closed."""
        await self._refuse_if_happened()
        await super().send_eof()

    async def _refuse_if_happened(self) -> None:
        if self._has_happened:
            await self._refuse()

    async def _happen(self) -> None:
        self._has_happened = True
        await self.inner.aclose()

    async def _refuse(self) -> None:
        await trio.lowlevel.checkpoint()
        raise PeerClosedError(f"{self.peer} closed the channel", hint="a fault of this test")


@final
class StallAfter(_After):
    """Moves nothing more once so many bytes have passed; only closing it ends the wait."""

    def __init__(
        self,
        inner: Channel,
        *,
        sent_bytes: int | None = None,
        received_bytes: int | None = None,
    ) -> None:
        super().__init__(inner, sent_bytes=sent_bytes, received_bytes=received_bytes)
        self._closed = trio.Event()

    async def aclose(self) -> None:
        """Close the channel within, and end the stall."""
        self._closed.set()
        await super().aclose()

    async def _refuse(self) -> None:
        await self._closed.wait()
        raise ChannelError(f"the channel to {self.peer} was closed on this side")


@final
class ShortWrites(ChannelWrapper):
    """Sends in pieces.

    Args:
        inner: The channel that does the work; owned by the wrapper.
        limit_bytes: Longest piece.
    """

    def __init__(self, inner: Channel, limit_bytes: int) -> None:
        super().__init__(inner)
        self._limit_bytes = limit_bytes

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Pass segments on, a piece a call."""
        for segment in segments:
            with memoryview(segment) as view, view.cast("B") as data:
                for start in range(0, len(data), self._limit_bytes):
                    with data[start : start + self._limit_bytes] as piece:
                        await self.inner.send_segments((piece,))


@final
class ShortReads(ChannelWrapper):
    """Receives in pieces.

    Args:
        inner: The channel that does the work; owned by the wrapper.
        limit_bytes: Longest piece.
    """

    def __init__(self, inner: Channel, limit_bytes: int) -> None:
        super().__init__(inner)
        self._limit_bytes = limit_bytes

    async def receive_some_into(self, target: memoryview) -> int:
        """Pass bytes on, a piece a call."""
        with target[: self._limit_bytes] as part:
            return await self.inner.receive_some_into(part)


def one_byte_at_a_time(inner: Channel) -> Channel:
    """A channel that sends and receives no two bytes together."""
    return ShortReads(ShortWrites(inner, 1), 1)


def _first_bytes(segments: Sequence[Buffer], limit_bytes: int) -> Iterator[bytes]:
    """Copies of the first bytes: what a fault does need not be fast, but must hold no view."""
    for segment in segments:
        piece = bytes(segment)[:limit_bytes]
        if piece:
            yield piece
        limit_bytes -= len(piece)
