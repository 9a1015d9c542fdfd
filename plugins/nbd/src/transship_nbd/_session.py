"""A server's side of the transmission: several threads, each with one request at a time.

A thread receives a request while nobody else receives, does it, and sends the reply while nobody
else sends. So a client may have as many requests under way as there are threads; further ones wait
in the socket.
"""

from __future__ import annotations

import errno
import logging
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, final

from transship.errors import MigrationError
from transship_nbd._offer import NotServedError
from transship_nbd._protocol import (
    CHUNK,
    CHUNK_IS_LAST,
    CHUNK_MAGIC,
    COUNT,
    DESCRIPTOR,
    ERROR,
    LONGEST_PAYLOAD_BYTES,
    LONGEST_STRING_BYTES,
    OFFSET,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE,
    SIMPLE_MAGIC,
    STATE_HOLE,
    STATE_ZERO,
    Chunk,
    Command,
    CommandFlag,
    error_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transship.buffers import Buffer
    from transship_nbd._offer import Agreement
    from transship_nbd._wire import Wire

LOG: Final = logging.getLogger(__name__)

_KEPT_BYTES: Final = 4 * 1024 * 1024
"""A thread's buffer that is longer is given back after its request."""

_ZEROES: Final = bytes(1024 * 1024)
_MOST_DESCRIPTORS: Final = 4096
"""In one answer; a client asks on from where it ends."""

_FLAGS: Final[Mapping[int, CommandFlag]] = {
    Command.READ: CommandFlag.FUA | CommandFlag.DF,
    Command.WRITE: CommandFlag.FUA,
    Command.FLUSH: CommandFlag.FUA,
    Command.TRIM: CommandFlag.FUA,
    Command.WRITE_ZEROES: CommandFlag.FUA | CommandFlag.NO_HOLE,
    Command.BLOCK_STATUS: CommandFlag.FUA | CommandFlag.REQ_ONE,
}
"""What each may have; nobody should say FUA where nothing is written, and some do."""

_WRITES: Final = frozenset({Command.WRITE, Command.TRIM, Command.WRITE_ZEROES})


class _Request(NamedTuple):
    flags: int
    command: int
    cookie: int
    offset: int
    length: int


class _RefusedError(Exception):
    """A request that is not done.

    Args:
        code: The system's number of the error.
        why: For people.
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


@final
class Session:
    """One client with its export.

    Args:
        wire: After the negotiation.
        agreement: What the client was promised.
    """

    def __init__(self, wire: Wire, agreement: Agreement) -> None:
        self._wire = wire
        self._agreement = agreement
        self._export = agreement.export
        self._device = agreement.export.device
        self._receiving = threading.Lock()
        self._sending = threading.Lock()
        self._is_over = False

    def work(self) -> None:
        """Do one request after the other, until the client leaves; for several threads at once.

        Raises:
            NotServedError: The client broke the rules.
            OSError: The client is gone, or too slow.
        """
        room = _Room()
        try:
            while (request := self._receive(room)) is not None:
                self._do(request, room)
                room.shrink()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._is_over = True
        self._wire.interrupt()

    def _receive(self, room: _Room) -> _Request | None:
        """The next request, with its payload in the room; None if there is no more."""
        header = bytearray(REQUEST.size)
        with self._receiving:
            if self._is_over:
                return None
            self._wire.wait_for(memoryview(header))
            magic, *fields = REQUEST.unpack(header)
            request = _Request(*fields)
            if magic != REQUEST_MAGIC:
                raise NotServedError(f"it said {magic:#x}, which begins no request")
            if request.command == Command.DISC:
                self._is_over = True
                return None
            if request.command == Command.WRITE:
                if request.length > LONGEST_PAYLOAD_BYTES:
                    raise NotServedError(f"a write of it has {request.length} bytes")
                self._wire.receive_into(room.of(request.length))
        return request

    def _do(self, request: _Request, room: _Room) -> None:
        try:
            self._check(request)
            answer = self._carry_out(request, room)
        except _RefusedError as error:
            answer = self._refusal(request, error)
        except OSError as error:
            why = error.strerror or str(error)
            answer = self._refusal(request, _RefusedError(error.errno or errno.EIO, why))
        except MigrationError as error:
            answer = self._refusal(request, _RefusedError(errno.EPERM, str(error)))
        except Exception:
            LOG.exception("a request of an NBD client failed")
            answer = self._refusal(request, _RefusedError(errno.EIO, "the device failed"))
        with self._sending:
            self._wire.send(*answer)

    def _check(self, request: _Request) -> None:
        """Refuse what cannot be done, before anything is.

        Raises:
            _RefusedError: There is no such command or flag, its range is not the export's, or it
                writes where nothing may be written.
        """
        _, end = request.offset, request.offset + request.length
        if request.command not in _FLAGS:
            raise _RefusedError(errno.EINVAL, f"command {request.command} is unknown")
        if request.flags & ~int(_FLAGS[request.command]):
            raise _RefusedError(errno.EINVAL, f"flags {request.flags:#x} are unknown")
        if request.command in _WRITES and not self._export.is_writable:
            raise _RefusedError(errno.EPERM, "the export is read-only")
        if request.command != Command.FLUSH and end > self._agreement.size_bytes:
            code = errno.ENOSPC if request.command in _WRITES else errno.EINVAL
            raise _RefusedError(code, "the export ends before that")
        if request.command == Command.READ and request.length > LONGEST_PAYLOAD_BYTES:
            raise _RefusedError(errno.EINVAL, f"at most {LONGEST_PAYLOAD_BYTES} bytes at a time")

    def _carry_out(self, request: _Request, room: _Room) -> list[Buffer]:
        """Do it.

        Returns:
            The reply, in parts.
        """
        match request.command:
            case Command.READ:
                data = room.of(request.length)
                self._device.read_into(request.offset, data)
                return self._data(request, data)
            case Command.BLOCK_STATUS:
                return self._status(request)
            case Command.WRITE:
                self._device.write(request.offset, room.of(request.length))
            case Command.TRIM:
                self._device.discard(request.offset, request.length)
            case Command.WRITE_ZEROES if request.flags & CommandFlag.NO_HOLE:
                for offset, length in _pieces(request.offset, request.length):
                    self._device.write(offset, memoryview(_ZEROES)[:length])
            case Command.WRITE_ZEROES:
                self._device.write_zeroes(request.offset, request.length)
        if request.command == Command.FLUSH or (
            request.flags & CommandFlag.FUA and request.command in _WRITES
        ):
            self._device.flush()
        return [SIMPLE.pack(SIMPLE_MAGIC, 0, request.cookie)]

    def _data(self, request: _Request, data: memoryview) -> list[Buffer]:
        if not self._agreement.is_structured:
            return [SIMPLE.pack(SIMPLE_MAGIC, 0, request.cookie), data]
        if not data:
            return [_chunk(request, Chunk.NONE, 0)]
        header = _chunk(request, Chunk.OFFSET_DATA, OFFSET.size + len(data))
        return [header, OFFSET.pack(request.offset), data]

    def _status(self, request: _Request) -> list[Buffer]:
        if self._agreement.context is None:
            raise _RefusedError(errno.EINVAL, "no context was chosen")
        if not request.length:
            raise _RefusedError(errno.EINVAL, "nothing has no status")
        most = 1 if request.flags & CommandFlag.REQ_ONE else _MOST_DESCRIPTORS
        told = [COUNT.pack(self._agreement.context)]
        for length, state in self._states(request.offset, request.length):
            told.append(DESCRIPTOR.pack(length, state))
            if len(told) > most:
                break
        payload = b"".join(told)
        return [_chunk(request, Chunk.BLOCK_STATUS, len(payload)), payload]

    def _states(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Lengths, and flags that differ from one to the next."""
        stretch, last = 0, 0
        for extent in self._device.extents(offset, length):
            state = STATE_ZERO | STATE_HOLE if extent.reads_as_zero else 0
            if stretch and state != last:
                yield stretch, last
                stretch = 0
            stretch, last = stretch + extent.length, state
        if stretch:
            yield stretch, last

    def _refusal(self, request: _Request, error: _RefusedError) -> list[Buffer]:
        number = error_number(error.code)
        if not self._agreement.is_structured:
            return [SIMPLE.pack(SIMPLE_MAGIC, number, request.cookie)]
        why = error.why.encode()[:LONGEST_STRING_BYTES]
        header = _chunk(request, Chunk.ERROR, ERROR.size + len(why))
        return [header, ERROR.pack(number, len(why)), why]


@final
class _Room:
    """A thread's memory for payloads."""

    def __init__(self) -> None:
        self._memory = bytearray()

    def of(self, length: int) -> memoryview:
        """The first so many bytes of it."""
        if len(self._memory) < length:
            self._memory = bytearray(length)
        return memoryview(self._memory)[:length]

    def shrink(self) -> None:
        """Give back what is more than is usual."""
        if len(self._memory) > _KEPT_BYTES:
            self._memory = bytearray()


def _chunk(request: _Request, kind: Chunk, length: int) -> bytes:
    return CHUNK.pack(CHUNK_MAGIC, CHUNK_IS_LAST, kind, request.cookie, length)


def _pieces(offset: int, length: int) -> Iterator[tuple[int, int]]:
    end = offset + length
    for place in range(offset, end, len(_ZEROES)):
        yield place, min(len(_ZEROES), end - place)
