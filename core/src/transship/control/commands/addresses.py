"""Migration addresses as QMP writes them, and the URIs they stand for."""

from __future__ import annotations

import enum
from typing import Annotated, TypeAlias

import msgspec

from transship.control.errors import generic
from transship.control.qapi.declaring import Object, OneOf, UInt16, UInt64


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

    def uri(self, scheme: str) -> str:
        """The URI of that scheme.

        Raises:
            CommandError: There is a comma where it would begin an option.
        """
        if "," in self.host + self.port:
            raise generic("a comma in 'host' or 'port' is not carried by a URI")
        host = f"[{self.host}]" if ":" in self.host else self.host
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
        return f"{scheme}:{host}:{self.port}{''.join(to + options)}"


class InetAddress(InetMembers, tag_field="type", tag="inet"):
    """A TCP socket."""


class UnixAddress(Object, tag_field="type", tag="unix"):
    """A unix socket."""

    path: str
    abstract: bool = False
    tight: bool = True


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


def the_uri(uri: str | None, channels: list[MigrationChannel] | None) -> str:
    """The one address that a command was given, in either form.

    Raises:
        CommandError: There is none, or both; a channel that is not the main one; an address that
            no URI can say.
    """
    if (uri is None) is (not channels):
        raise generic("exactly one of 'uri' and 'channels' is needed")
    if uri is not None:
        return uri
    types = [channel.channel_type for channel in channels or ()]
    if len(set(types)) != len(types):
        raise generic("two entries of 'channels' have the same channel-type")
    main = next((one for one in channels or () if one.channel_type is ChannelType.MAIN), None)
    if main is None:
        raise generic("'channels' has no entry of channel-type 'main'")
    if len(types) > 1:
        raise generic("channel-type 'cpr' belongs to a mode of QEMU's that Transship does not have")
    return _uri(main.addr)


def _uri(address: MigrationAddress) -> str:
    match address:
        case InetAddress():
            return address.uri("tcp")
        case RdmaAddress():
            return address.uri("rdma")
        case UnixAddress(abstract=True):
            raise generic("abstract unix sockets are not carried by a URI; give a path")
        case UnixAddress():
            return f"unix:{address.path}"
        case VsockAddress():
            return f"vsock:{address.cid}:{address.port}"
        case FdAddress():
            return f"fd:{address.name}"
        case FileAddress():
            return f"file:{address.filename},offset={address.offset}"
        case _:
            raise generic("a command without a shell is not carried by a URI; give exec:COMMAND")


def socket_address(uri: str) -> InetAddress | UnixAddress | None:
    """A listening socket as ``query-migrate`` shows it; None if it is none."""
    scheme, _, rest = uri.partition(":")
    if scheme == "unix":
        return UnixAddress(path=rest)
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
