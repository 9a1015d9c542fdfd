"""The server: accepts clients, and tells all of them what happens."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, final

import msgspec
import trio

from transship.control.address import QmpAddress
from transship.control.fdsets import FdSets
from transship.control.registry import CommandTable
from transship.control.server import protocol
from transship.control.server.connection import Connection
from transship.control.server.dispatcher import Dispatcher
from transship.control.server.jsontext import serialise
from transship.control.server.limits import ACCEPT_PAUSE_S, CLIENTS
from transship.control.server.listening import listen
from transship.control.session import QmpCapability, Session
from transship.errors import BlockedError
from transship.toolkit import peer_process

if TYPE_CHECKING:
    from transship.control.registry import D, Event
    from transship.hosting.host import Host

_LOG: Final = logging.getLogger(__name__)


async def serve(
    address: str,
    host: Host,
    table: CommandTable,
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve clients until cancelled; starts with the :class:`Server`.

    Args:
        address: ``unix:PATH`` or ``tcp:HOST:PORT``; port 0 means any that is free.
        host: What the commands work on.
        table: The commands and events, besides those of the protocol itself.

    Raises:
        BlockedError: The address is malformed.
        ConnectError: Nobody can listen there.

    Cancellation: commands that are being carried out are cancelled; replies that are ready are
    still sent, see :meth:`Connection.run`. The socket file is removed.
    """
    try:
        where = QmpAddress.parse(address)
    except ValueError as error:
        raise BlockedError(str(error)) from error
    with closing(FdSets()) as fdsets:
        async with listen(where) as listening, trio.open_nursery() as nursery:
            table = CommandTable.joined(protocol.TABLE, table)
            server = Server(str(listening.address), host, table, fdsets, nursery)
            for one in listening.sockets:
                nursery.start_soon(server._accept, one)
            task_status.started(server)


@final
class Server:
    """A server that runs; made by :func:`serve`.

    Attributes:
        address: Where it listens, as a client would write it.
    """

    def __init__(
        self,
        address: str,
        host: Host,
        table: CommandTable,
        fdsets: FdSets,
        nursery: trio.Nursery,
    ) -> None:
        self.address = address
        self._host = host
        self._table = table
        self._fdsets = fdsets
        self._nursery = nursery
        self._connections: set[Connection] = set()
        self._greeting = serialise({"QMP": _greeting()})

    def broadcast(self, event: Event[D], data: D) -> None:
        """Tell all clients that are through with the negotiation; never waits.

        A client that does not read is cut off in the end; nobody else notices.

        Args:
            event: What happened.
            data: Its data; None for an event that carries nothing.
        """
        message = serialise(event.message(data, time.time()))
        for connection in tuple(self._connections):
            if connection.hears_events:
                connection.send(message)

    async def _accept(self, listening: trio.socket.SocketType) -> None:
        """Accept clients for ever; want of file descriptors, or a lost client, does not end it."""
        while True:
            try:
                connection, _ = await listening.accept()
            except OSError as error:
                _LOG.warning("cannot accept on %s: %s", self.address, error.strerror)
                await trio.sleep(ACCEPT_PAUSE_S)
                continue
            if len(self._connections) >= CLIENTS:
                _LOG.warning("turned a client of %s away: it has %d", self.address, CLIENTS)
                connection.close()
            else:
                self._begin(connection)

    def _begin(self, connection: trio.socket.SocketType) -> None:
        try:
            session = Session(_prepare(connection, self.address), fdsets=self._fdsets)
        except OSError:
            connection.close()  # the client is gone already
            return
        dispatcher = Dispatcher(self._host, session, self._table)
        served = Connection(connection, session, dispatcher)
        self._connections.add(served)
        self._nursery.start_soon(self._serve, served, session)

    async def _serve(self, served: Connection, session: Session) -> None:
        """Serve one client; what goes wrong with it is no matter of others."""
        try:
            await served.run(self._greeting)
        except Exception:
            _LOG.exception("serving %s broke", session.peer)
        finally:
            self._connections.discard(served)


def _greeting() -> dict[str, object]:
    capabilities = [capability.value for capability in QmpCapability]
    return {"version": msgspec.to_builtins(protocol.VERSION), "capabilities": capabilities}


def _prepare(connection: trio.socket.SocketType, address: str) -> str:
    """Set a client's socket up. Returns who it is.

    Raises:
        OSError: The client is gone.
    """
    if connection.family == socket.AF_UNIX:
        return f"{peer_process(connection) or 'a process'} on {address}"
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port, *_ = connection.getpeername()
    return f"{host} port {port} on {address}"
