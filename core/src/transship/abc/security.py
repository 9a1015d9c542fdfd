"""What keeps others from reading or forging what goes over a channel, or to a server of disks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.abc.channel import Channel
    from transship.buffers import Buffer


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


class ConnectionSecurity(ABC):
    """The same for connections that are no channels, such as those to a server of disks.

    Whoever is given one secures every connection with it, or refuses to connect.
    """

    @abstractmethod
    def begin_client(self, peer: str, host: str | None = None) -> SecureSession:
        """Prepare to secure a connection to a server; nothing is sent for that yet.

        Args:
            peer: Who is at the other end, for people.
            host: The name by which the server was looked for, if there is one; its certificate must
                have it, unless this object knows another.

        Raises:
            BlockedError: There is no name to look for, or it cannot be one; or this secures the
                connections of a server.
        """

    @abstractmethod
    def begin_server(self, peer: str) -> SecureSession:
        """Prepare to secure the connection of a client; nothing is sent for that yet.

        Args:
            peer: Who is at the other end, for people.

        Raises:
            BlockedError: This secures the connections of a client.
        """


class SecureSession(ABC):
    """One side of a secured connection, between plain and encrypted bytes; moves none itself.

    Whoever has the connection moves them. First the handshake: until :meth:`shake_hands` says that
    it is over, send what is :meth:`leaving`, and hand over what has :meth:`arrived`. From then on
    send nothing but what :meth:`encrypt` and :meth:`farewell` give, and believe nothing but what
    :meth:`decrypt_into` gives. One thread may send while another receives.
    """

    @abstractmethod
    def shake_hands(self) -> bool:
        """Go on with the handshake.

        Returns:
            Whether it is over, with a peer that may be trusted; if not, more must arrive first.

        Raises:
            TlsError: It failed; what is leaving then tells the peer, unless the handshake was over
                and this side does not want that peer.
        """

    @abstractmethod
    def leaving(self) -> bytes:
        """What is to be sent now, if anything."""

    @abstractmethod
    def arrived(self, encrypted: memoryview) -> None:
        """Take what was received; nothing is the end.

        Args:
            encrypted: Borrowed until this returns.
        """

    @abstractmethod
    def encrypt(self, segments: Sequence[Buffer]) -> Iterator[bytes]:
        """Yield what is to be sent for some bytes, in steps.

        Args:
            segments: Borrowed until the iterator has ended.

        Raises:
            TlsError: The session is broken.
        """

    @abstractmethod
    def decrypt_into(self, target: memoryview) -> int | None:
        """Fill a buffer as far as can be.

        Returns:
            How far, 0 at the end; None if more must arrive first.

        Raises:
            TlsError: Something else arrived than the peer sent, now or before; or the peer asks
                for answers and takes none.
        """

    @abstractmethod
    def farewell(self) -> bytes:
        """What is to be sent as the end of this direction."""
