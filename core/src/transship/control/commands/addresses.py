"""Migration addresses as QMP writes them, and the URIs and options they stand for.

Looks no file descriptor up: see :mod:`transship.control.commands.lending`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from transship.control.errors import generic
from transship.control.qapi.declaring import Object, OneOf, UInt16, UInt64

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Place:
    """What a transport is told: a URI, and beside it what no URI can say.

    Args:
        uri: The address.
        options: The transport's.
    """

    uri: str
    options: Mapping[str, str | int | bool | list[str]] = field(default_factory=dict)


class ChannelType(enum.Enum):
    """What a channel carries."""

    MAIN = "main"
    CPR = "cpr"


class InetMembers(Object):
    """Host and port, and how to get there."""

    host: str
    port: str
    numeric: bool | None = None
    to: UInt16 | None = None
    ipv4: bool | None = None
    ipv6: bool | None = None
    keep_alive: bool | None = None
    mptcp: bool | None = None

    @property
    def host_and_port(self) -> str:
        """As in a URI: an IPv6 address is in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def place(self, scheme: str) -> Place:
        """The same under a scheme.

        Raises:
            CommandError: There is a comma where it would begin an option.
        """
        if "," in self.host + self.port:
            raise generic("there is no comma in a 'host' and none in a 'port'")
        switches = {
            "ipv4": self.ipv4,
            "ipv6": self.ipv6,
            "keep-alive": self.keep_alive,
            "mptcp": self.mptcp,
        }
        options = [
            f",{name}={'on' if on else 'off'}" for name, on in switches.items() if on is not None
        ]
        to = [] if self.to is None else [f",to={self.to}"]
        uri = f"{scheme}:{self.host_and_port}{''.join(to + options)}"
        return Place(uri, {"numeric": True} if self.numeric else {})


class InetAddress(InetMembers, tag_field="type", tag="inet"):
    """A TCP socket."""


class UnixMembers(Object):
    """A path, and whether it is that of a file."""

    path: str
    abstract: bool = False
    tight: bool = True


class UnixAddress(UnixMembers, tag_field="type", tag="unix"):
    """A unix socket."""


class VsockAddress(Object, tag_field="type", tag="vsock"):
    """A socket between a host and its guests."""

    cid: str
    port: str


class FdAddress(Object, tag_field="type", tag="fd"):
    """A file descriptor, by the name that ``getfd`` gave it."""

    name: str = msgspec.field(name="str")


SocketAddress: TypeAlias = Annotated[
    InetAddress | UnixAddress | VsockAddress | FdAddress,
    OneOf("SocketAddress", by="type", case="socket"),
]


class ExecAddress(Object, tag_field="transport", tag="exec"):
    """A command, run without a shell."""

    args: list[str]


class RdmaAddress(InetMembers, tag_field="transport", tag="rdma"):
    """Remote direct memory access."""


class FileAddress(Object, tag_field="transport", tag="file"):
    """A file, from an offset on."""

    filename: str
    offset: UInt64


MigrationAddress: TypeAlias = Annotated[
    SocketAddress | ExecAddress | RdmaAddress | FileAddress,
    OneOf("MigrationAddress", by="transport"),
]


class MigrationChannel(Object):
    """One channel of a migration."""

    channel_type: ChannelType
    addr: MigrationAddress


def the_place(uri: str | None, channels: list[MigrationChannel] | None) -> Place:
    """The one address that a command was given, in either form.

    Raises:
        CommandError: There is none, or both; a channel that is not the main one; an address that
            makes no sense.
    """
    if (uri is None) is (not channels):
        raise generic("exactly one of 'uri' and 'channels' is needed")
    if uri is not None:
        return Place(uri)
    types = [channel.channel_type for channel in channels or ()]
    if len(set(types)) != len(types):
        raise generic("two entries of 'channels' have the same channel-type")
    main = next((one for one in channels or () if one.channel_type is ChannelType.MAIN), None)
    if main is None:
        raise generic("'channels' has no entry of channel-type 'main'")
    if len(types) > 1:
        raise generic("channel-type 'cpr' belongs to a mode of QEMU's that Transship does not have")
    return place_of(main.addr)


def place_of(address: MigrationAddress) -> Place:
    """The URI and the options that an address stands for.

    Raises:
        CommandError: A host or a port is none.
    """
    match address:
        case InetAddress():
            return address.place("tcp")
        case RdmaAddress():
            return address.place("rdma")
        case UnixAddress(abstract=True):
            return Place(f"unix:{address.path}", {"abstract": True, "tight": address.tight})
        case UnixAddress():
            return Place(f"unix:{address.path}")
        case VsockAddress():
            return Place(f"vsock:{address.cid}:{address.port}")
        case FdAddress():
            return Place(f"fd:{address.name}")
        case FileAddress():
            return Place(f"file:{address.filename}", {"offset": address.offset})
        case ExecAddress():
            return Place("exec:", {"args": address.args})


def socket_address(uri: str, options: Mapping[str, object]) -> InetAddress | UnixAddress | None:
    """A listening socket as ``query-migrate`` shows it; None if it is none."""
    scheme, _, rest = uri.partition(":")
    if scheme == "unix":
        is_abstract = options.get("abstract") in (True, "on")
        is_tight = options.get("tight", True) in (True, "on")
        return UnixAddress(rest, abstract=is_abstract, tight=is_tight)
    if scheme != "tcp":
        return None
    place = rest.split(",")[0]
    host, _, port = place.rpartition(":")
    is_ipv6 = host.startswith("[")
    host = host.strip("[]")
    is_literal = host.replace(".", "").isdecimal()
    return InetAddress(
        host=host, port=port, ipv4=True if is_literal else None, ipv6=True if is_ipv6 else None
    )
