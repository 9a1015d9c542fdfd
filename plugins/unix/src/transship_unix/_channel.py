"""What makes a Unix socket a channel: its buffer, and the name of its peer."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from transship.toolkit import SocketChannel

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc import Outgoing
    from transship_unix._uri import UnixAddress

_CREDENTIALS: Final = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user, group."""


_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked for when sending; Linux grants what ``net.core.wmem_max`` allows, by default twice the
208 KiB that a socket has. Sender and receiver then take turns half as often, which was measured to
carry half as much again. Unlike TCP's, these buffers are not tuned by the kernel."""


def make_channel(
    connection: socket.socket,
    address: UnixAddress,
    open_channel: Callable[[], Outgoing] | None = None,
) -> SocketChannel:
    """A channel over a connected socket, which it owns from now on.

    Args:
        connection: The socket.
        address: Where it was connected.
        open_channel: How the source opens another channel to the same place.

    Raises:
        OSError: The connection is lost already; the socket is still the caller's.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return SocketChannel(connection, f"{address} ({_process_of(connection)})", open_channel)


def _process_of(connection: socket.socket) -> str:
    """Who connected, or who listened when we connected, as the kernel recorded it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return "peer"
    option = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(option)
    return f"process {process}, user {user}"
