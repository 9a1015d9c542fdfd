"""A connection whose calls block, and end: with what was asked for, or with an error.

Knows no message, only that there are such things: each is sent and received whole, within a time.
All deadlines are made here.
"""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from transship_nbd._deadline import Deadline
from transship_nbd._secured_bytes import SecuredBytes
from transship_nbd._socket_bytes import SocketBytes

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from transship.abc import SecureSession
    from transship.buffers import Buffer

_FAREWELL_S: Final = 1.0
"""How long saying farewell may take; a peer that reads takes it at once."""


@final
class Wire:
    """Sends and receives whole messages.

    Args:
        connection: Connected; owned by the wire from now on.
        peer: Who is at the other end, for messages.
        timeout_s: How long one call may take.
    """

    def __init__(self, connection: socket.socket, peer: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._limit: Deadline | None = None
        self._socket = SocketBytes(connection, peer)
        self._bytes: SocketBytes | SecuredBytes = self._socket

    @property
    def peer(self) -> str:
        """Who is at the other end, for messages."""
        return self._socket.peer

    def settle(self, peer: str, timeout_s: float) -> None:
        """From now on, name the peer so in messages, and let a call take so long."""
        self._socket.peer = peer
        self._timeout_s = timeout_s

    @contextmanager
    def within(self, limit: Deadline) -> Iterator[None]:
        """Have all calls in the body end by a deadline, whatever each of them may take."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = None

    def secure(self, session: SecureSession) -> None:
        """Shake hands; from now on nothing is sent or received but through a session.

        If that fails nothing more can be sent or received at all.

        Args:
            session: New. The handshake as a whole may take as long as one call.

        Raises:
            TlsError: The two sides do not agree, or one does not trust the other.
            OSError: The peer is gone, or too slow.
        """
        secured = SecuredBytes(self._socket, session)
        self._bytes = secured
        secured.shake_hands(self._deadline())

    def send(self, *parts: Buffer) -> None:
        """Send all of it, one part behind the other.

        Raises:
            OSError: The peer is gone, or does not take it in time.
        """
        self._bytes.send(parts, self._deadline())

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
        deadline, length = self._deadline(), len(target)
        while target:
            if not (count := self._bytes.receive_some(target, deadline)):
                what = "says nothing" if len(target) == length else "says too little"
                raise deadline.missed(self.peer, what)
            target = target[count:]

    def wait_for(self, first: memoryview) -> None:
        """The same, but the first byte may take as long as it likes."""
        while not (count := self._bytes.receive_some(first, self._deadline())):
            pass
        if count < len(first):
            self.receive_into(first[count:])

    def end(self) -> None:
        """Say that nothing follows, where that is said: over TLS. Never fails, and is short."""
        with contextlib.suppress(OSError):
            self._bytes.end(Deadline.after(min(self._timeout_s, _FAREWELL_S)))

    def interrupt(self) -> None:
        """End every call, now and later; the peer notices. Idempotent."""
        self._socket.interrupt()

    def close(self) -> None:
        """Give the socket back; only when no call is under way."""
        self._socket.close()

    def _deadline(self) -> Deadline:
        own, limit = Deadline.after(self._timeout_s), self._limit
        return own if limit is None or own.at_s < limit.at_s else limit
