"""What the library for TLS says, as errors of ours: what happened, and what to do about it."""

from __future__ import annotations

import re
import ssl
from typing import Final

from transship.errors import TlsError

_NO_TLS: Final = "what came is not TLS: is TLS on at the other side?"
_OLD: Final = "one side offers TLS 1.1 or older; both need 1.2 or 1.3"

_HINTS: Final = {
    "http request": _NO_TLS,
    "packet length too long": _NO_TLS,
    "wrong version number": _NO_TLS,
    "peer did not return a certificate": "the other side's folder lacks client-cert.pem",
    "record layer failure": _NO_TLS,
    "unsupported protocol": _OLD,
}
"""By the reason that the library gives."""

_VERSION: Final = re.compile(r"^(sslv3|tlsv1\d?) (?=alert )")
"""What the library puts before an alert, whatever the version in use is."""

_ALERTS: Final = {
    "bad certificate": "the other side refuses our certificate; its own output says why",
    "certificate expired": "our certificate has expired, or the other side's ca-crl.pem is too old",
    "certificate required": "the other side wants a client certificate: our folder lacks one",
    "certificate revoked": "the other side's ca-crl.pem has our certificate",
    "handshake failure": "the other side refuses us; its own output says why",
    "protocol version": _OLD,
    "unknown ca": "the other side's ca-cert.pem has not the authority of our certificate, or its "
    "ca-crl.pem no list of that one",
}
"""By what the other side says before it closes. The names of the versions before it differ."""

_CERTIFICATES: Final = {
    3: "ca-crl.pem has no list of the authority that signed it",
    10: "it has expired",
    12: "replace ca-crl.pem by a newer list",
    18: "it is not of the authority in ca-cert.pem",
    19: "it is not of the authority in ca-cert.pem",
    20: "it is not of the authority in ca-cert.pem",
    23: "ca-crl.pem has it",
    26: "it is for the other side of a connection: a client's, or a server's",
    62: "set tls-hostname to a name that is in it",
    64: "set tls-hostname to a name that is in it",
}
"""By the code of the verification."""


def untrusted(peer: str, error: ssl.SSLError) -> TlsError:
    """What the library says of a peer.

    Args:
        peer: Who it is, for people.
        error: As it was raised.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(
            f"the certificate of {peer} is refused: {error.verify_message.rstrip('.')}",
            hint=_CERTIFICATES.get(error.verify_code),
        )
    reason = plain_reason(error)
    hint = _HINTS.get(reason) or _ALERTS.get(reason.removeprefix("alert "))
    return TlsError(f"TLS with {peer} failed: {reason}", hint=hint)


def plain_reason(error: Exception) -> str:
    """Why, in words; the library's own names are all capitals."""
    reason: str | None = getattr(error, "reason", None)
    words = (reason or str(error)).replace("_", " ").lower()
    return _VERSION.sub("", words)
