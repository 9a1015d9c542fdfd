"""What comes beside the bytes of a Unix socket."""

from __future__ import annotations

import array
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_DESCRIPTOR_BYTES: Final = array.array("i").itemsize


def room_for_descriptors(count: int) -> int:
    """How much room ``recvmsg`` needs beside the bytes for so many open files."""
    return socket.CMSG_SPACE(count * _DESCRIPTOR_BYTES)


def descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The open files in what came beside the bytes; the caller's to close.

    Args:
        ancillary: As ``recvmsg`` returns it.
    """
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % _DESCRIPTOR_BYTES])
    return list(descriptors)
