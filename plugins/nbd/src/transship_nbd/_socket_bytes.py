"""The bytes of a connected socket: calls that block, and end.

Knows no message. A whole payload is one system call, outside of the interpreter's lock: the kernel
waits for all of it, and until the deadline.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
from typing import TYPE_CHECKING, Final, final

from transship.toolkit.blocking_socket import timeval
from transship.toolkit.vectored import Vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.buffers import Buffer
    from transship_nbd._deadline import Deadline

_LONGEST_S: Final = 24 * 3600.0
"""Most that the system is told to wait at once; a later deadline is waited for in several calls."""

_SLACK_S: Final = 0.02
"""By so much a call may end later than at its deadline."""

_BUFFER_BYTES: Final = 1024 * 1024
"""Asked for at both ends of a Unix socket, whose buffers the kernel does not tune by itself."""


@final
class SocketBytes:
    """Sends and receives bytes as they are; one thread may send while another receives.

    Args:
        connection: Connected; owned by this from now on.
        peer: Who is at the other end, for messages.
    """

    def __init__(self, connection: socket.socket, peer: str) -> None:
        self.peer = peer
        self._socket = connection
        self._limits_s = {socket.SO_RCVTIMEO: math.inf, socket.SO_SNDTIMEO: math.inf}
        try:
            _set_up(connection)
        except BaseException:
            connection.close()
            raise

    def send(self, parts: Sequence[Buffer], deadline: Deadline) -> None:
        """Send all of it, one part behind the other.

        Args:
            parts: Borrowed.
            deadline: No call of the system begins after it.

        Raises:
            OSError: The peer is gone, or does not take it in time.
        """

        def send_some(left: Sequence[Buffer]) -> int:
            while self._may_wait(socket.SO_SNDTIMEO, deadline):
                try:
                    return self._socket.sendmsg(left)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise self._broken(error) from error
            raise deadline.missed(self.peer, "takes too little")

        Vector(parts).move(send_some)

    def receive_some(self, target: memoryview, deadline: Deadline) -> int:
        """Receive into a buffer that is not empty, until it is full or the time is up.

        Returns:
            How many bytes; 0 if none came in time. Fewer than all may also be a signal's doing.

        Raises:
            OSError: The peer is gone.
        """
        return self._receive(target, deadline, socket.MSG_WAITALL)

    def receive_next(self, target: memoryview, deadline: Deadline) -> int:
        """The same, but what comes first is enough."""
        return self._receive(target, deadline, 0)

    def end(self, deadline: Deadline) -> None:
        """Say that nothing follows: a socket has no words for that but to be closed."""

    def interrupt(self) -> None:
        """End every call, now and later; the peer notices. Idempotent."""
        with contextlib.suppress(OSError):  # it is not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; only when no call is under way."""
        self._socket.close()

    def closed(self) -> ConnectionResetError:
        """The error for a peer that is gone."""
        return ConnectionResetError(errno.ECONNRESET, f"{self.peer} closed the connection")

    def _receive(self, target: memoryview, deadline: Deadline, flags: int) -> int:
        while self._may_wait(socket.SO_RCVTIMEO, deadline):
            try:
                count = self._socket.recv_into(target, flags=flags)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._broken(error) from error
            if not count:
                raise self.closed()
            return count
        return 0

    def _may_wait(self, option: int, deadline: Deadline) -> bool:
        """Have the next call of the system end by then; False if that has passed.

        Where one call may take as long as the last the system is not told again.
        """
        left_s = deadline.left_s()
        if -_SLACK_S < self._limits_s[option] - left_s < _SLACK_S and left_s > 0:
            return True  # the usual case
        if left_s <= 0:
            return False
        left_s = min(left_s, _LONGEST_S)
        if left_s != self._limits_s[option]:
            self._socket.setsockopt(socket.SOL_SOCKET, option, timeval(left_s))
            self._limits_s[option] = left_s
        return True

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
