"""What makes a Unix socket a channel: its buffer, its peer's name, and whose process that is."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from transship.toolkit import DescriptorSocketChannel, peer_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc import Outgoing
    from transship_unix._uri import UnixAddress

_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked for when sending; Linux grants what ``net.core.wmem_max`` allows, by default twice the
208 KiB that a socket has. Sender and receiver then take turns half as often, which was measured to
carry half as much again. Unlike TCP's, these buffers are not tuned by the kernel."""


def make_channel(
    connection: socket.socket,
    address: UnixAddress,
    open_channel: Callable[[], Outgoing] | None = None,
) -> DescriptorSocketChannel:
    """Set a connected socket up for migration; it passes descriptors to the same user only.

    Args:
        connection: A connected Unix stream socket; owned by the channel from now on.
        address: Where it was connected.
        open_channel: How the source opens another channel to the same place.

    Raises:
        OSError: The connection is lost already; the socket is still the caller's.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    peer = peer_process(connection)
    return DescriptorSocketChannel(connection, f"{address} ({peer or 'peer'})", open_channel)
