"""``tcp:HOST:PORT[,OPTION...]`` to a frozen address and back. Pure: no name is looked up here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from transship.toolkit import AddressText, NetworkAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.abc import Option, Options
    from transship.toolkit import OptionReader

_INTERFACE: Final = re.compile(r"[^\s,/\0]{1,15}")
"""Source: ``IFNAMSIZ`` of netdevice(7), less the zero byte."""


@dataclass(frozen=True)
class TcpAddress(NetworkAddress):
    """Where to connect to, or to listen; see :class:`~transship.toolkit.NetworkAddress`.

    Args:
        last_port: When listening, try the ports from ``port`` to this one.
        keep_alive: Whether the kernel asks a silent peer for a sign of life.
        mptcp: Whether to use Multipath TCP.
        numeric: Whether no name is looked up.
        bind: When connecting, the address of this host to connect from, without brackets.
        interface: The network interface to use, whatever the routes say.
    """

    last_port: int | None = None
    keep_alive: bool = True
    mptcp: bool = False
    numeric: bool = False
    bind: str | None = None
    interface: str | None = None

    def with_port(self, port: int) -> TcpAddress:
        """The address of one port, as a source would name it."""
        return replace(self, port=port, last_port=None, interface=None)

    def __str__(self) -> str:
        return self.written(
            "tcp",
            f"to={self.last_port}" if self.last_port is not None else "",
            "" if self.keep_alive else "keep-alive=off",
            "mptcp=on" if self.mptcp else "",
            "numeric=on" if self.numeric else "",
            f"bind={self.bind}" if self.bind is not None else "",
            f"interface={self.interface}" if self.interface is not None else "",
        )


def parse_outgoing(text: str, options: Options) -> TcpAddress:
    """Read an address to connect to.

    Args:
        text: The URI behind ``tcp:``.
        options: Further options, by the names they have in the URI; one may not be in both.

    Raises:
        BlockedError: It is malformed, or for listening.
    """
    written = _written(text)
    address = _read(written, options, _CONNECTING, {"to": "listening"})
    written.check_connectable(address)
    return address


def parse_incoming(text: str, options: Options) -> TcpAddress:
    """Read an address to listen on; as :func:`parse_outgoing`.

    Raises:
        BlockedError: It is malformed.
    """
    written = _written(text)
    address = _read(written, options, _LISTENING, {"bind": "connecting"})
    if address.last_port is not None and isinstance(address.port, int):
        if address.port == 0:
            written.refuse("the first port of a range, where 'to' says the last", "0, for any port")
        if address.last_port < address.port:
            last = f"'to', the last port, to be {address.port} or higher"
            written.refuse(last, str(address.last_port))
    return address


def _written(text: str) -> AddressText:
    return AddressText("tcp", text, "address of a TCP port")


def _read(
    written: AddressText,
    options: Options,
    readers: Mapping[str, OptionReader],
    of_other_side: Mapping[str, str],
) -> TcpAddress:
    place, read = written.read(options, readers, of_other_side)
    address = TcpAddress(
        place.host,
        place.port,
        place.ipv4,
        place.ipv6,
        last_port=read.get("to"),
        keep_alive=read.get("keep-alive", True),
        mptcp=read.get("mptcp", False),
        numeric=read.get("numeric", False),
        bind=read.get("bind"),
        interface=read.get("interface"),
    )
    if address.numeric:
        _check_numeric(written, address)
    return address


def _read_last_port(written: AddressText, name: str, value: Option) -> int:
    return written.port_number(f"port for {name!r}", value)


def _read_source(written: AddressText, name: str, value: Option) -> str:
    try:
        return str(ipaddress.ip_address(str(value).removeprefix("[").removesuffix("]")))
    except ValueError:
        written.refuse(f"an IP address of this host for {name!r}", repr(value))


def _read_interface(written: AddressText, name: str, value: Option) -> str:
    if not isinstance(value, str) or not _INTERFACE.fullmatch(value):
        written.refuse(f"the name of a network interface for {name!r}", repr(value))
    return value


def _check_numeric(written: AddressText, address: TcpAddress) -> None:
    try:
        if address.host:
            ipaddress.ip_address(address.host)
    except ValueError:
        written.refuse("an IP address, as no name is looked up (numeric)", repr(address.host))
    if isinstance(address.port, str):
        written.refuse(
            "the number of a port, as no name is looked up (numeric)", repr(address.port)
        )


_BOTH: Final[Mapping[str, OptionReader]] = {
    "keep-alive": AddressText.switch,
    "mptcp": AddressText.switch,
    "numeric": AddressText.switch,
    "interface": _read_interface,
}
_CONNECTING: Final = {**_BOTH, "bind": _read_source}
_LISTENING: Final = {**_BOTH, "to": _read_last_port}
