"""``nbd:`` and ``nbds:`` URIs, over TCP and Unix sockets, to a frozen address and back.

Pure: nobody is asked anything.

Source: ``doc/uri.md`` of NetworkBlockDevice/nbd. ``tls-certificates`` is not in it; libnbd has it,
by its manual nbd_connect_uri(3).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options
from transship_nbd._protocol import LONGEST_STRING_BYTES

if TYPE_CHECKING:
    from transship.abc import ConnectionSecurity, Options

DEFAULT_PORT: Final = 10809
"""The port that IANA has assigned to NBD."""

DEFAULT_TIMEOUT_S: Final = 60.0
"""How long a server may take over one request. A flush of a large cache takes many seconds."""

_PLAIN: Final = "nbd"
_SECURE: Final = "nbds"
_OVER_UNIX: Final = "+unix"
_SCHEMES: Final = {scheme + over for scheme in (_PLAIN, _SECURE) for over in ("", _OVER_UNIX)}

_SOCKET: Final = "socket"
_CERTIFICATES: Final = "tls-certificates"
_HOSTNAME: Final = "tls-hostname"

_TIMEOUT: Final = "timeout"
_OPEN_TIMEOUT: Final = "open-timeout"
_PATH_BYTES: Final = 107
"""``sun_path`` of unix(7)."""

_EXAMPLES: Final = (
    "nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH, or with nbds in place of nbd"
)


@dataclass(frozen=True, slots=True)
class NbdAddress:
    """An export of a server.

    Args:
        export: Its name; empty for the server's default.
        host: Where, if over TCP.
        port: Where, if over TCP.
        path: The socket file, if over a Unix socket; an abstract name begins with a zero byte.
        is_secure: Whether it is spoken to over TLS, and never without.
        certificates: The folder of certificates that somebody is to read, and give what comes of
            it beside the address without this; empty if none is named.
        tls_hostname: What the server's certificate must be for; empty for the host.
        timeout_s: How long the server may take over one request.
        open_timeout_s: How long it may take to connect to it, to shake hands and to negotiate, all
            together.
    """

    export: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    is_secure: bool = False
    certificates: str = ""
    tls_hostname: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    open_timeout_s: float = DEFAULT_TIMEOUT_S

    @property
    def uri(self) -> str:
        """The address as a URI."""
        scheme = _SECURE if self.is_secure else _PLAIN
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{scheme}{_OVER_UNIX}://" if self.path else f"{scheme}://{host}:{self.port}"
        parameters = {
            _SOCKET: self.path,
            _CERTIFICATES: self.certificates,
            _HOSTNAME: self.tls_hostname,
        }
        query = "&".join(
            f"{name}={quote(value, safe='/')}" for name, value in parameters.items() if value
        )
        return f"{place}/{quote(self.export, safe='/')}" + (f"?{query}" if query else "")

    def __str__(self) -> str:
        return self.uri

    def check_secured_by(self, security: ConnectionSecurity | None) -> None:
        """Refuse to go without TLS where it is asked for, whoever asks; or with other certificates.

        Raises:
            BlockedError: The address asks for TLS, and there is no security; or the other way
                round; or it names certificates, which are not read here.
        """
        if self.certificates:
            if security is not None:
                raise BlockedError(
                    f"{self} names certificates, and others were given beside it",
                    expected="either of them",
                )
            raise BlockedError(
                f"{self} names certificates, which nobody has read",
                hint="transship.assembly reads them, by open_block_device and serve_block_devices;"
                " transship_nbd itself is given them as 'security'",
            )
        if self.is_secure and security is None:
            raise BlockedError(
                f"{self} asks for TLS and names no certificates",
                hint=f"{_CERTIFICATES}=DIR in it says to transship.assembly where they are;"
                " transship_nbd itself is given them as 'security'",
            )
        if security is not None and not self.is_secure:
            raise BlockedError(
                f"{self} goes in plain, and TLS is asked for", expected=f"{_SECURE}: in its place"
            )


def without_certificates(uri: str) -> str:
    """An address without the folder of certificates that it may name, once they have been read.

    Raises:
        BlockedError: It is malformed.
    """
    return replace(parse(uri), certificates="").uri


def parse(uri: str, options: Options | None = None) -> NbdAddress:
    """Read an address.

    Args:
        uri: The whole of it.
        options: ``timeout`` and ``open-timeout``, in seconds.

    Raises:
        BlockedError: It is malformed, or an option is unknown.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise BlockedError(f"{uri!r} is no address of NBD: {error}", expected=_EXAMPLES) from error
    if parts.scheme not in _SCHEMES:
        _refuse(uri, "its scheme is another's")
    if not parts.path.startswith("/") and parts.path:
        _refuse(uri, "two slashes are missing")
    if parts.fragment or "#" in uri:
        _refuse(uri, "it has a fragment")
    if parts.username is not None or parts.password is not None:
        _refuse(uri, "it names a user: that is for TLS with pre-shared keys, and not known here")
    export = unquote(parts.path[1:])
    if "\0" in export or len(export.encode()) > LONGEST_STRING_BYTES:
        _refuse(uri, f"an export's name has at most {LONGEST_STRING_BYTES} bytes, none of them 0")
    is_over_unix = parts.scheme.endswith(_OVER_UNIX)
    is_secure = parts.scheme.startswith(_SECURE)
    values = _read_query(uri, query, is_over_unix=is_over_unix, is_secure=is_secure)
    if is_over_unix:
        _check_path(uri, values.get(_SOCKET, ""))
        if parts.netloc:
            _refuse(uri, "a Unix socket has no host")
    elif not parts.hostname:
        _refuse(uri, "it names no host")
    timeout_s, open_timeout_s = _read_timeouts(uri, options or {})
    return NbdAddress(
        export,
        parts.hostname or "",
        DEFAULT_PORT if port is None else port,
        values.get(_SOCKET, ""),
        is_secure,
        values.get(_CERTIFICATES, ""),
        values.get(_HOSTNAME, ""),
        timeout_s,
        open_timeout_s,
    )


def _read_query(
    uri: str, query: list[tuple[str, str]], *, is_over_unix: bool, is_secure: bool
) -> dict[str, str]:
    known = [_SOCKET] if is_over_unix else []
    if is_secure:
        known += [_CERTIFICATES, _HOSTNAME]
    values = dict(query)
    if len(values) < len(query):
        _refuse(uri, "a parameter is given twice")
    for name in values:
        if name not in known:
            _refuse(uri, f"its parameter {name} is not known here{_why_not(name)}")
    return values


def _why_not(name: str) -> str:
    if name in (_CERTIFICATES, _HOSTNAME):
        return f", as it would be in {_SECURE}:"
    if name.startswith("tls-"):
        return ": TLS is with certificates, which are verified"
    return ""


def _check_path(uri: str, path: str) -> None:
    if not path:
        _refuse(uri, "it names no socket")
    if "\0" in path[1:] or len(os.fsencode(path)) > _PATH_BYTES:
        _refuse(uri, f"a socket's path has at most {_PATH_BYTES} bytes, none of them 0")


def _read_timeouts(uri: str, options: Options) -> tuple[float, float]:
    refuse_unknown_options(uri, options, (_TIMEOUT, _OPEN_TIMEOUT))
    timeout_s = _read_seconds(uri, options.get(_TIMEOUT, str(DEFAULT_TIMEOUT_S)))
    if _OPEN_TIMEOUT not in options:
        return timeout_s, timeout_s
    return timeout_s, _read_seconds(uri, options[_OPEN_TIMEOUT])


def _read_seconds(uri: str, said: object) -> float:
    try:
        seconds = float(said) if isinstance(said, str | int) else 0.0
    except ValueError:
        seconds = 0.0
    if isinstance(said, bool) or not 0 < seconds < float("inf"):
        _refuse(uri, f"its time-out is a number of seconds above 0, not {said!r}")
    return seconds


def _refuse(uri: str, why: str) -> NoReturn:
    raise BlockedError(f"{uri!r} is no address of NBD: {why}", expected=_EXAMPLES)
