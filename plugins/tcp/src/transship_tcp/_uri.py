"""``tcp:HOST:PORT[,OPTION...]`` to a frozen address and back. Pure: no name is looked up here.

The grammar is QEMU's (``docs``, "migration URIs"), read strictly: what QEMU finds by searching
for a substring, or ignores, is an error here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Port = int | str
"""A number, or the name of a service."""

Setting = str | int | bool
"""What an option may be set to, before its reader has looked at it."""

_HIGHEST_PORT: Final = 65_535
_HOST: Final = re.compile(r"[^\s,:\[\]/]{1,253}")
"""A name or an IPv4 literal; 253 characters are the longest name that DNS has."""
_SERVICE: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9-]{1,32}")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_HINT: Final = "write tcp:HOST:PORT, with an IPv6 address in brackets: tcp:[::1]:4444"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where to connect to, or to listen.

    Args:
        host: A name or a literal, without brackets; empty for any address of this host when
            listening, and for the loopback interface when connecting.
        port: 0, when listening, for any that is free.
        last_port: When listening, try the ports from ``port`` to this one.
        ipv4: Whether IPv4 may be used.
        ipv6: Whether IPv6 may be used.
        keep_alive: Whether the kernel asks a silent peer for a sign of life.
        mptcp: Whether to use Multipath TCP.
    """

    host: str
    port: Port
    last_port: int | None = None
    ipv4: bool = True
    ipv6: bool = True
    keep_alive: bool = True
    mptcp: bool = False

    def with_port(self, port: int) -> TcpAddress:
        """The address of one port, as a source would name it."""
        return replace(self, port=port, last_port=None)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        options = [
            f",to={self.last_port}" if self.last_port is not None else "",
            "" if self.ipv4 else ",ipv4=off",
            "" if self.ipv6 else ",ipv6=off",
            "" if self.keep_alive else ",keep-alive=off",
            ",mptcp=on" if self.mptcp else "",
        ]
        return f"tcp:{host}:{self.port}{''.join(options)}"


def parse_outgoing(text: str, options: Mapping[str, Setting]) -> TcpAddress:
    """Read an address to connect to.

    Args:
        text: The URI behind ``tcp:``.
        options: Further options, by the names they have in the URI; one may not be in both.

    Raises:
        BlockedError: It is malformed, or for listening only.
    """
    address = _parse(text, options)
    if address.last_port is not None:
        _refuse(text, "an address to connect to", "option 'to', which is for listening")
    if address.port == 0:
        _refuse(text, f"a port from 1 to {_HIGHEST_PORT}", "0")
    return address


def parse_incoming(text: str, options: Mapping[str, Setting]) -> TcpAddress:
    """Read an address to listen on; as :func:`parse_outgoing`.

    Raises:
        BlockedError: It is malformed.
    """
    address = _parse(text, options)
    if address.last_port is not None and isinstance(address.port, int):
        if address.port == 0:
            _refuse(text, "either port 0 or option 'to'", "both")
        if address.last_port < address.port:
            _refuse(text, f"to={address.port} or higher", f"to={address.last_port}")
    return address


def _parse(text: str, options: Mapping[str, Setting]) -> TcpAddress:
    place, *given = text.split(",")
    host, port = _split(text, place)
    settings: dict[str, Setting] = {}
    for item in given:
        name, equals, word = item.partition("=")
        _add(text, settings, name, word if equals else True)
    for name, value in options.items():
        _add(text, settings, name, value)

    read = {name: _READERS[name](text, name, value) for name, value in settings.items()}
    ipv4, ipv6 = _families(text, read.get("ipv4"), read.get("ipv6"))
    return TcpAddress(
        host,
        _read_port(text, port),
        last_port=read.get("to"),
        ipv4=ipv4,
        ipv6=ipv6,
        keep_alive=bool(read.get("keep-alive", True)),
        mptcp=bool(read.get("mptcp", False)),
    )


def _split(text: str, place: str) -> tuple[str, str]:
    """Host without brackets, and port."""
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]:")
        if not bracket:
            _refuse(text, "]:PORT after the IPv6 address", repr(place))
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            _refuse(text, "an IPv6 address in brackets", repr(host))
        return host, port
    host, colon, port = place.rpartition(":")
    if not colon:
        _refuse(text, "HOST:PORT", repr(place))
    if host and not _HOST.fullmatch(host):
        _refuse(text, "a host name or address", repr(host))
    return host, port


def _read_port(text: str, port: str) -> Port:
    if _SERVICE.fullmatch(port):
        return port
    return _read_number(text, "port", port)


def _add(text: str, settings: dict[str, Setting], name: str, value: Setting) -> None:
    if name not in _READERS:
        known = ", ".join(sorted(_READERS))
        _refuse(text, f"one of the options {known}", repr(name))
    if name in settings:
        _refuse(text, f"option {name!r} once", "twice")
    settings[name] = value


def _read_number(text: str, name: str, value: Setting) -> int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool | str) or not 0 <= value <= _HIGHEST_PORT:
        _refuse(text, f"a {name} from 0 to {_HIGHEST_PORT}", repr(value))
    return value


def _read_last_port(text: str, name: str, value: Setting) -> int:
    return _read_number(text, f"port for {name!r}", value)


def _read_switch(text: str, name: str, value: Setting) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("on", "off"):
        _refuse(text, f"{name}=on or {name}=off", f"{name}={value}")
    return value == "on"


_READERS: Final[Mapping[str, Callable[[str, str, Setting], int]]] = {
    "to": _read_last_port,
    "ipv4": _read_switch,
    "ipv6": _read_switch,
    "keep-alive": _read_switch,
    "mptcp": _read_switch,
}


def _families(text: str, ipv4: int | None, ipv6: int | None) -> tuple[bool, bool]:
    """One that is asked for leaves out the other, unless that is asked for too."""
    chosen = (
        bool(ipv4 if ipv4 is not None else not ipv6),
        bool(ipv6 if ipv6 is not None else not ipv4),
    )
    if not any(chosen):
        _refuse(text, "IPv4, IPv6 or both", "neither")
    return chosen


def _refuse(text: str, expected: str, found: str) -> NoReturn:
    raise BlockedError(
        f"'tcp:{text}' is no address of a TCP port", expected=expected, found=found, hint=_HINT
    )
