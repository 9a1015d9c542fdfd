"""``rdma:HOST:PORT[,OPTION...]`` to a frozen address and back. Pure: no name is looked up here.

Option ``provider`` is ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from transship.toolkit import AddressText, NetworkAddress

if TYPE_CHECKING:
    from transship.abc import Option, Options

_PROVIDER: Final = re.compile(r"[A-Za-z0-9_-]{1,31}(;[A-Za-z0-9_-]{1,31})?")
"""What libfabric names them: a core provider, and perhaps what is layered on it."""


@dataclass(frozen=True)
class RdmaAddress(NetworkAddress):
    """Where to connect to, or to listen; see :class:`~transship.toolkit.NetworkAddress`.

    Args:
        provider: The only provider of libfabric's that may be used; None for the best of those
            that both sides have.
    """

    provider: str | None = None

    def with_port(self, port: int) -> RdmaAddress:
        """The address of one port, as a source would name it."""
        return replace(self, port=port)

    def __str__(self) -> str:
        return self.written("rdma", "" if self.provider is None else f"provider={self.provider}")


def parse_outgoing(text: str, options: Options) -> RdmaAddress:
    """Read an address to connect to.

    Args:
        text: The URI behind ``rdma:``.
        options: Further options, by the names they have in the URI; one may not be in both.

    Raises:
        BlockedError: It is malformed.
    """
    written = _written(text)
    address = _read(written, options)
    written.check_connectable(address)
    return address


def parse_incoming(text: str, options: Options) -> RdmaAddress:
    """Read an address to listen on; as :func:`parse_outgoing`.

    Raises:
        BlockedError: It is malformed.
    """
    return _read(_written(text), options)


def _written(text: str) -> AddressText:
    return AddressText("rdma", text, "address for RDMA")


def _read(written: AddressText, options: Options) -> RdmaAddress:
    place, read = written.read(options, {"provider": _read_provider})
    return RdmaAddress(place.host, place.port, place.ipv4, place.ipv6, read.get("provider"))


def _read_provider(written: AddressText, name: str, value: Option) -> str:
    if not isinstance(value, str) or not _PROVIDER.fullmatch(value):
        written.refuse("the name of a provider, such as provider=tcp;ofi_rxm", f"{name}={value}")
    return value
