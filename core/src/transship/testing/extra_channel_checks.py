"""What a channel must do that can open others beside it.

Each check applies to transports whose source has the capability, and passes any other. They take
the same as the checks of a listener, since the listener accepts what the source opens.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import Channel, ExtraChannels
from transship.abc.transport import Address, Listener
from transship.errors import ChannelError
from transship.testing.checking import (
    PATIENCE_S,
    PROMPTLY_S,
    blocked,
    receive_exactly,
    receive_to_end,
    require,
    within,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.testing.checking import Connect, Listen


async def check_opens_more_channels(listen: Listen, connect: Connect) -> None:
    """Another channel reaches the same destination, and each has its own bytes and its own end."""
    async with _opening(listen, connect) as (source, destination, extra, listener):
        if extra is None:
            return
        with within(PATIENCE_S, "using three channels at once"):
            async with extra.open_channel() as one:
                first = await listener.accept()
                async with extra.open_channel() as two:
                    second = await listener.accept()
                    for channel, end, word in (
                        (source, destination, b"zero"),
                        (one, first, b"one"),
                        (two, second, b"two"),
                    ):
                        await channel.send_segments((word,))
                        came = await receive_exactly(end, len(word))
                        require(came == word, f"{came!r} came where {word!r} was sent")
                await _require_end(second)
                await _require_works(one, first)
            await _require_end(first)
            await _require_works(source, destination)
            await first.aclose()
            await second.aclose()


async def check_prepares_more_channels(listen: Listen, connect: Connect) -> None:
    """Nothing is connected before it is entered, and what was prepared may be dropped."""
    async with _opening(listen, connect) as (_, _, extra, listener):
        if extra is None:
            return
        extra.open_channel()
        async with blocked("accepting what was only prepared", listener.accept):
            pass
        with within(PATIENCE_S, "opening a channel after one was dropped"):
            async with extra.open_channel() as channel:
                end = await listener.accept()
                await _require_works(channel, end)
                await end.aclose()


async def check_cancels_more_channels(listen: Listen, connect: Connect) -> None:
    """A cancelled use closes that channel, and no other."""
    async with _opening(listen, connect) as (source, destination, extra, listener):
        if extra is None:
            return
        with trio.CancelScope() as scope:
            scope.cancel()
            async with extra.open_channel():
                await trio.lowlevel.checkpoint()
        require(scope.cancelled_caught, "opening a channel in a cancelled scope went through")
        end: Channel | None = None
        with within(PATIENCE_S, "using a channel until that is cancelled"):
            with trio.CancelScope() as scope:
                async with extra.open_channel() as channel:
                    await channel.send_segments((b"x",))
                    end = await _accept_alive(listener)
                    scope.cancel()
                    await trio.sleep_forever()
        assert end is not None
        with within(PROMPTLY_S, "closing a channel whose use was cancelled"):
            await _require_end(end)
            await end.aclose()
        with within(PATIENCE_S, "using the first channel after another was cancelled"):
            await _require_works(source, destination)


@asynccontextmanager
async def _opening(
    listen: Listen, connect: Connect
) -> AsyncIterator[tuple[Channel, Channel, ExtraChannels | None, Listener]]:
    """A connected source and destination, and what opens and accepts more channels."""
    async with listen() as listener, connect(Address.parse(listener.uri)) as source:
        destination = await listener.accept()
        extra = source.capability(ExtraChannels)
        try:
            yield source, destination, extra, listener
        finally:
            await destination.aclose()


async def _accept_alive(listener: Listener) -> Channel:
    """The next end over which a byte comes: one that was cancelled may be accepted before it."""
    while True:
        end = await listener.accept()
        try:
            await receive_exactly(end, 1)
        except ChannelError:
            await end.aclose()
        else:
            return end


async def _require_works(source: Channel, destination: Channel) -> None:
    await source.send_segments((b"on",))
    require(await receive_exactly(destination, 2) == b"on", "the end of one channel ended another")


async def _require_end(end: Channel) -> None:
    try:
        rest = await receive_to_end(end)
    except ChannelError:
        return
    require(not rest, "bytes came over a channel that was left")


EXTRA_CHANNEL_CHECKS: Final = (
    check_opens_more_channels,
    check_prepares_more_channels,
    check_cancels_more_channels,
)
"""In the order in which a new transport comes to pass them."""
