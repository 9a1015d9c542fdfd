"""What makes a Unix socket a channel: its buffer, the name of its peer, and descriptors over it."""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from transship.abc import DescriptorPassing
from transship.errors import ChannelError, PeerClosedError
from transship.toolkit import SocketChannel, descriptors_in, room_for_descriptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from transship.abc import Outgoing
    from transship.abc.channel import C
    from transship_unix._uri import UnixAddress

_CREDENTIALS: Final = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user, group."""


_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked for when sending; Linux grants what ``net.core.wmem_max`` allows, by default twice the
208 KiB that a socket has. Sender and receiver then take turns half as often, which was measured to
carry half as much again. Unlike TCP's, these buffers are not tuned by the kernel."""

_MOST_DESCRIPTORS: Final = 253
"""In one message; source: unix(7)."""

_ROOM_BYTES: Final = room_for_descriptors(_MOST_DESCRIPTORS)
_NOW_AND_NOT_INHERITED: Final = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


class _Peer(NamedTuple):
    """Who connected, or who listened when we connected, as the kernel recorded it."""

    process: int
    user: int

    def __str__(self) -> str:
        return f"process {self.process}, user {self.user}"


class UnixChannel(SocketChannel):
    """Carries the stream over a Unix socket, and descriptors to a process of the same user.

    Args:
        connection: A connected Unix stream socket; owned by the channel from now on.
        address: Where it was connected.
        open_channel: How the source opens another channel to the same place.

    Raises:
        OSError: The connection is lost already; the socket is still the caller's.
    """

    def __init__(
        self,
        connection: socket.socket,
        address: UnixAddress,
        open_channel: Callable[[], Outgoing] | None = None,
    ) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        peer = _peer_of(connection)
        super().__init__(connection, f"{address} ({peer or 'peer'})", open_channel)
        self._is_same_user = peer is not None and peer.user == os.geteuid()

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        if kind is DescriptorPassing and not self._is_same_user:
            return None
        return super().capability(kind)

    async def send_descriptors(self, descriptors: Sequence[int]) -> None:
        """Send duplicates of descriptors; see :class:`~transship.abc.DescriptorPassing`."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        with self._sending:
            self._refuse_unless_sendable()
            await trio.lowlevel.checkpoint()
            while True:
                try:
                    self._socket.sendmsg([b"\0"], [rights], socket.MSG_DONTWAIT)
                    return
                except BlockingIOError:
                    await self._wait(trio.lowlevel.wait_writable)
                except OSError as error:
                    self._is_poisoned = True
                    raise self._broken(error) from error

    async def receive_descriptors(self, count: int) -> Sequence[int]:
        """Receive descriptors; see :class:`~transship.abc.DescriptorPassing`."""
        with self._receiving:
            self._refuse_if_closed()
            await trio.lowlevel.checkpoint()
            data, descriptors, is_all = await self._receive_with_descriptors()
        if len(descriptors) in (0, count) and is_all and data:
            return descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        if not data:
            raise PeerClosedError(
                f"{self.peer} closed the channel", expected=f"{count} descriptors", found="the end"
            )
        raise ChannelError(
            f"{self.peer} sent other descriptors than it was asked for",
            expected=str(count),
            found=str(len(descriptors)) if is_all else "too many",
        )

    async def _receive_with_descriptors(self) -> tuple[bytes, Sequence[int], bool]:
        """A byte or the end, what came with it, and whether that is all of it."""
        while True:
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    1, _ROOM_BYTES, _NOW_AND_NOT_INHERITED
                )
                return data, descriptors_in(ancillary), not flags & socket.MSG_CTRUNC
            except BlockingIOError:
                await self._wait(trio.lowlevel.wait_readable)
            except OSError as error:
                raise self._broken(error) from error

    async def _wait(self, ready: Callable[[socket.socket], Awaitable[None]]) -> None:
        try:
            await ready(self._socket)
        except trio.ClosedResourceError:
            raise self._closed_here() from None


def _peer_of(connection: socket.socket) -> _Peer | None:
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    option = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(option)
    return _Peer(process, user)
