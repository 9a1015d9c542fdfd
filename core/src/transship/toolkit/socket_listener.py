"""A listener over listening sockets, of whatever family.

This file knows neither addresses nor what a channel is made of: both are handed to it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, final

import trio

from transship.abc.transport import Listener
from transship.errors import ChannelError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from transship.abc.channel import Channel

_OF_ONE_CONNECTION: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)
"""What accept(2) of Linux reports about a connection that is already lost, not about listening."""


@final
class SocketListener(Listener):
    """Waits on one or several listening sockets at once.

    Args:
        sockets: Listening stream sockets; owned by the listener from now on.
        uri: The address that a source can use.
        make_channel: Turns an accepted socket into a channel, which owns it. An ``OSError`` from
            it means that the connection is lost already.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        uri: str,
        make_channel: Callable[[socket.socket], Channel],
    ) -> None:
        for listening in sockets:
            listening.setblocking(False)
        self._sockets = tuple(sockets)
        self._uri = uri
        self._make_channel = make_channel
        self._is_closed = False

    @property
    def uri(self) -> str:
        """The address that a source can use."""
        return self._uri

    async def accept(self) -> Channel:
        """Wait for the next channel; see :meth:`Listener.accept`.

        Raises:
            ChannelError: Listening broke, or was closed here.
            trio.BusyResourceError: Another task waits.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._is_closed:
                raise ChannelError(f"{self._uri} is no longer listened on")
            for listening in self._sockets:
                channel = self._accept_from(listening)
                if channel is not None:
                    return channel
            await self._wait()

    def _accept_from(self, listening: socket.socket) -> Channel | None:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _OF_ONE_CONNECTION:
                return None
            raise ChannelError(f"{self._uri} cannot accept: {error.strerror}") from error
        try:
            return self._make_channel(connection)
        except OSError:
            connection.close()
            return None

    async def _wait(self) -> None:
        """Return when any of the sockets may have a connection, or was closed."""
        if len(self._sockets) == 1:
            await _until_readable(self._sockets[0])
            return

        async def wait_for(listening: socket.socket) -> None:
            await _until_readable(listening)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for listening in self._sockets:
                nursery.start_soon(wait_for, listening)

    def close(self) -> None:
        """Stop listening, and break a waiting :meth:`accept`; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for listening in self._sockets:
            trio.lowlevel.notify_closing(listening)
            listening.close()


async def _until_readable(listening: socket.socket) -> None:
    try:
        await trio.lowlevel.wait_readable(listening)
    except trio.ClosedResourceError:
        return
