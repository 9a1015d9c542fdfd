"""A channel over a Unix socket that carries open files beside the bytes of the stream."""

from __future__ import annotations

import array
import os
import socket
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import C, DescriptorPassing
from transship.errors import ChannelError, PeerClosedError
from transship.toolkit.ancillary import descriptors_in, room_for_descriptors
from transship.toolkit.peer import peer_process
from transship.toolkit.socket_channel import SocketChannel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from transship.abc.transport import Outgoing

_MOST_DESCRIPTORS: Final = 253
"""In one message; source: unix(7)."""

_ROOM_BYTES: Final = room_for_descriptors(_MOST_DESCRIPTORS)
_NOW_AND_NOT_INHERITED: Final = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


class DescriptorSocketChannel(SocketChannel):
    """A :class:`SocketChannel` that can have :class:`~transship.abc.DescriptorPassing` as well.

    It has the capability if the kernel says that the process at the other end is of the same user,
    and so could help itself anyway.

    Args:
        connection: A connected Unix stream socket; owned by the channel from now on.
        peer: Who is at the other end, for people.
        open_channel: Prepares another channel to the same place, where that can be done.

    Raises:
        OSError: The connection is lost already; the socket is still the caller's.
    """

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        open_channel: Callable[[], Outgoing] | None = None,
    ) -> None:
        process = peer_process(connection)
        super().__init__(connection, peer, open_channel)
        self._passes_descriptors = process is not None and process.is_ours

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        if kind is DescriptorPassing and not self._passes_descriptors:
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
                    self._spoil_sending()
                    raise self._broken(error) from error

    async def receive_descriptors(self, count: int) -> Sequence[int]:
        """Receive descriptors; see :class:`~transship.abc.DescriptorPassing`."""
        with self._receiving:
            self._refuse_unless_receivable()
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
