"""A listener over a medium that has one channel, which is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from transship.abc.transport import Listener
from transship.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.abc.channel import Channel


@final
class SingleListener(Listener):
    """Offers its channel once, as soon as the source has begun to use it; no other will come.

    Args:
        channel: Owned by the listener until it is accepted.
        uri: The address, as the operator knows it.
        until_used: Returns when something can be received, or the end.
    """

    def __init__(
        self, channel: Channel, uri: str, until_used: Callable[[], Awaitable[object]]
    ) -> None:
        self._channel = channel
        self._uri = uri
        self._until_used = until_used
        self._is_taken = False
        self._closed = trio.Event()

    @property
    def uri(self) -> str:
        """The address, as the operator knows it."""
        return self._uri

    @property
    def accepts_more(self) -> bool:
        """There is but one channel."""
        return False

    async def accept(self) -> Channel:
        """Wait until the source uses the channel; after that, until the listener is closed.

        Raises:
            ChannelError: It was closed here.
        """
        try:
            if not self._is_taken and not self._closed.is_set():
                await self._until_used()
        except trio.ClosedResourceError:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if self._is_taken:
            await self._closed.wait()
        if self._closed.is_set():
            await trio.lowlevel.checkpoint_if_cancelled()
            raise ChannelError(f"{self._uri} is no longer listened on")
        self._is_taken = True
        return self._channel

    async def aclose(self) -> None:
        """Stop listening; close the channel, unless it has been accepted. Idempotent."""
        self._closed.set()
        if not self._is_taken:
            await self._channel.aclose()
