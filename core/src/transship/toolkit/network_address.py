"""``HOST:PORT[,OPTION...]`` to a frozen address and back. Pure: no name is looked up here.

The grammar is QEMU's (``docs``, "migration URIs"), read strictly: what QEMU finds by searching
for a substring, or ignores, is an error here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, final

from transship.errors import BlockedError
from transship.toolkit.known_options import NO_OPTIONS, refuse_unknown_options

if TYPE_CHECKING:
    from transship.abc.transport import Option, Options

_HIGHEST_PORT: Final = 65_535

_HOST: Final = re.compile(r"[^\s,:\[\]/]{1,253}")
"""A name or an IPv4 literal; 253 characters are the longest name that DNS has."""
_SERVICE: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9-]{1,32}")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class NetworkAddress:
    """Where to connect to, or to listen.

    Args:
        host: A name or a literal, without brackets; empty for any address of this host when
            listening, and for the loopback interface when connecting.
        port: A number, or the name of a service; 0, when listening, for any that is free.
        ipv4: Whether IPv4 may be used.
        ipv6: Whether IPv6 may be used.
    """

    host: str
    port: int | str
    ipv4: bool = True
    ipv6: bool = True

    def written(self, scheme: str, *options: str) -> str:
        """The URI, from which the address is read back.

        Args:
            scheme: Without the colon.
            options: As in the URI (``mptcp=on``); empty ones are left out.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        families = ("" if self.ipv4 else "ipv4=off", "" if self.ipv6 else "ipv6=off")
        return ",".join(filter(None, (f"{scheme}:{host}:{self.port}", *families, *options)))


@final
class AddressText:
    """An address that is being read, or refused with what was expected and what was found.

    Args:
        scheme: Without the colon.
        rest: The URI behind ``scheme:``.
        what: What it is to be (``address of a TCP port``).
    """

    def __init__(self, scheme: str, rest: str, what: str) -> None:
        self._scheme = scheme
        self._rest = rest
        self._what = what

    def read(
        self,
        options: Options,
        readers: Mapping[str, OptionReader],
        of_other_side: Mapping[str, str] = NO_OPTIONS,
    ) -> tuple[NetworkAddress, dict[str, Any]]:
        """Read all of it.

        Args:
            options: Further options, by the names they have in the URI; one may not be in both.
            readers: How to read each option that there is beside ``ipv4`` and ``ipv6``.
            of_other_side: Options that mean nothing here, with what they are for (``listening``).

        Returns:
            The address, and what the readers made of the options that are there.

        Raises:
            BlockedError: It is malformed.
        """
        place, *items = self._rest.split(",")
        host, port = self._split(place)
        known = {"ipv4": AddressText.switch, "ipv6": AddressText.switch, **readers}
        given: dict[str, Option] = {}
        for name, value in chain(map(_split_option, items), options.items()):
            if name in given:
                self.refuse(f"option {name!r} once", "twice")
            given[name] = value
        refuse_unknown_options(f"{self._scheme}:{self._rest}", given, known, of_other_side)
        read = {name: known[name](self, name, value) for name, value in given.items()}
        families = self._families(read.pop("ipv4", None), read.pop("ipv6", None))
        return NetworkAddress(host, self._port(port), *families), read

    def switch(self, name: str, value: Option) -> bool:
        """Read an option that is on or off.

        Raises:
            BlockedError: It is neither.
        """
        if isinstance(value, bool):
            return value
        if value not in ("on", "off"):
            self.refuse(f"{name}=on or {name}=off", f"{name}={value}")
        return value == "on"

    def port_number(self, name: str, value: Option) -> int:
        """Read the number of a port.

        Raises:
            BlockedError: It is none.
        """
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _HIGHEST_PORT:
            found = "no value" if value is True else repr(value)
            self.refuse(f"a {name} from 0 to {_HIGHEST_PORT}", found)
        return value

    def check_connectable(self, address: NetworkAddress) -> None:
        """Refuse what one can listen on, but not connect to.

        Raises:
            BlockedError: Its port is 0.
        """
        if address.port == 0:
            self.refuse(f"a port from 1 to {_HIGHEST_PORT}", "0")

    def refuse(self, expected: str, found: str, *, hint: str | None = None) -> NoReturn:
        """Say what is wrong with it.

        Raises:
            BlockedError: Always.
        """
        what = f"'{self._scheme}:{self._rest}' is no {self._what}"
        raise BlockedError(what, expected=expected, found=found, hint=hint)

    def _refuse_place(self, expected: str, found: str) -> NoReturn:
        """Say what is wrong in front of the options."""
        brackets = f"with an IPv6 address in brackets: {self._scheme}:[::1]:4444"
        self.refuse(expected, found, hint=f"write {self._scheme}:HOST:PORT, {brackets}")

    def _split(self, place: str) -> tuple[str, str]:
        """Host without brackets, and port."""
        if place.startswith("["):
            host, bracket, port = place[1:].partition("]:")
            if not bracket:
                self._refuse_place("]:PORT after the IPv6 address", repr(place))
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                self._refuse_place("an IPv6 address in brackets", repr(host))
            return host, port
        host, colon, port = place.rpartition(":")
        if not colon:
            self._refuse_place("HOST:PORT", repr(place))
        if host and not _HOST.fullmatch(host):
            self._refuse_place("a host name or address", repr(host))
        return host, port

    def _port(self, port: str) -> int | str:
        return port if _SERVICE.fullmatch(port) else self.port_number("port", port)

    def _families(self, ipv4: bool | None, ipv6: bool | None) -> tuple[bool, bool]:
        """One that is asked for leaves out the other, unless that is asked for too."""
        chosen = (
            bool(ipv4 if ipv4 is not None else not ipv6),
            bool(ipv6 if ipv6 is not None else not ipv4),
        )
        if not any(chosen):
            self.refuse("IPv4, IPv6 or both", "neither")
        return chosen


def _split_option(item: str) -> tuple[str, Option]:
    """Name and value; one without a value is switched on."""
    name, equals, word = item.partition("=")
    return name, word if equals else True


OptionReader: TypeAlias = Callable[[AddressText, str, "Option"], Any]
"""Makes something of an option's value, by the option's name, or refuses it."""
