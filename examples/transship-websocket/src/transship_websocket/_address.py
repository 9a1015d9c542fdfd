"""Text to a frozen address and back. Pure: nothing is looked up, no file is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError
from transship.toolkit import refuse_unknown_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.abc import Address, Options


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect to, or to listen.

    Args:
        scheme: ``ws`` or ``wss``.
        host: A name or a literal, without brackets.
        port: 0, when listening, for any that is free.
        certificate: File with the certificate chain of the side that listens.
        key: File with its private key; in that of the certificate, if None.
        ca: File with those whom the side that connects trusts; the system's, if None.
    """

    scheme: str
    host: str
    port: int
    certificate: str | None = None
    key: str | None = None
    ca: str | None = None

    @property
    def is_secure(self) -> bool:
        """Whether it goes over TLS."""
        return self.scheme == "wss"

    def for_source(self, port: int) -> Place:
        """The same place as a source names it."""
        return replace(self, port=port, certificate=None, key=None)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        options = [
            f",{name}={value}"
            for name in ("certificate", "key", "ca")
            if (value := getattr(self, name)) is not None
        ]
        return f"{self.scheme}:{host}:{self.port}{''.join(options)}"


_CONNECTING: Final = {"ca": "connecting"}
_LISTENING: Final = {"certificate": "listening", "key": "listening"}
"""The options of either side, with what they are for."""


def parse_outgoing(address: Address, options: Options) -> Place:
    """Read an address to connect to.

    Raises:
        BlockedError: It is malformed, or an option is not for this side.
    """
    return _parse(address, options, _CONNECTING, _LISTENING)


def parse_incoming(address: Address, options: Options) -> Place:
    """Read an address to listen on.

    Raises:
        BlockedError: It is malformed, an option is not for this side, or a certificate is missing.
    """
    place = _parse(address, options, _LISTENING, _CONNECTING)
    if place.is_secure and place.certificate is None:
        raise BlockedError(
            f"'{address}' has no certificate", expected="wss:HOST:PORT,certificate=FILE"
        )
    return place


def _parse(
    address: Address,
    options: Options,
    known: Mapping[str, str],
    of_other_side: Mapping[str, str],
) -> Place:
    where, *given = address.rest.split(",")
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]{1,253})):([0-9]{1,5})", where)
    if not found or int(found[3]) > 65_535:
        raise BlockedError(
            f"'{address}' is no address", expected=f"{address.scheme}:HOST:PORT", found=repr(where)
        )
    named = [*(one.partition("=")[::2] for one in given), *options.items()]
    if address.scheme != "wss":
        known = of_other_side = {}
    refuse_unknown_options(address, [name for name, _ in named], known, of_other_side)
    files: dict[str, str] = {}
    for name, value in named:
        if name in files:
            raise BlockedError(f"'{address}' has an option twice", found=repr(name))
        if not isinstance(value, str) or not value:
            raise BlockedError(f"option {name!r} of '{address}' is no file", found=repr(value))
        files[name] = value
    return Place(address.scheme, found[1] or found[2], int(found[3]), **files)
