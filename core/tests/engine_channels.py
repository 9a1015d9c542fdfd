"""What is between the two sides of a migration, and what may be put around either end of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from transship.abc import Channel, Listener, ReturnPath
from transship.testing import ChannelWrapper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from transship.buffers import Buffer


class OneWay(ChannelWrapper):
    """A channel without a return path, like a file or a pipe."""

    def capability(self, kind: type[Any]) -> Any:
        return None if kind is ReturnPath else super().capability(kind)


class Returning(ChannelWrapper):
    """Changes what the destination says, or keeps it back.

    Args:
        inner: The destination's channel.
        change: Gets a message's number, from 0 on, and the message; gives what is sent instead.
    """

    def __init__(self, inner: Channel, change: Callable[[int, bytes], bytes]) -> None:
        super().__init__(inner)
        self._change = change
        self._number = count()

    async def send_return(self, message: Buffer) -> None:
        if changed := self._change(next(self._number), bytes(message)):
            await super().send_return(changed)


class Watched(ChannelWrapper):
    """Notes when how much was sent, either way."""

    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.sent: list[tuple[float, int]] = []

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        self.sent.append((trio.current_time(), sum(map(len, segments))))
        await super().send_segments(segments)


class Deaf(ChannelWrapper):
    """Never comes to an end of being closed."""

    async def aclose(self) -> None:
        await super().aclose()
        await trio.sleep_forever()


Wrap: TypeAlias = "Callable[[Channel], Channel]"


def unchanged(channel: Channel) -> Channel:
    return channel


def saying(change: Callable[[int, bytes], bytes]) -> Wrap:
    return lambda channel: Returning(channel, change)


class _OneChannel(Listener):
    def __init__(self, channel: Channel, accepts_more: bool) -> None:
        self._channels = [channel]
        self._accepts_more = accepts_more

    @property
    def uri(self) -> str:
        return "memory:"

    @property
    def accepts_more(self) -> bool:
        return self._accepts_more

    async def accept(self) -> Channel:
        if not self._channels:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return self._channels.pop()


@asynccontextmanager
async def connected(channel: Channel) -> AsyncIterator[Channel]:
    """What a transport gives the source, with this channel."""
    await trio.lowlevel.checkpoint()
    try:
        yield channel
    finally:
        await channel.aclose()


@asynccontextmanager
async def listening(channel: Channel, *, accepts_more: bool = True) -> AsyncIterator[Listener]:
    """What a transport gives the destination; no other channel comes, whatever it says."""
    yield _OneChannel(channel, accepts_more)
