"""The bytes of a connected socket: calls that block, and end.

Knows no message. A whole payload is one system call, outside of the interpreter's lock: the kernel
waits for all of it, and for the time-out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, final

from transship.toolkit.vectored import Vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.buffers import Buffer

_TIMEVAL: Final = struct.Struct("@ll")
"""``struct timeval`` of socket(7)."""

_BUFFER_BYTES: Final = 1024 * 1024
"""Asked for at both ends of a Unix socket, whose buffers the kernel does not tune by itself."""


@final
class SocketBytes:
    """Sends and receives bytes as they are.

    Args:
        connection: Connected; owned by this from now on.
        peer: Who is at the other end, for messages.
        timeout_s: How long one call of the system may take.
    """

    def __init__(self, connection: socket.socket, peer: str, timeout_s: float) -> None:
        self.peer = peer
        self._socket = connection
        try:
            _set_up(connection)
            self.set_timeout(timeout_s)
        except BaseException:
            connection.close()
            raise

    def set_timeout(self, timeout_s: float) -> None:
        """Let calls of the system take so long from now on."""
        self.timeout_s = timeout_s
        seconds = int(timeout_s)
        limit = _TIMEVAL.pack(seconds, max(1, int((timeout_s - seconds) * 1_000_000)))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def send(self, parts: Sequence[Buffer], deadline_s: float) -> None:
        """Send all of it, one part behind the other.

        Args:
            parts: Borrowed.
            deadline_s: By the monotonic clock; no call of the system begins after it.

        Raises:
            OSError: The peer is gone, or does not take it in time.
        """

        def send_some(left: Sequence[Buffer]) -> int:
            if time.monotonic() > deadline_s:
                raise self.timed_out("takes too little")
            try:
                return self._socket.sendmsg(left)
            except BlockingIOError:
                raise self.timed_out("takes nothing") from None
            except OSError as error:
                raise self._broken(error) from error

        Vector(parts).move(send_some)

    def receive_some(self, target: memoryview, *, waits_for_all: bool = True) -> int:
        """Receive into a buffer that is not empty.

        Args:
            target: Where.
            waits_for_all: Whether to wait until it is full, or the time is up.

        Returns:
            How many bytes; 0 if none came in time.

        Raises:
            OSError: The peer is gone.
        """
        flags = socket.MSG_WAITALL if waits_for_all else 0
        try:
            count = self._socket.recv_into(target, flags=flags)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._broken(error) from error
        if not count:
            raise self.closed()
        return count

    def interrupt(self) -> None:
        """End every call, now and later; the peer notices. Idempotent."""
        with contextlib.suppress(OSError):  # it is not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; only when no call is under way."""
        self._socket.close()

    def timed_out(self, what: str) -> TimeoutError:
        """The error for a peer that is too slow: in what."""
        return TimeoutError(errno.ETIMEDOUT, f"{self.peer} {what} for {self.timeout_s:g} s")

    def closed(self) -> ConnectionResetError:
        """The error for a peer that is gone."""
        return ConnectionResetError(errno.ECONNRESET, f"{self.peer} closed the connection")

    def _broken(self, error: OSError) -> OSError:
        code = error.errno or errno.EIO
        return OSError(code, f"the connection to {self.peer} broke: {os.strerror(code)}")


def _set_up(connection: socket.socket) -> None:
    connection.settimeout(None)
    if connection.family == socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    else:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
