"""Addresses of NBD servers as QMP writes them, and the URIs they stand for."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from urllib.parse import quote

from transship.control.commands.addresses import InetMembers, SocketAddress, UnixMembers
from transship.control.errors import generic
from transship.control.qapi.declaring import Object, OneOf


class InetAddressLegacy(Object, tag_field="type", tag="inet"):
    """A TCP socket."""

    data: InetMembers


class UnixAddressLegacy(Object, tag_field="type", tag="unix"):
    """A unix socket."""

    data: UnixMembers


SocketAddressLegacy: TypeAlias = Annotated[
    InetAddressLegacy | UnixAddressLegacy, OneOf("SocketAddressLegacy", by="type")
]


def nbd_uri(
    address: SocketAddress | InetMembers | UnixMembers, export: str = "", *, is_secure: bool
) -> str:
    """The URI of an export, or of a server if none is named.

    Args:
        address: The socket.
        export: Its name.
        is_secure: Whether it is spoken to over TLS.

    Raises:
        CommandError: NBD does not go over that kind of socket, or over one with such options.
    """
    name = quote(export, safe="/")
    scheme = "nbds" if is_secure else "nbd"
    if isinstance(address, UnixMembers):
        if address.abstract:
            raise generic("a server of disks has no abstract socket here")
        return f"{scheme}+unix:///{name}?socket={quote(address.path, safe='/')}"
    if not isinstance(address, InetMembers):
        raise generic("a server of disks is found at an 'inet' or a 'unix' address")
    beside = (address.to, address.ipv4, address.ipv6, address.keep_alive, address.mptcp)
    if any(one is not None for one in beside):
        raise generic("a server of disks is found by its 'host' and 'port' alone")
    return f"{scheme}://{address.host_and_port}/{name}"
