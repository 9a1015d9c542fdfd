"""One side of a TLS session, between plain and encrypted bytes; moves none itself."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from transship.abc.security import SecureSession
from transship.errors import BlockedError, TlsError
from transship.tls.failures import plain_reason, untrusted
from transship.tls.names import distinguished_name, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.buffers import Buffer
    from transship.tls.authorization import AccessList

RECORD_BYTES: Final = 16 * 1024
"""A TLS record holds no more."""

STEP_BYTES: Final = 256 * 1024
"""Most that is encrypted at once: it stays in a processor's cache."""

_OWED_BYTES: Final = 64 * 1024
"""Most that a peer may make us owe, who only sends: refusals of what it asks for, and the like."""


class Session(SecureSession):
    """One side; see :class:`~transship.abc.SecureSession`.

    Args:
        context: Keys, trust and limits.
        peer: Who is at the other end, for people.
        server_side: Whether this is the server.
        hostname: What the peer's certificate must be for, if that is checked.
        access: Whom to let in of those whom the context verifies; None for all of them.

    Raises:
        BlockedError: ``hostname`` cannot be a name.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        peer: str,
        *,
        server_side: bool,
        hostname: str | None = None,
        access: AccessList | None = None,
    ) -> None:
        self._peer = peer
        self._access = access
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        try:
            self._ssl = context.wrap_bio(
                self._arrived, self._leaving, server_side=server_side, server_hostname=hostname
            )
        except (ValueError, TypeError, ssl.SSLError) as error:
            raise BlockedError(
                f"{hostname!r} cannot be a name in a certificate: {plain_reason(error)}",
                hint="set tls-hostname to the name in the server's certificate",
            ) from error
        self._lock = threading.Lock()
        self._held = bytearray()
        self._failure: ssl.SSLError | None = None

    @property
    def version(self) -> str:
        """Which TLS it is."""
        return self._ssl.version() or "TLS"

    def certificate(self) -> dict[str, object]:
        """The peer's verified certificate; empty if it has none, or nobody verified it.

        Raises:
            TlsError: It cannot be read.
        """
        try:
            return dict(self._ssl.getpeercert() or {})
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"the certificate of {self._peer} cannot be read: {error}") from error

    def shake_hands(self) -> bool:
        """Go on with the handshake; whom it verifies is then let in, or is not."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise untrusted(self._peer, error) from error
        if self._access is not None:
            self._let_in(self._access)
        return True

    def encrypt(self, segments: Sequence[Buffer]) -> Iterator[bytes]:
        """Yield what is to be sent for some bytes; small segments go together."""
        for step in _steps(segments):
            yield self._encrypt(step)

    def _encrypt(self, plain: Buffer) -> bytes:
        with self._lock:
            self._refuse_if_failed()
            try:
                self._ssl.write(plain)
            except ssl.SSLError as error:
                raise self._failed(error) from error
            return self._leaving.read()

    def farewell(self) -> bytes:
        """What is to be sent as the end of this direction."""
        with self._lock:
            self._hold_what_has_arrived()
            with suppress(ssl.SSLError):
                self._ssl.unwrap()  # sends the end; not to have got the peer's is no failure
            return self._leaving.read()

    def leaving(self) -> bytes:
        """What is to be sent now."""
        return self._leaving.read()

    def arrived(self, encrypted: memoryview) -> None:
        """Take what was received; nothing is the end."""
        with self._lock:
            if encrypted:
                self._arrived.write(encrypted)
            else:
                self._arrived.write_eof()

    def decrypt_into(self, target: memoryview) -> int | None:
        """Fill a buffer as far as can be.

        An end without a farewell is an end: the stream says itself where it is whole.
        """
        with self._lock:
            if self._held:
                return self._take_held(target)
            self._refuse_if_failed()
            try:
                count = self._fill(target)
            except ssl.SSLError as error:
                raise self._failed(error) from error
            if self._leaving.pending > _OWED_BYTES:
                self._failure = ssl.SSLError("it keeps asking for answers, and takes none")
                self._refuse_if_failed()
            return count

    def _let_in(self, access: AccessList) -> None:
        identity = distinguished_name(self.certificate().get("subject", ()))  # type: ignore[arg-type]
        if not access.allows(identity):
            raise TlsError(
                f"{self._peer} is not let in",
                expected="a name that tls-authz allows",
                found=shown(identity) or "no name in its certificate",
            )

    def _fill(self, target: memoryview) -> int | None:
        done = 0
        while done < len(target):
            with target[done:] as rest:
                try:
                    count = cast("int", self._ssl.read(len(rest), rest))
                except ssl.SSLWantReadError:
                    return done or None
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return done
            if not count:
                return done
            done += count
        return done

    def _hold_what_has_arrived(self) -> None:
        """Decrypt it before saying farewell: the library drops what it finds afterwards."""
        page = memoryview(bytearray(RECORD_BYTES))
        try:
            while self._failure is None and (count := self._fill(page)):
                self._held += page[:count]
        except ssl.SSLError as error:
            self._failure = error

    def _take_held(self, target: memoryview) -> int:
        count = min(len(target), len(self._held))
        with memoryview(self._held) as held, held[:count] as part:
            target[:count] = part
        del self._held[:count]
        return count

    def _failed(self, error: ssl.SSLError) -> TlsError:
        self._failure = error
        return untrusted(self._peer, error)

    def _refuse_if_failed(self) -> None:
        """Asked again, the library would say that this is the end."""
        if self._failure is not None:
            raise untrusted(self._peer, self._failure) from self._failure


def _steps(segments: Sequence[Buffer]) -> Iterator[Buffer]:
    """The bytes of segments in steps for the cipher; small ones are put together."""
    small = bytearray()
    for segment in segments:
        with memoryview(segment) as view, view.cast("B") as data:
            if len(data) + len(small) <= RECORD_BYTES:
                small += data
                continue
            if small:
                yield bytes(small)
                small.clear()
            for start in range(0, len(data), STEP_BYTES):
                with data[start : start + STEP_BYTES] as piece:
                    yield piece
    if small:
        yield bytes(small)
