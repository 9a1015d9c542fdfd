"""The halves of a connected socket in the hands of a thread: calls that block in the kernel."""

from __future__ import annotations

import math
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from transship.abc.channel import BlockingReceiver, BlockingSender
from transship.errors import StalledError
from transship.toolkit.thread_half import ThreadHalf
from transship.toolkit.vectored import Vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.buffers import Buffer
    from transship.errors import ChannelError

_TIMEVAL: Final = struct.Struct("@ll")
"""``struct timeval`` of socket(7)."""


class _SocketHalf(ThreadHalf):
    """One direction of a socket.

    Args:
        connection: Borrowed. It blocks from now on, but for calls that ask it not to.
        peer: Who is at the other end, for people.
        timeout_s: How long a call may make no progress.
        translate: Turns the kernel's errors into the channel's.
        spoil: Tells the channel not to use this direction any more.
    """

    _option: int
    _direction: int
    _verb: str

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        timeout_s: float,
        translate: Callable[[OSError], ChannelError],
        spoil: Callable[[], None],
    ) -> None:
        super().__init__(peer, translate, spoil)
        connection.setblocking(True)
        # Python's own time-outs would make the socket non-blocking, and cost a poll for each call.
        connection.setsockopt(socket.SOL_SOCKET, self._option, timeval(timeout_s))
        self._socket = connection
        self._timeout_s = timeout_s

    def interrupt(self) -> None:
        """Break a call under way, and all later ones; the other direction works on."""
        super().interrupt()
        with suppress(OSError):
            self._socket.shutdown(self._direction)

    def _call(self, once: Callable[[], int]) -> int:
        """Make a system call.

        Raises:
            StalledError: It made no progress in time.
            ChannelError: It failed, or was interrupted.
        """
        try:
            count = once()
        except BlockingIOError as error:
            raise StalledError(
                f"{self._peer} {self._verb} nothing for {self._timeout_s:g} s",
                hint="the other side hangs, or the network is gone",
            ) from error
        except OSError as error:
            self._refuse_if_interrupted()
            raise self._translate(error) from error
        self._refuse_if_interrupted()
        return count


class BlockingSocketSender(_SocketHalf, BlockingSender):
    """Sends over a socket."""

    _option = socket.SO_SNDTIMEO
    _direction = socket.SHUT_WR
    _verb = "took"

    def send(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments; see :meth:`BlockingSender.send`."""
        self._whole(lambda: Vector(segments).move(self._send_some))

    def _send_some(self, rest: Sequence[Buffer]) -> int:
        return self._call(lambda: self._socket.sendmsg(rest))

    def send_with(self, send: Callable[[int], int]) -> int:
        """Let a function send; see :meth:`BlockingSender.send_with`."""
        return self._whole(lambda: self._call(lambda: send(self._socket.fileno())))


class BlockingSocketReceiver(_SocketHalf, BlockingReceiver):
    """Receives over a socket."""

    _option = socket.SO_RCVTIMEO
    _direction = socket.SHUT_RD
    _verb = "sent"

    def receive(self, targets: Sequence[memoryview]) -> int:
        """Fill all targets; see :meth:`BlockingReceiver.receive`."""
        return Vector(targets).move(lambda rest: self._call(lambda: self._fill(rest)))

    def _fill(self, targets: Sequence[Buffer]) -> int:
        return self._socket.recvmsg_into(targets, 0, socket.MSG_WAITALL)[0]

    def receive_with(self, receive: Callable[[int], int]) -> int:
        """Let a function receive; see :meth:`BlockingReceiver.receive_with`."""
        return self._call(lambda: receive(self._socket.fileno()))

    def receive_some(self, target: memoryview) -> int:
        """Receive at least one byte; see :meth:`BlockingReceiver.receive_some`."""
        return self._call(lambda: self._socket.recv_into(target))


def timeval(timeout_s: float) -> bytes:
    """A time-out as ``SO_RCVTIMEO`` and ``SO_SNDTIMEO`` take it, at least a millisecond.

    Args:
        timeout_s: Infinity is none, which the kernel has as 0.
    """
    if math.isinf(timeout_s):
        return _TIMEVAL.pack(0, 0)
    seconds, rest = divmod(max(timeout_s, 1e-3), 1)
    return _TIMEVAL.pack(int(seconds), int(rest * 1e6))
