"""One client: its messages in, replies and events out, over a socket.

One task reads and queues commands, one carries them out, one those that overtake, one writes. A
command that has begun is carried out to its end whatever becomes of its client.

The greeting offers ``oob``, so there is a lane for commands that overtake, although none of today
may: migrate-pause, migrate-recover and yank will.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Final, final

import trio

from transship.control.server.inbox import Inbox
from transship.control.server.jsonstream import Malformed
from transship.control.server.limits import (
    COMMANDS_IN_FLIGHT,
    FLUSH_S,
    LINGER_S,
    OUTPUT_BYTES,
    UNREAD_S,
)
from transship.control.server.outbox import Outbox

if TYPE_CHECKING:
    from transship.control.server.dispatcher import Dispatcher
    from transship.control.server.jsonstream import Found
    from transship.control.session import Session

_LOG: Final = logging.getLogger(__name__)

_Numbered = tuple[int, "Found"]
"""A message, and which one of the client's it is."""


@final
class Connection:
    """Serves one client.

    Args:
        connection: The connected socket; owned from now on.
        session: What is remembered of the client.
        dispatcher: Answers its messages.
    """

    def __init__(
        self, connection: trio.socket.SocketType, session: Session, dispatcher: Dispatcher
    ) -> None:
        self._socket = connection
        self._session = session
        self._dispatcher = dispatcher
        self._inbox = Inbox(connection, session)
        self._outbox = Outbox()
        self._slots = trio.Semaphore(COMMANDS_IN_FLIGHT)
        self._queue, self._commands = trio.open_memory_channel[_Numbered](COMMANDS_IN_FLIGHT)
        self._urgent_queue, self._urgent = trio.open_memory_channel[_Numbered](COMMANDS_IN_FLIGHT)
        self._carrying = trio.CancelScope()
        """Around all reading and writing."""
        self._is_broken = False

    @property
    def hears_events(self) -> bool:
        """Whether the client is through with the negotiation."""
        return self._session.is_negotiated and not self._is_broken

    async def run(self, greeting: bytes) -> None:
        """Serve the client to its end, beginning with a greeting.

        Cancellation: a command that is being carried out is cancelled. Replies that are ready are
        sent, if the client takes them within :data:`FLUSH_S`. The socket is closed in any case.
        """
        self._outbox.put(greeting)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work)
                await self._carry()
        finally:
            self._session.descriptors.close()

    def send(self, message: bytes) -> None:
        """Queue a message for the client; never waits. A client that does not read is cut off."""
        if not self._is_broken and not self._outbox.put(message):
            self._break(logging.WARNING, f"it has left {OUTPUT_BYTES} bytes unread")

    def _break(self, level: int, reason: str) -> None:
        """Give the client up: nothing is read, written, or begun any more."""
        if not self._is_broken:
            _LOG.log(level, "closed the connection of %s: %s", self._session.peer, reason)
            self._is_broken = True
            self._outbox.discard()
            self._carrying.cancel()

    async def _carry(self) -> None:
        """Read and write, until both are over or the client is given up."""
        with self._socket, self._queue, self._urgent_queue, self._carrying:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._write)

    # Reading

    async def _read(self) -> None:
        """Queue what the client wants done, until it says no more or too much."""
        try:
            with self._queue, self._urgent_queue:
                reason = await self._read_messages()
            if reason is not None:
                _LOG.warning("closing the connection of %s: %s", self._session.peer, reason)
                with trio.move_on_after(LINGER_S):
                    await self._inbox.ignore()
        except OSError as error:
            self._break(logging.INFO, f"it vanished: {error.strerror}")

    async def _read_messages(self) -> str | None:
        """Returns which limit the client exceeded, if it did."""
        while True:
            await self._slots.acquire()
            numbered = await self._inbox.next()
            if numbered is None:
                return None
            _, found = numbered
            overtakes = self._dispatcher.overtakes(found)
            await (self._urgent_queue if overtakes else self._queue).send(numbered)
            if isinstance(found, Malformed) and found.is_fatal:
                return found.reason

    # Working: not a part of carrying, so that it goes on when that breaks

    async def _work(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_out, self._commands)
            nursery.start_soon(self._carry_out, self._urgent)
        self._outbox.finish()

    async def _carry_out(self, commands: trio.MemoryReceiveChannel[_Numbered]) -> None:
        """Answer commands one after another; those of a client that is gone are not begun."""
        async for number, found in commands:
            if not self._is_broken:
                self.send(await self._dispatcher.answer(found, number))
                await self._outbox.wait_until_low()
            self._slots.release()

    # Writing

    async def _write(self) -> None:
        try:
            await self._write_messages()
        except trio.Cancelled:
            self._outbox.finish()
            with trio.move_on_after(FLUSH_S, shield=True):
                await self._write_messages()
            raise

    async def _write_messages(self) -> None:
        """Send what is queued until there will be no more; then say so to the client."""
        try:
            while (message := await self._outbox.wait()) is not None:
                with trio.move_on_after(UNREAD_S) as scope:
                    self._outbox.sent(await self._socket.send(message))
                if scope.cancelled_caught:
                    self._break(logging.WARNING, f"it has read nothing for {UNREAD_S:.0f} s")
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._break(logging.INFO, f"it vanished: {error.strerror}")
