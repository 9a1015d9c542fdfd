"""What keeps others from reading or forging what goes over a channel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transship.abc.channel import Channel


class ChannelSecurity(ABC):
    """Agrees with the peer on keys, and makes sure of who it is. One side of one migration."""

    @abstractmethod
    async def secure(self, channel: Channel) -> Channel:
        """Secure a channel before anything else goes over it.

        Args:
            channel: Just connected; the result's from now on, and still the caller's if there is
                none.

        Returns:
            The secured channel. Channels that it opens (``ExtraChannels``) are secured as well.

        Raises:
            BlockedError: The channel cannot be secured.
            TlsError: The two sides do not agree, or one does not trust the other.
            ChannelError: The channel broke.

        Cancellation: the channel is to be closed.
        """
