"""A connection whose calls block, and end: with what was asked for, or with an error.

Knows no message, only that there are such things: each is sent and received whole, within a time.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, final

from transship_nbd._secured_bytes import SecuredBytes
from transship_nbd._socket_bytes import SocketBytes

if TYPE_CHECKING:
    import socket

    from transship.abc import SecureSession
    from transship.buffers import Buffer


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
        self._socket = SocketBytes(connection, peer, timeout_s)
        self._secured: SecuredBytes | None = None

    def set_timeout(self, timeout_s: float) -> None:
        """Let calls take so long from now on."""
        self._socket.set_timeout(timeout_s)

    def secure(self, session: SecureSession) -> None:
        """Shake hands; from now on nothing is sent or received but through a session.

        Args:
            session: New. The handshake as a whole may take as long as one call.

        Raises:
            TlsError: The two sides do not agree, or one does not trust the other. The wire is of no
                more use.
            OSError: The peer is gone, or too slow. The same.
        """
        secured = SecuredBytes(self._socket, session)
        secured.shake_hands(self._deadline())
        self._secured = secured

    def send(self, *parts: Buffer) -> None:
        """Send all of it, one part behind the other.

        Raises:
            OSError: The peer is gone, or does not take it in time.
        """
        (self._secured or self._socket).send(parts, self._deadline())

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
        deadline = self._deadline()
        while target:
            if not (count := self._receive_some(target, deadline)):
                raise self._socket.timed_out("says nothing")
            target = target[count:]
            if target and time.monotonic() > deadline:
                raise self._socket.timed_out("says too little")

    def wait_for(self, first: memoryview) -> None:
        """The same, but the first byte may take as long as it likes."""
        while not (count := self._receive_some(first, math.inf)):
            pass
        self.receive_into(first[count:])

    def end(self) -> None:
        """Say that nothing follows, where that is said: over TLS. Never fails; may take as long."""
        if self._secured is not None:
            with contextlib.suppress(OSError):
                self._secured.end(self._deadline())

    def interrupt(self) -> None:
        """End every call, now and later; the peer notices. Idempotent."""
        self._socket.interrupt()

    def close(self) -> None:
        """Give the socket back; only when no call is under way."""
        self._socket.close()

    def _receive_some(self, target: memoryview, deadline_s: float) -> int:
        """Receive all of it, or less if the time is up."""
        if self._secured is not None:
            return self._secured.receive_some(target, deadline_s)
        return self._socket.receive_some(target)

    def _deadline(self) -> float:
        return time.monotonic() + self._socket.timeout_s
