"""An NBD server: exports devices, and disks of guests, to any NBD client."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar, final

import trio

from transship.abc import BlockServer
from transship.errors import BlockedError, ConnectError, TlsError
from transship.toolkit import OwnedNursery, SocketFile, refuse_unknown_options
from transship_nbd import _uri
from transship_nbd._exports import Export
from transship_nbd._offer import Agreement, LeftError, NotServedError, Offer
from transship_nbd._protocol import LONGEST_STRING_BYTES
from transship_nbd._session import Session
from transship_nbd._wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from transship.abc import BlockDevice, ConnectionSecurity, Options
    from transship_nbd._uri import NbdAddress

__all__ = ["Export", "NbdServer", "serve"]

LOG: Final = logging.getLogger(__name__)

_T = TypeVar("_T")

_CLIENTS: Final = 16
"""Served at a time; further ones wait to be accepted."""

_THREADS: Final = 4
"""Of one client: as many of its requests are under way. With a machine's page cache behind them
more were measured to carry no more."""

_STALL_S: Final = 30.0
"""How long a client may take over all of its negotiation, and then over one message."""

_CREDENTIALS: Final = struct.Struct("@iII")
"""``struct ucred`` of unix(7): the peer's process, user and group."""

_BACKLOG: Final = 16
_RETRY_S: Final = 0.1
"""When there are no descriptors left, accepting is tried again after this long."""


@asynccontextmanager
async def serve(
    uri: str,
    exports: Mapping[str, Export],
    options: Options | None = None,
    security: ConnectionSecurity | None = None,
) -> AsyncIterator[NbdServer]:
    """Listen, and serve whoever connects, until left.

    When left, clients are disconnected; requests that have begun are done first. No socket file
    stays behind.

    Args:
        uri: Where: ``nbd://HOST:PORT`` or ``nbd+unix:///?socket=PATH``; port 0 is any free one.
            With ``nbds`` in place of ``nbd`` clients must go over to TLS before they ask anything.
        exports: By name. One that is alone is also had by clients that name none.
        options: There are none.
        security: Secures the connection of each client; needed if the address asks for TLS. The
            address itself names no certificates then: to read those of a folder that it names is
            what :func:`transship.assembly.serve_block_devices` is for.

    Raises:
        BlockedError: The address is malformed, or names certificates, or an option is given; or it
            asks for TLS and there is no security, or the other way round.
        ConnectError: Nobody can listen there.
    """
    refuse_unknown_options(uri, options or {})
    address = _uri.parse(uri)
    address.check_secured_by(security)
    if address.tls_hostname:
        raise BlockedError(f"{address} names whom to trust, which is for clients to say")
    await trio.lowlevel.checkpoint()
    listening, file = _listen(address)
    try:
        if not address.path:
            address = replace(address, port=listening.getsockname()[1])
        server = NbdServer(address, exports, security)
        serving = await OwnedNursery.open()
        try:
            accepting = trio.socket.from_stdlib_socket(listening)
            serving.nursery.start_soon(server.accept_from, accepting)
            yield server
        finally:
            await serving.aclose()
        if serving.error is not None:
            raise serving.error
    finally:
        if file is not None:
            file.remove()
        listening.close()


@final
class NbdServer(BlockServer):
    """A server at work; made by :func:`serve`.

    Args:
        address: Where it listens.
        exports: By name.
        security: Secures the connection of each client; None for nothing.
    """

    def __init__(
        self,
        address: NbdAddress,
        exports: Mapping[str, Export],
        security: ConnectionSecurity | None,
    ) -> None:
        self._address = replace(address, export="")
        self._security = security
        self._exports = dict(exports)
        self._leaving: dict[str, Export] = {}
        self._served: dict[trio.CancelScope, Export] = {}
        self._has_left = trio.Condition()
        self._threads = trio.CapacityLimiter(_CLIENTS * _THREADS)
        self._places = trio.CapacityLimiter(_CLIENTS)
        self._clients = 0

    @property
    def clients(self) -> int:
        """How many are connected."""
        return self._clients

    def uri_of(self, export: str) -> str:
        """The address of an export, as a client wants it, but for certificates of its own."""
        return replace(self._address, export=export).uri

    def export(self, name: str, device: BlockDevice, *, is_writable: bool) -> None:
        """Let clients have a device from now on.

        Raises:
            BlockedError: There is an export of that name, or the name is too long for NBD.
        """
        if name in self._exports or name in self._leaving:
            raise BlockedError(f"{self._address} has an export {name!r} already")
        if len(name.encode()) > LONGEST_STRING_BYTES:
            raise BlockedError(f"an export's name has at most {LONGEST_STRING_BYTES} bytes")
        self._exports[name] = Export(device, is_read_only=not is_writable)

    def is_used(self, name: str) -> bool:
        """Whether a client has an export."""
        export = self._exports.get(name)
        return any(served is export for served in self._served.values())

    async def withdraw(self, name: str) -> None:
        """Let no client have an export any more; returns when nobody has it. Idempotent.

        Requests that have begun are done first, the clients' connections are closed.

        Cancellation: no client gets it anew; some may have it for a moment.
        """
        if name in self._exports:
            self._leaving[name] = self._exports.pop(name)
        export = self._leaving.get(name)
        for serving, served in self._served.items():
            if served is export:
                serving.cancel()
        async with self._has_left:
            while export in self._served.values():
                await self._has_left.wait()
        if self._leaving.get(name) is export:
            self._leaving.pop(name, None)

    async def accept_from(self, listening: trio.socket.SocketType) -> None:
        """Serve all who connect."""
        async with trio.open_nursery() as nursery:
            while True:
                client = object()
                await self._places.acquire_on_behalf_of(client)
                try:
                    connection = await _accept(listening)
                except BaseException:
                    self._places.release_on_behalf_of(client)
                    raise
                nursery.start_soon(self._serve, connection, client)

    async def _serve(self, connection: socket.socket, client: object) -> None:
        self._clients += 1
        who = _name_of(connection)
        try:
            wire = Wire(connection, "the client", _STALL_S)
            try:
                async with _interrupted_when_cancelled(wire):
                    await self._attend(wire, who)
            finally:
                wire.close()
        except OSError as error:
            LOG.info("%s has left at once: %s", who, _why(error))
        except Exception:
            LOG.exception("%s could not be served", who)
        finally:
            self._clients -= 1
            self._places.release_on_behalf_of(client)

    async def _attend(self, wire: Wire, who: str) -> None:
        """Negotiate, and do what the client asks, until it leaves; then say farewell."""
        with trio.CancelScope(shield=True):
            try:
                agreement = await self._agree(wire, who)
                if agreement is not None and agreement.export in self._exports.values():
                    await self._serve_export(wire, agreement, who)  # else it was withdrawn since
            finally:
                await self._in_thread(wire.end)

    async def _agree(self, wire: Wire, who: str) -> Agreement | None:
        """Negotiate; None if the client is not to be served, of which the log tells."""
        offer = Offer(wire, dict(self._exports), _STALL_S, self._security)
        try:
            return await self._in_thread(offer.negotiate)
        except LeftError as error:
            LOG.info("%s is not served: %s", who, error)
        except (NotServedError, TlsError, TimeoutError) as error:
            LOG.warning("%s was turned away: %s", who, _why(error))
        except OSError as error:
            LOG.info("%s is not served: %s", who, _why(error))
        return None

    async def _serve_export(self, wire: Wire, agreement: Agreement, who: str) -> None:
        """Do what a client asks of one export, until it leaves or the export is withdrawn."""
        session = Session(wire, agreement)
        with trio.CancelScope() as serving:
            self._served[serving] = agreement.export
            try:
                async with _interrupted_when_cancelled(wire):
                    with trio.CancelScope(shield=True):
                        async with trio.open_nursery() as workers:
                            for _ in range(_THREADS):
                                workers.start_soon(self._work, session, who)
            finally:
                del self._served[serving]
                with trio.CancelScope(shield=True):
                    async with self._has_left:
                        self._has_left.notify_all()

    async def _work(self, session: Session, who: str) -> None:
        try:
            await self._in_thread(session.work)
        except (NotServedError, OSError) as error:
            LOG.info("%s is served no longer: %s", who, _why(error))
        except Exception:
            LOG.exception("%s is served no longer", who)

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(function, limiter=self._threads)


def _why(error: Exception) -> str:
    """What an error says, without the system's number of it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _name_of(connection: socket.socket) -> str:
    """Who has connected, for the log."""
    try:
        if connection.family == socket.AF_UNIX:
            said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            process, user, _ = _CREDENTIALS.unpack(said)
            return f"the NBD client with pid {process} of uid {user}"
        host, port, *_ = connection.getpeername()
    except OSError:  # it has left already
        return "an NBD client"
    return f"the NBD client at {f'[{host}]' if ':' in host else host}:{port}"


@asynccontextmanager
async def _interrupted_when_cancelled(wire: Wire) -> AsyncIterator[None]:
    """Have the calls of a wire end if the body, whose threads make them, is cancelled."""
    is_over = False

    async def watch() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if not is_over:
                wire.interrupt()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield
        is_over = True
        nursery.cancel_scope.cancel()


async def _accept(listening: trio.socket.SocketType) -> socket.socket:
    while True:
        try:
            connection, _ = await listening.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                await trio.sleep(_RETRY_S)
        else:
            return socket.socket(fileno=connection.detach())


def _listen(address: NbdAddress) -> tuple[socket.socket, SocketFile | None]:
    """A listening socket, and its file if it has one.

    Raises:
        ConnectError: Nobody can listen there.
    """
    try:
        if address.path:
            return _listen_on_file(address.path)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        place = (address.host, address.port)
        return socket.create_server(place, family=family, backlog=_BACKLOG), None
    except OSError as error:
        why = error.strerror or str(error)
        raise ConnectError(f"cannot listen on {address}: {why}") from error


def _listen_on_file(path: str) -> tuple[socket.socket, SocketFile | None]:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    file: SocketFile | None = None
    try:
        if path.startswith("\0"):
            listening.bind(os.fsencode(path))
        else:
            file = SocketFile.bind(listening, path)
        listening.listen(_BACKLOG)
    except BaseException:
        if file is not None:
            file.remove()
        listening.close()
        raise
    return listening, file
