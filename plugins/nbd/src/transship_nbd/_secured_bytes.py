"""The bytes of a connected socket behind a handshake: encrypted there, plain here.

Knows no message, and not how bytes are encrypted. What was received before the handshake is never
given out as if it had come behind it: whatever the socket has is for the session.
"""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING, Final, final

from transship.errors import TlsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import SecureSession
    from transship.buffers import Buffer
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

    def shake_hands(self, deadline_s: float) -> None:
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
                    self._below.send((self._session.leaving(),), deadline_s)
                raise
            if leaving := self._session.leaving():
                self._below.send((leaving,), deadline_s)
            if not is_over and not self._fetch(deadline_s):
                raise self._below.timed_out("does not end the TLS handshake")

    def send(self, parts: Sequence[Buffer], deadline_s: float) -> None:
        """Send all of it; see :meth:`SocketBytes.send`."""
        try:
            for piece in self._session.encrypt(parts):
                self._below.send((piece,), deadline_s)
        except TlsError as error:
            raise _broken(error) from error

    def receive_some(self, target: memoryview, deadline_s: float) -> int:
        """Receive into a buffer that is not empty.

        Returns:
            How many bytes; 0 if none came in time.

        Raises:
            OSError: The peer is gone, or something else came than it had sent.
        """
        try:
            while (count := self._session.decrypt_into(target)) is None:
                if not self._fetch(deadline_s):
                    return 0
        except TlsError as error:
            raise _broken(error) from error
        if not count:
            raise self._below.closed()
        return count

    def end(self, deadline_s: float) -> None:
        """Say that nothing follows: this is no cut.

        Raises:
            OSError: The peer is gone.
        """
        self._below.send((self._session.farewell(),), deadline_s)

    def _fetch(self, deadline_s: float) -> bool:
        """Hand what comes next to the session; False if nothing came in time."""
        if time.monotonic() > deadline_s:
            return False
        count = self._below.receive_some(self._scratch, waits_for_all=False)
        if count:  # nothing would be the end
            self._session.arrived(self._scratch[:count])
        return bool(count)


def _broken(error: TlsError) -> OSError:
    return OSError(errno.EPROTO, str(error))
