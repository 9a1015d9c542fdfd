"""A disk that an NBD server holds."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, final

from transship.abc import BlockDevice, Extent
from transship.errors import ConnectError, LocalError, TlsError
from transship.toolkit import RangeLocks
from transship_nbd import _uri
from transship_nbd._connection import Connection
from transship_nbd._deadline import Deadline
from transship_nbd._handshake import negotiate
from transship_nbd._protocol import ITS_OWN, STATE_ZERO, Command, Transmission
from transship_nbd._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.abc import ConnectionSecurity, Options
    from transship.buffers import Buffer
    from transship_nbd._uri import NbdAddress

_SERVER: Final = "the server"
"""Who it is in an error of a connection that is being made, which names the address itself."""

_STATUS_BYTES: Final = 1 << 30
"""About so much one question for holes covers; a length on the wire has 32 bits."""


def connect(
    uri: str, options: Options | None = None, security: ConnectionSecurity | None = None
) -> NbdDevice:
    """Connect to an export; blocks.

    Args:
        uri: ``nbd://HOST[:PORT]/EXPORT`` or ``nbd+unix:///EXPORT?socket=PATH``; with ``nbds`` in
            place of ``nbd`` over TLS.
        options: In seconds, ``timeout``: how long the server may take over one request; and
            ``open-timeout``: over connecting, the handshake of TLS and the negotiation together.
        security: Secures every connection; needed if the address asks for TLS. The address itself
            names no certificates then: to read those of a folder that it names is what
            :func:`transship.assembly.open_block_device` is for.

    Raises:
        BlockedError: The address is malformed, or names certificates, or an option is unknown; or
            it asks for TLS and there is no security, or the other way round.
        ConnectError: There is no server, or it does not have the export; or the two sides do not
            trust each other.
    """
    return NbdDevice(_uri.parse(uri, options), security)


@final
class NbdDevice(BlockDevice):
    """An export of an NBD server.

    Any number of threads may call; their requests are under way together, on one connection. When
    the server is lost every call is told so, and later calls as well, until the device is acquired
    anew: a server that comes back may have lost what was not flushed.

    Args:
        address: Whose export.
        security: Secures every connection to it, if the address asks for TLS.

    Raises:
        BlockedError: The address asks for TLS and there is no security, or the other way round.
        ConnectError: There is no server, it does not have the export, or is not trusted.
    """

    def __init__(self, address: NbdAddress, security: ConnectionSecurity | None = None) -> None:
        address.check_secured_by(security)
        self._address = address
        self._security = security
        self._changing = threading.RLock()
        self._is_acquired = False
        self._is_closed = False
        self._blocks = RangeLocks()
        self._last_interrupt = object()
        self._negotiating: Wire | None = None
        self._connection: Connection | None = None
        self._reconnect()

    kind = "nbd"

    def __repr__(self) -> str:
        return f"<NbdDevice {self._address}>"

    @property
    def address(self) -> str:
        """The export's URI."""
        return self._address.uri

    @property
    def size_bytes(self) -> int:
        """Its size, as the server said when it was last connected to."""
        return self._facts.size_bytes

    @property
    def is_read_only(self) -> bool:  # type: ignore[override]  # not to be set here
        """Whether the server lets nobody write."""
        return bool(self._facts.flags & Transmission.READ_ONLY)

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill the whole of ``target``, in pieces if it is longer than the server takes."""
        with target.cast("B") as view:
            self.check_range(offset, len(view), self.size_bytes)
            start, end = self._around(offset, len(view))
            if (start, end) == (offset, offset + len(view)):
                self._read(offset, view)
                return
            blocks = memoryview(bytearray(end - start))
            self._read(start, blocks)
            view[:] = blocks[offset - start : offset - start + len(view)]

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``, in pieces if it is longer than the server takes."""
        with memoryview(data) as given, given.cast("B") as view:
            self._check_write(offset, len(view))
            self._write_blocks(offset, view)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes; the server may leave holes for them."""
        self._check_write(offset, length)
        start, end = self._within(offset, length)
        if not self._can(Transmission.SEND_WRITE_ZEROES) or start >= end:
            super().write_zeroes(offset, length)
            return
        self._write_blocks(offset, memoryview(bytes(start - offset)))
        self._command(Command.WRITE_ZEROES, start, end)
        self._write_blocks(end, memoryview(bytes(offset + length - end)))

    def discard(self, offset: int, length: int) -> None:
        """Tell the server that nobody needs a range any more, if it wants to know."""
        self._check_write(offset, length)
        if self._can(Transmission.SEND_TRIM):
            self._command(Command.TRIM, *self._within(offset, length))

    def flush(self) -> None:
        """Make sure that what was written survives; a server that knows no flush keeps no cache."""
        if self._can(Transmission.SEND_FLUSH) and not self.is_read_only:
            self._live().call(Command.FLUSH)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What a range consists of, as far as the server tells.

        qemu-nbd says what an image takes from its base if it is started with ``-A``.
        """
        self.check_range(offset, length, self.size_bytes)
        if not self._facts.contexts:
            yield from super().extents(offset, length)
            return
        end = offset + length
        place, last = self._around(offset, length)
        while place < last:
            asked = min(last - place, _STATUS_BYTES)
            answer = self._live().call(Command.BLOCK_STATUS, place, asked)
            for size, zeroes, depth in self._told(answer.descriptors):
                begin, stop = max(place, offset), min(place + size, end)
                if begin < stop:
                    yield Extent(begin, stop - begin, depth == ITS_OWN, bool(zeroes & STATE_ZERO))
                place += size

    def _told(
        self, descriptors: dict[int, list[tuple[int, int]]]
    ) -> Iterator[tuple[int, int, int]]:
        """Lengths, and what both contexts say of them, as far as both go."""
        zeroes, depth = self._facts.zeroes, self._facts.depth
        anything = [(_STATUS_BYTES, 0)] if zeroes is None else descriptors[zeroes]
        its_own = [(_STATUS_BYTES, ITS_OWN)] if depth is None else descriptors[depth]
        return _both(anything, its_own)

    def acquire(self) -> None:
        """Connect anew: the size is learned again, and what the server kept for us is forgotten.

        NBD has no lock: that nobody else writes is up to the server. qemu-nbd locks its image.

        Raises:
            LocalError: The server cannot be connected to.
        """
        with self._changing:
            connection = self._connection
            if self._is_acquired and connection is not None and not connection.is_lost:
                return
            self._disconnect()
            self._is_acquired = False
            try:
                self._reconnect()
            except ConnectError as error:
                raise LocalError(
                    f"{self._address} cannot be had", found=error.cause, hint=error.hint
                ) from error
            self._is_acquired = True

    def release(self) -> None:
        """Flush, and disconnect: a server may serve one client at a time."""
        with self._changing:
            if not self._is_acquired:
                return
            self.flush()
            self._disconnect()
            self._is_acquired = False

    def interrupt(self) -> None:
        """End calls under way, a negotiation included, with an error.

        A connection that is being made is waited for: as long as ``open-timeout``.
        """
        self._last_interrupt = object()  # before the others: see _reconnect
        for one in (self._connection, self._negotiating):
            if one is not None:
                one.interrupt()

    def close(self) -> None:
        """Disconnect for good; calls under way end, with an error. What matters was flushed."""
        with self._changing:
            self._is_closed = True
            self._disconnect()
            self._is_acquired = False

    # Connections

    def _live(self) -> Connection:
        connection = self._connection
        if connection is not None:
            return connection
        with self._changing:
            try:
                return self._connection or self._reconnect()
            except ConnectError as error:
                raise OSError(errno.ENOTCONN, error.cause) from error

    def _reconnect(self) -> Connection:
        if self._is_closed:
            raise OSError(errno.EBADF, f"{self._address} was closed")
        last = self._last_interrupt
        interrupted = ConnectError(f"cannot connect to {self._address}: it was interrupted")
        try:
            connection = self._connect(last)
        except ConnectError as error:
            if self._last_interrupt is last:
                raise
            raise interrupted from error
        self._facts = connection.facts
        self._connection = connection
        if self._last_interrupt is not last:  # who interrupts from now on finds the connection
            self._disconnect()
            raise interrupted
        return connection

    def _connect(self, last_interrupt: object) -> Connection:
        """Connect and negotiate; broken off by an interrupt that is not the last one.

        Raises:
            BlockedError: No name is known that the server's certificate must have.
            ConnectError: There is no server, it does not have the export, or is not trusted.
        """
        address = self._address
        session = None
        if self._security is not None:
            host = address.tls_hostname or address.host or None
            session = self._security.begin_client("the server", host)
        try:
            deadline = Deadline.of_negotiation(address.open_timeout_s)
            wire = Wire(_open_socket(address, deadline), _SERVER, address.open_timeout_s)
            try:
                self._negotiating = wire
                if self._last_interrupt is not last_interrupt:
                    wire.interrupt()
                with wire.within(deadline):
                    facts = negotiate(wire, address, session)
                wire.settle(str(address), address.timeout_s)
                return Connection(wire, facts, address.timeout_s)
            except BaseException:
                wire.close()
                raise
            finally:
                self._negotiating = None
        except TlsError as error:
            why = f"cannot connect to {address}: {error.cause}"
            raise ConnectError(why, hint=error.hint) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise ConnectError(f"cannot connect to {address}: {why}") from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Requests

    def _read(self, offset: int, view: memoryview) -> None:
        for place, end in self._pieces(offset, offset + len(view)):
            with view[place - offset : end - offset] as target:
                self._live().call(Command.READ, place, end - place, target=target)

    def _write_blocks(self, offset: int, view: memoryview) -> None:
        """Write; where a block is not filled by it, with what the block has in its other parts."""
        start, end = self._around(offset, len(view))
        if self._facts.smallest_block == 1:
            self._send(offset, view)
            return
        with self._blocks.held(range(start, end)):
            if (start, end) != (offset, offset + len(view)):
                blocks = bytearray(end - start)
                self._read(start, memoryview(blocks))
                blocks[offset - start : offset - start + len(view)] = view
                view = memoryview(blocks)
            self._send(start, view)

    def _send(self, offset: int, view: memoryview) -> None:
        for place, end in self._pieces(offset, offset + len(view)):
            with view[place - offset : end - offset] as payload:
                self._live().call(Command.WRITE, place, end - place, payload=payload)

    def _command(self, command: Command, start: int, end: int) -> None:
        for place, stop in self._pieces(start, end):
            with self._blocks.held(range(place, stop)):
                self._live().call(command, place, stop - place)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        step = self._facts.longest_payload
        for place in range(start, end, step):
            yield place, min(place + step, end)

    # Ranges

    def _around(self, offset: int, length: int) -> tuple[int, int]:
        """The whole blocks that have a range in them."""
        block = self._facts.smallest_block
        if not length:
            return offset, offset
        return offset - offset % block, -(-(offset + length) // block) * block

    def _within(self, offset: int, length: int) -> tuple[int, int]:
        """The whole blocks that are in a range; the end is before the start if there are none."""
        block = self._facts.smallest_block
        return -(-offset // block) * block, (offset + length) // block * block

    def _can(self, flag: Transmission) -> bool:
        return bool(self._facts.flags & flag)

    def _check_write(self, offset: int, length: int) -> None:
        self.check_range(offset, length, self.size_bytes)
        if self.is_read_only:
            raise OSError(errno.EROFS, f"{self._address} is read-only")
        if not self._is_acquired:
            raise OSError(errno.EPERM, f"{self._address} is not acquired")


def _both(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> Iterator[tuple[int, int, int]]:
    """Two ways to divide one range, as a finer one that fits both; ends where the first ends."""
    ones, others = iter(one), iter(other)
    left, first = next(ones, (0, 0))
    right, second = next(others, (0, 0))
    while left and right:
        size = min(left, right)
        yield size, first, second
        left, right = left - size, right - size
        if not left:
            left, first = next(ones, (0, 0))
        if not right:
            right, second = next(others, (0, 0))


def _open_socket(address: NbdAddress, deadline: Deadline) -> socket.socket:
    """Connect to one of the places that an address stands for, in the order of the system.

    Raises:
        OSError: There is no such place, or nobody there takes the connection in time.
    """
    if address.path:
        return _connected(socket.AF_UNIX, os.fsencode(address.path), deadline)
    failure = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    for family, _, _, _, place in socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    ):
        try:
            return _connected(family, place, deadline)
        except OSError as error:
            failure = error
    raise failure


def _connected(family: int, place: bytes | tuple[Any, ...], deadline: Deadline) -> socket.socket:
    if (left_s := deadline.left_s()) <= 0:
        raise deadline.missed(_SERVER, "does not take the connection")
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(min(left_s, threading.TIMEOUT_MAX))
        connection.connect(place)
    except TimeoutError as error:
        connection.close()
        if error.errno is None:  # ours, and not the system's
            raise deadline.missed(_SERVER, "does not take the connection") from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection
