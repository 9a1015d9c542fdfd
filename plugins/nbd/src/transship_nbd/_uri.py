"""``nbd:`` and ``nbd+unix:`` URIs to a frozen address. Pure: nobody is asked anything.

Source: ``doc/uri.md`` of NetworkBlockDevice/nbd.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options
from transship_nbd._protocol import LONGEST_STRING_BYTES

if TYPE_CHECKING:
    from transship.abc import Options

DEFAULT_PORT: Final = 10809
"""The port that IANA has assigned to NBD."""

DEFAULT_TIMEOUT_S: Final = 60.0
"""How long a server may take over one request. A flush of a large cache takes many seconds."""

_TCP: Final = "nbd"
_UNIX: Final = "nbd+unix"
_TIMEOUT: Final = "timeout"
_OPEN_TIMEOUT: Final = "open-timeout"
_PATH_BYTES: Final = 107
"""``sun_path`` of unix(7)."""

_EXAMPLES: Final = "nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH"


@dataclass(frozen=True, slots=True)
class NbdAddress:
    """An export of a server.

    Args:
        export: Its name; empty for the server's default.
        host: Where, if over TCP.
        port: Where, if over TCP.
        path: The socket file, if over a Unix socket; an abstract name begins with a zero byte.
        timeout_s: How long the server may take over one request.
        open_timeout_s: How long it may take to connect to it, and each message of the negotiation.
    """

    export: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    open_timeout_s: float = DEFAULT_TIMEOUT_S

    @property
    def uri(self) -> str:
        """The address as a URI."""
        export = quote(self.export, safe="/")
        if self.path:
            return f"{_UNIX}:///{export}?socket={quote(self.path, safe='/')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_TCP}://{host}:{self.port}/{export}"

    def __str__(self) -> str:
        return self.uri


def parse(uri: str, options: Options | None = None) -> NbdAddress:
    """Read an address.

    Args:
        uri: The whole of it.
        options: ``timeout`` and ``open-timeout``, in seconds.

    Raises:
        BlockedError: It is malformed, asks for TLS, or an option is unknown.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise BlockedError(f"{uri!r} is no address of NBD: {error}", expected=_EXAMPLES) from error
    if parts.scheme not in (_TCP, _UNIX):
        _refuse(uri, "its scheme is another's")
    if not parts.path.startswith("/") and parts.path:
        _refuse(uri, "two slashes are missing")
    if parts.fragment or "#" in uri:
        _refuse(uri, "it has a fragment")
    if parts.username is not None or parts.password is not None:
        _refuse(uri, "it names a user, which only TLS would need")
    export = unquote(parts.path[1:])
    if "\0" in export or len(export.encode()) > LONGEST_STRING_BYTES:
        _refuse(uri, f"an export's name has at most {LONGEST_STRING_BYTES} bytes, none of them 0")
    timeout_s, open_timeout_s = _read_timeouts(uri, options or {})
    values = dict(query)
    if parts.scheme == _UNIX:
        path = _read_path(uri, values)
        if parts.netloc:
            _refuse(uri, "a Unix socket has no host")
        address = NbdAddress(export, path=path, timeout_s=timeout_s, open_timeout_s=open_timeout_s)
    else:
        if not parts.hostname:
            _refuse(uri, "it names no host")
        port = DEFAULT_PORT if port is None else port
        address = NbdAddress(
            export, parts.hostname, port, timeout_s=timeout_s, open_timeout_s=open_timeout_s
        )
    if values or len(query) > 1:
        names = ", ".join(name for name, _ in query)
        _refuse(uri, f"of its parameters only 'socket' is known, once, not: {names}")
    return address


def _read_path(uri: str, values: dict[str, str]) -> str:
    path = values.pop("socket", "")
    if not path:
        _refuse(uri, "it names no socket")
    if "\0" in path[1:] or len(os.fsencode(path)) > _PATH_BYTES:
        _refuse(uri, f"a socket's path has at most {_PATH_BYTES} bytes, none of them 0")
    return path


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
