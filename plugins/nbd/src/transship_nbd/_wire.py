"""A connected socket whose calls block, and end: with what was asked for, or with an error.

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
class Wire:
    """Sends and receives whole messages.

    Args:
        connection: Connected; owned by the wire from now on.
        peer: Who is at the other end, for messages.
        timeout_s: How long one call may take.
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
        """Let calls take so long from now on."""
        self._timeout_s = timeout_s
        seconds = int(timeout_s)
        limit = _TIMEVAL.pack(seconds, max(1, int((timeout_s - seconds) * 1_000_000)))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def send(self, *parts: Buffer) -> None:
        """Send all of it, one part behind the other.

        Raises:
            OSError: The peer is gone, or does not take it in time.
        """
        deadline = time.monotonic() + self._timeout_s

        def send_some(left: Sequence[Buffer]) -> int:
            if time.monotonic() > deadline:
                raise self._timed_out("takes too little")
            try:
                return self._socket.sendmsg(left)
            except BlockingIOError:
                raise self._timed_out("takes nothing") from None
            except OSError as error:
                raise self._broken(error) from error

        Vector(parts).move(send_some)

    def receive(self, length: int) -> bytes:
        """Receive so many bytes; the caller has made sure that they are few."""
        received = bytearray(length)
        self.receive_into(memoryview(received))
        return bytes(received)

    def receive_into(self, target: memoryview) -> None:
        """Fill a buffer of bytes.

        Raises:
            OSError: The peer is gone, or does not send it in time.
        """
        deadline = time.monotonic() + self._timeout_s
        while target:
            if not (count := self._receive_some(target)):
                raise self._timed_out("says nothing")
            target = target[count:]
            if target and time.monotonic() > deadline:
                raise self._timed_out("says too little")

    def wait_for(self, first: memoryview) -> None:
        """The same, but the first byte may take as long as it likes."""
        while not (count := self._receive_some(first)):
            pass
        self.receive_into(first[count:])

    def interrupt(self) -> None:
        """End every call, now and later; the peer notices. Idempotent."""
        with contextlib.suppress(OSError):  # it is not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; only when no call is under way."""
        self._socket.close()

    def _receive_some(self, target: memoryview) -> int:
        """Receive all of it, or less if the time is up."""
        if not target:
            return 0
        try:
            count = self._socket.recv_into(target, flags=socket.MSG_WAITALL)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._broken(error) from error
        if not count:
            raise ConnectionResetError(errno.ECONNRESET, f"{self.peer} closed the connection")
        return count

    def _timed_out(self, what: str) -> TimeoutError:
        return TimeoutError(errno.ETIMEDOUT, f"{self.peer} {what} for {self._timeout_s:g} s")

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
