"""What makes a TCP socket a channel: its settings."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from transship import toolkit

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc import Outgoing

_KEEP_ALIVE_IDLE_S: Final = 30
_KEEP_ALIVE_INTERVAL_S: Final = 10
_KEEP_ALIVE_PROBES: Final = 6
"""Together: a peer that vanished is noticed after a minute and a half of silence. Linux's own
defaults are two hours, 75 s and 9 probes. The engine's stall time-out is shorter, and apart."""

_LOCAL_BUFFER_BYTES: Final = 256 * 1024
"""Within one host, what is sent is received out of the cache as long as little waits in between;
the kernel lets 4 MiB wait. Measured with two connections: a quarter less time."""


def make_channel(
    connection: socket.socket,
    *,
    keep_alive: bool,
    open_channel: Callable[[], Outgoing] | None = None,
    is_extra: bool = False,
    host: str | None = None,
) -> toolkit.SocketChannel:
    """Set a connected socket up for migration; the channel owns it from now on.

    Buffer sizes are left alone, since setting one ends the kernel's own tuning of it; but for an
    extra channel to another process of this host.

    Args:
        connection: The socket.
        keep_alive: Whether the kernel looks after a silent peer.
        open_channel: How the source opens another channel to the same place.
        is_extra: Whether it is one of several, opened by the source.
        host: The other host as the operator named it.

    Raises:
        OSError: The connection is lost already; the socket is still the caller's.
    """
    # A batch ends with a short header as often as not; it must not wait for an acknowledgement.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    if is_extra and _is_within_host(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LOCAL_BUFFER_BYTES)
    if keep_alive:
        toolkit.keep_alive(
            connection,
            idle_s=_KEEP_ALIVE_IDLE_S,
            interval_s=_KEEP_ALIVE_INTERVAL_S,
            probes=_KEEP_ALIVE_PROBES,
        )
    peer = toolkit.uri_of("tcp", connection.getpeername())
    return toolkit.SocketChannel(connection, peer, open_channel, host=host)


def _is_within_host(connection: socket.socket) -> bool:
    """Whether both ends have the same address: loopback, or this machine's own."""
    return bool(connection.getsockname()[0] == connection.getpeername()[0])
