"""What one client sends: messages, and file descriptors beside them, out of a socket."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Final

from transship.control.descriptors import UNCLAIMED_DESCRIPTORS
from transship.control.server.jsonstream import JsonReader
from transship.control.server.limits import READ_BYTES
from transship.toolkit import descriptors_in, room_for_descriptors

if TYPE_CHECKING:
    import trio

    from transship.control.server.jsonstream import Found
    from transship.control.session import Session

_LOG: Final = logging.getLogger(__name__)

_ANCILLARY_BYTES: Final = room_for_descriptors(UNCLAIMED_DESCRIPTORS)
"""Room for the file descriptors that may come at once; the kernel closes those beyond."""


class Inbox:
    """Reads what a client sends.

    Args:
        connection: Its socket; borrowed.
        session: What gets its file descriptors.
    """

    def __init__(self, connection: trio.socket.SocketType, session: Session) -> None:
        self._socket = connection
        self._session = session
        self._reader = JsonReader()
        self._is_local = connection.family == socket.AF_UNIX
        self._count = 0
        self._count_before = 0
        self._last = b""
        """What was received last, and the count before it."""

    async def next(self) -> tuple[int, Found] | None:
        """The next message and its number, counted from 1; None when the client says no more.

        Raises:
            OSError: The connection broke.

        Cancellation: nothing is lost.
        """
        while (found := self._reader.next()) is None:
            self._session.descriptors.settle(self._belongs_to())
            self._last = await self._receive()
            if not self._last:
                return None
            self._count_before = self._count
            self._reader.feed(self._last)
        self._count += 1
        return self._count, found

    def _belongs_to(self) -> int:
        """The last message that a descriptor can be meant for that came with the last bytes.

        The kernel ends a read behind the bytes that a descriptor came with. It is meant for a
        message that ends there; or else for the next, as when it comes with a blank of its own.
        """
        ends_there = self._last.endswith((b"}", b"\n")) and not self._reader.has_partial
        return self._count if ends_there and self._count > self._count_before else self._count + 1

    async def ignore(self) -> None:
        """Read on, and forget it, until the client says no more.

        Raises:
            OSError: The connection broke.

        Cancellation: no matter.
        """
        while await self._receive():
            pass

    async def _receive(self) -> bytes:
        if not self._is_local:
            return await self._socket.recv(READ_BYTES)
        data, ancillary, flags, _ = await self._socket.recvmsg(
            READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
        )
        descriptors = descriptors_in(ancillary)
        if flags & socket.MSG_CTRUNC:
            # Which of them are missing cannot be known, so none of them can be trusted.
            _LOG.warning("closed file descriptors of %s: too many at once", self._session.peer)
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            self._session.descriptors.arrived(descriptors)
        return data
