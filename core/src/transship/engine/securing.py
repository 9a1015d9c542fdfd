"""Channels that nobody else can read or forge, where the settings ask for that."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from transship.errors import TlsError
from transship.toolkit.introductions import introducing_listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc.channel import Channel
    from transship.abc.security import ChannelSecurity
    from transship.abc.transport import Listener


@asynccontextmanager
async def secured(
    channel: Channel, security: ChannelSecurity | None, timeout_s: float
) -> AsyncIterator[Channel]:
    """The channel as it is to be used; closed when left, if it is another one.

    Args:
        channel: Just connected; borrowed.
        security: What secures it; None for nothing.
        timeout_s: How long that may take.

    Raises:
        BlockedError: It cannot be secured.
        TlsError: The two sides do not trust each other, or took too long.
        ChannelError: It broke.
    """
    if security is None:
        yield channel
        return
    safe = await _secure(channel, security, timeout_s)
    try:
        yield safe
    finally:
        await safe.aclose()


async def _secure(channel: Channel, security: ChannelSecurity, timeout_s: float) -> Channel:
    with trio.move_on_after(timeout_s):
        return await security.secure(channel)
    raise TlsError(
        f"the TLS handshake with {channel.peer} took more than {timeout_s:g} s",
        hint="is TLS on at both sides?",
    )


@asynccontextmanager
async def secured_listener(
    listener: Listener, security: ChannelSecurity | None, timeout_s: float
) -> AsyncIterator[Listener]:
    """A listener whose channels are secured. Who fails that is turned away, and others may come.

    Arguments and errors as for :func:`secured`, for each channel.
    """
    if security is None:
        yield listener
        return

    async def introduce(channel: Channel) -> Channel:
        try:
            return await _secure(channel, security, timeout_s)
        except BaseException:
            with trio.CancelScope(shield=True), suppress(Exception):
                await channel.aclose()
            raise

    async with introducing_listener(
        listener.uri,
        [listener.accept],
        introduce,
        timeout_s=math.inf,  # what secures a channel says itself what took too long
        name=lambda channel: channel.peer,
        accepts_more=listener.accepts_more,
    ) as safe:
        yield safe
