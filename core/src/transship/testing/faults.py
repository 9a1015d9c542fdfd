"""Channels with something wrong with them: wrappers that cut, stall, drag or dribble.

Each wraps any other channel, and they can be stacked. Counts are of bytes of the stream; return
messages pass through the same wrapper, in the direction that they have on the wire. Nothing goes
by a wrapper: what the channel within offers to carry bytes in any other way, it does not have.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Final, TypeVar, final

import trio

from transship.abc.channel import Channel, ExtraChannels, ReturnPath
from transship.errors import ChannelError, PeerClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence

    from transship.abc.transport import Outgoing
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

    def open_channel(self) -> Outgoing:
        """Prepare another channel of the one within, as :meth:`around_extra` makes it."""
        inner = self.inner.capability(ExtraChannels)
        if inner is None:
            raise ChannelError(f"there is only one channel to {self.peer}")
        return self._open(inner)

    @asynccontextmanager
    async def _open(self, inner: ExtraChannels) -> AsyncIterator[Channel]:
        async with inner.open_channel() as channel:
            yield self.around_extra(channel)

    def around_extra(self, channel: Channel) -> Channel:
        """What is given out in place of another channel; the channel itself, by default."""
        return channel

    def capability(self, kind: type[C]) -> C | None:
        """What the channel within can do, so far as it can be done by way of this wrapper.

        Those are the return path and extra channels. A caller that finds no other carries its
        bytes by the methods of the channel itself.
        """
        if kind in _BY_WAY_OF_A_WRAPPER and self.inner.capability(kind) is not None:
            return self if isinstance(self, kind) else None
        return None


_BY_WAY_OF_A_WRAPPER: Final = (ReturnPath, ExtraChannels)


@final
class ExtraFaults(ChannelWrapper):
    """Is as good as the channel within, but the extra channels that it opens are not.

    Args:
        inner: The channel that does the work; owned by the wrapper.
        wrap: Makes the faulty one, of the number of an extra channel, from 0 in the order in which
            they are opened, and the channel itself.
    """

    def __init__(self, inner: Channel, wrap: Callable[[int, Channel], Channel]) -> None:
        super().__init__(inner)
        self._wrap = wrap
        self._opened = 0

    def around_extra(self, channel: Channel) -> Channel:
        """What ``wrap`` makes of it."""
        self._opened += 1
        return self._wrap(self._opened - 1, channel)


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
    """Moves nothing more once so many bytes have passed; time, or closing it, ends the wait.

    Args:
        inner: The channel that does the work; owned by the wrapper.
        sent_bytes: How many may be sent; None for any number.
        received_bytes: How many may be received; None for any number.
        stall_s: For how long; then it goes on as if nothing had been.
    """

    def __init__(
        self,
        inner: Channel,
        *,
        sent_bytes: int | None = None,
        received_bytes: int | None = None,
        stall_s: float = math.inf,
    ) -> None:
        super().__init__(inner, sent_bytes=sent_bytes, received_bytes=received_bytes)
        self._stall_s = stall_s
        self._closed = trio.Event()

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Pass on what may be sent; the rest, if the stall ends."""
        allowed = self._may_send or 0
        try:
            await super().send_segments(segments)
        except _StallEndedError:
            self._may_send = None
            rest = _bytes_behind(segments, allowed)
            await self.inner.send_segments((rest,))

    async def receive_some_into(self, target: memoryview) -> int:
        """Pass on what may be received, also once the stall has ended."""
        try:
            return await super().receive_some_into(target)
        except _StallEndedError:
            self._may_receive = None
            return await self.inner.receive_some_into(target)

    async def aclose(self) -> None:
        """Close the channel within, and end the stall."""
        self._closed.set()
        await super().aclose()

    async def _refuse(self) -> None:
        with trio.move_on_after(self._stall_s):
            await self._closed.wait()
        if not self._closed.is_set():
            raise _StallEndedError
        raise ChannelError(f"the channel to {self.peer} was closed on this side")


class _StallEndedError(Exception):
    """Nothing is wrong any more."""


@final
class SlowLink(ChannelWrapper):
    """Carries so many bytes a second, however many are ready.

    Args:
        inner: The channel that does the work; owned by the wrapper.
        sent_bytes_per_s: How many are sent; None for any number.
        received_bytes_per_s: How many are received; None for any number.
    """

    def __init__(
        self,
        inner: Channel,
        *,
        sent_bytes_per_s: float | None = None,
        received_bytes_per_s: float | None = None,
    ) -> None:
        super().__init__(inner)
        self._sent_bytes_per_s = sent_bytes_per_s
        self._received_bytes_per_s = received_bytes_per_s

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Pass segments on, in pieces that each take their time."""
        rate = self._sent_bytes_per_s
        if rate is None:
            await self.inner.send_segments(segments)
            return
        with closing(_pieces(segments, _moment_bytes(rate))) as pieces:
            for piece in pieces:
                with piece:
                    await trio.sleep(len(piece) / rate)
                    await self.inner.send_segments((piece,))

    async def receive_some_into(self, target: memoryview) -> int:
        """Pass bytes on once they have taken their time."""
        rate = self._received_bytes_per_s
        if rate is None:
            return await self.inner.receive_some_into(target)
        with target[: _moment_bytes(rate)] as part:
            count = await self.inner.receive_some_into(part)
        await trio.sleep(count / rate)
        return count


def _moment_bytes(bytes_per_s: float) -> int:
    """What a slow link carries in a twentieth of a second."""
    return max(int(bytes_per_s / 20), 1)


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
        with closing(_pieces(segments, self._limit_bytes)) as pieces:
            for piece in pieces:
                with piece:
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


def _pieces(segments: Sequence[Buffer], limit_bytes: int) -> Generator[memoryview, None, None]:
    """Views of at most so many bytes, in order; whoever takes one releases it."""
    for segment in segments:
        with memoryview(segment) as view, view.cast("B") as data:
            for start in range(0, len(data), limit_bytes):
                yield data[start : start + limit_bytes]


def _bytes_behind(segments: Sequence[Buffer], count: int) -> bytes:
    """A copy of what is left behind so many bytes."""
    return b"".join(map(bytes, segments))[count:]


def _first_bytes(segments: Sequence[Buffer], limit_bytes: int) -> Iterator[bytes]:
    """Copies of the first bytes: what a fault does need not be fast, but must hold no view."""
    for segment in segments:
        piece = bytes(segment)[:limit_bytes]
        if piece:
            yield piece
        limit_bytes -= len(piece)
