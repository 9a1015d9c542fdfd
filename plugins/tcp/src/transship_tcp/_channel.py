"""What makes a TCP socket a channel: its settings, and the name of its peer."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from transship.toolkit import SocketChannel

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc import Outgoing

_KEEP_ALIVE_IDLE_S: Final = 30
_KEEP_ALIVE_INTERVAL_S: Final = 10
_KEEP_ALIVE_PROBES: Final = 6
"""Together: a peer that vanished is noticed after a minute and a half of silence. Linux's own
defaults are two hours, 75 s and 9 probes. The engine's stall time-out is shorter, and apart."""


def make_channel(
    connection: socket.socket,
    *,
    keep_alive: bool,
    open_channel: Callable[[], Outgoing] | None = None,
) -> SocketChannel:
    """Set a connected socket up for migration; the channel owns it from now on.

    Buffer sizes are left alone: setting one ends the kernel's own tuning of it.

    Args:
        connection: The socket.
        keep_alive: Whether the kernel looks after a silent peer.
        open_channel: How the source opens another channel to the same place.

    Raises:
        OSError: The connection is lost already; the socket is still the caller's.
    """
    # A batch ends with a short header as often as not; it must not wait for an acknowledgement.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keep_alive)
    if keep_alive and hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_ALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEP_ALIVE_PROBES)
    return SocketChannel(connection, name_of(connection.getpeername()), open_channel)


def name_of(address: tuple[Any, ...]) -> str:
    """A socket address as a URI."""
    host, port = address[:2]
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
