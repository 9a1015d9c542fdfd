"""The bytes of a connected socket behind a handshake: encrypted there, plain here.

Knows no message, and not how bytes are encrypted. What was received before the handshake is never
given out as if it had come behind it: whatever the socket has is for the session.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final, final

from transship.errors import TlsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import SecureSession
    from transship.buffers import Buffer
    from transship_nbd._deadline import Deadline
    from transship_nbd._socket_bytes import SocketBytes

_STEP_BYTES: Final = 256 * 1024
"""Most that is received at once."""


@final
class SecuredBytes:
    """Sends and receives bytes through a session; one thread may send while another receives.

    Args:
        below: Where the encrypted bytes go; borrowed.
        session: New.
    """

    def __init__(self, below: SocketBytes, session: SecureSession) -> None:
        self._below = below
        self._session = session
        self._scratch = memoryview(bytearray(_STEP_BYTES))
        self._is_agreed = False

    def shake_hands(self, deadline: Deadline) -> None:
        """Agree with the peer; before anything else.

        Raises:
            TlsError: The two sides do not agree, or one does not trust the other.
            OSError: The peer is gone, or too slow.
        """
        is_over = False
        while not is_over:
            try:
                is_over = self._session.shake_hands()
            except TlsError:
                with contextlib.suppress(OSError):
                    self._below.send((self._session.leaving(),), deadline)
                raise
            if leaving := self._session.leaving():
                self._below.send((leaving,), deadline)
            if not is_over and not self._fetch(deadline):
                raise deadline.missed(self._below.peer, "does not end the TLS handshake")
        self._is_agreed = True

    def send(self, parts: Sequence[Buffer], deadline: Deadline) -> None:
        """Send all of it; see :meth:`SocketBytes.send`."""
        self._refuse_unless_agreed()
        try:
            for piece in self._session.encrypt(parts):
                self._below.send((piece,), deadline)
        except TlsError as error:
            raise _broken(error) from error

    def receive_some(self, target: memoryview, deadline: Deadline) -> int:
        """Receive into a buffer that is not empty.

        Returns:
            How many bytes; 0 if none came in time.

        Raises:
            OSError: The peer is gone, or something else came than it had sent.
        """
        self._refuse_unless_agreed()
        try:
            while (count := self._session.decrypt_into(target)) is None:
                if not self._fetch(deadline):
                    return 0
        except TlsError as error:
            raise _broken(error) from error
        if not count:
            raise self._below.closed()
        return count

    def end(self, deadline: Deadline) -> None:
        """Say that nothing follows: this is no cut. Without an agreement there is nothing to say.

        Raises:
            OSError: The peer is gone.
        """
        if self._is_agreed:
            self._below.send((self._session.farewell(),), deadline)

    def _refuse_unless_agreed(self) -> None:
        if not self._is_agreed:
            why = f"there is no TLS with {self._below.peer}: the handshake has not succeeded"
            raise OSError(errno.EPROTO, why)

    def _fetch(self, deadline: Deadline) -> bool:
        """Hand what comes next to the session; False if nothing came in time."""
        count = self._below.receive_next(self._scratch, deadline)
        if count:  # nothing would be the end
            self._session.arrived(self._scratch[:count])
        return bool(count)


def _broken(error: TlsError) -> OSError:
    return OSError(errno.EPROTO, str(error))
