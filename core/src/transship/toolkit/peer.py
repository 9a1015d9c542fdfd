"""Who is at the other end of a Unix socket, as the kernel knows it."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import trio

_CREDENTIALS: Final = struct.Struct("iII")
"""``struct ucred`` of unix(7): process, user, group."""


class PeerProcess(NamedTuple):
    """Who connected, or who listened when we connected, as the kernel recorded it."""

    process: int
    user: int

    def __str__(self) -> str:
        return f"process {self.process}, user {self.user}"

    @property
    def is_ours(self) -> bool:
        """Whether it is of the user that this process is of, and so could help itself anyway."""
        return self.user == os.geteuid()


def peer_process(connection: socket.socket | trio.socket.SocketType) -> PeerProcess | None:
    """Ask the kernel who is at the other end of a Unix socket; None where it cannot tell.

    Raises:
        OSError: The socket is none that is connected.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    option = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(option)
    return PeerProcess(process, user)
