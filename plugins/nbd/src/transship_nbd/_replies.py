"""Requests under way, and the reader of what a server replies to them.

A payload goes straight into the memory of whoever asked for it. Nothing a server says is believed
before it fits the request that it claims to answer.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Final, NoReturn, final

from transship_nbd._protocol import (
    CHUNK_IS_ERROR,
    CHUNK_IS_LAST,
    CHUNK_MAGIC,
    CHUNK_REST,
    COUNT,
    DESCRIPTOR,
    ERROR,
    HOLE,
    LONGEST_STRING_BYTES,
    MOST_DESCRIPTORS,
    OFFSET,
    SIMPLE,
    SIMPLE_MAGIC,
    Chunk,
    Command,
    errno_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship_nbd._handshake import ExportFacts
    from transship_nbd._wire import Wire

_LONGEST_ERROR_BYTES: Final = ERROR.size + LONGEST_STRING_BYTES + OFFSET.size
_MOST_PIECES: Final = 256
"""Of one read, that have come before what belongs in front of them."""


class ProtocolError(OSError):
    """The server broke a rule of the protocol; nothing more can be read from it."""

    def __init__(self, peer: str, what: str) -> None:
        super().__init__(errno.EPROTO, f"{peer} {what}")


@final
class Request:
    """One question, until it is answered.

    Args:
        command: What is asked.
        offset: Where, in bytes.
        length: How much, in bytes.
        target: What a read fills.

    Attributes:
        error: Why it failed, if it did.
        is_done: Whether the answer is complete; nothing is written to the target any more.
        is_waited_for: Whether its thread waits for ``wake``.
        wake: Set when it is done, or when its thread is to read replies.
        descriptors: The status of blocks, by context: length and flags of each extent.
    """

    __slots__ = (
        "_ahead",
        "_filled",
        "command",
        "descriptors",
        "error",
        "is_done",
        "is_waited_for",
        "length",
        "offset",
        "target",
        "wake",
    )

    def __init__(
        self, command: Command, offset: int, length: int, target: memoryview | None = None
    ) -> None:
        self.command = command
        self.offset = offset
        self.length = length
        self.target = target
        self.error: OSError | None = None
        self.is_done = False
        self.is_waited_for = False
        self.wake = threading.Event()
        self.descriptors: dict[int, list[tuple[int, int]]] = {}
        self._filled = 0
        self._ahead: dict[int, int] = {}

    def finish(self, error: OSError | None = None) -> None:
        """Complete it, and wake who waits."""
        if error is not None:
            self.error = error
        self.target = None
        self.is_done = True
        self.wake.set()

    def piece(self, offset: int, length: int) -> memoryview | None:
        """The memory of a part of what is read, which is taken for filled; None if it is wrong."""
        start = offset - self.offset
        if self.target is None or length <= 0 or start < self._filled:
            return None
        if start + length > self.length:
            return None
        if start == self._filled:
            self._filled += length
            while self._filled in self._ahead:
                self._filled += self._ahead.pop(self._filled)
            if self._ahead and min(self._ahead) < self._filled:
                return None
        elif len(self._ahead) == _MOST_PIECES or start in self._ahead:
            return None
        else:
            self._ahead[start] = length
        return self.target[start : start + length]

    @property
    def is_filled(self) -> bool:
        """Whether all that was to be read has come."""
        return self._filled == self.length


@final
class ReplyReader:
    """Reads one message at a time, and completes requests.

    Args:
        wire: Where from.
        facts: What was negotiated.
        find: Gives the request of a cookie, or None.
        forget: Called with the cookie of a request before it is completed.
    """

    def __init__(
        self,
        wire: Wire,
        facts: ExportFacts,
        find: Callable[[int], Request | None],
        forget: Callable[[int], None],
    ) -> None:
        self._wire = wire
        self._facts = facts
        self._find = find
        self._forget = forget
        self._header = memoryview(bytearray(SIMPLE.size))

    def read(self) -> None:
        """Read a simple reply, or a chunk of a structured one, to its end.

        Raises:
            OSError: The server is gone, too slow, or breaks a rule.
        """
        self._wire.receive_into(self._header)
        magic, error, cookie = SIMPLE.unpack(self._header)
        if magic == SIMPLE_MAGIC:
            self._read_simple(cookie, error)
        elif magic == CHUNK_MAGIC and self._facts.is_structured:
            (length,) = CHUNK_REST.unpack(self._wire.receive(CHUNK_REST.size))
            flags, kind = divmod(error, 1 << 16)
            self._read_chunk(cookie, bool(flags & CHUNK_IS_LAST), kind, length)
        else:
            self._break(f"said {magic:#x}, which begins no reply")

    def _read_simple(self, cookie: int, error: int) -> None:
        request = self._request(cookie)
        if error:
            self._note_error(request, error)
        elif request.command in (Command.READ, Command.BLOCK_STATUS):
            if self._facts.is_structured:
                self._break("replied without chunks to what has a payload")
            self._fill(request, request.offset, request.length)
        self._complete(cookie, request)

    def _read_chunk(self, cookie: int, is_last: bool, kind: int, length: int) -> None:
        request = self._request(cookie)
        if kind & CHUNK_IS_ERROR:
            self._read_error(request, length)
        elif kind == Chunk.NONE and not length and is_last:
            pass
        elif kind == Chunk.OFFSET_DATA and length > OFFSET.size:
            (offset,) = OFFSET.unpack(self._wire.receive(OFFSET.size))
            self._fill(request, offset, length - OFFSET.size)
        elif kind == Chunk.OFFSET_HOLE and length == HOLE.size:
            offset, size = HOLE.unpack(self._wire.receive(HOLE.size))
            self._piece(request, offset, size)[:] = bytes(size)
        elif kind == Chunk.BLOCK_STATUS and request.command == Command.BLOCK_STATUS:
            self._read_status(request, length)
        else:
            self._break(f"sent a chunk of kind {kind} with {length} bytes, which answers nothing")
        if is_last:
            self._complete(cookie, request)

    def _fill(self, request: Request, offset: int, length: int) -> None:
        self._wire.receive_into(self._piece(request, offset, length))

    def _piece(self, request: Request, offset: int, length: int) -> memoryview:
        piece = request.piece(offset, length)
        if piece is None:
            self._break(f"sent {length} bytes for {offset}, which nobody asked for")
        return piece

    def _read_error(self, request: Request, length: int) -> None:
        if not ERROR.size <= length <= _LONGEST_ERROR_BYTES:
            self._break(f"sent an error of {length} bytes")
        payload = self._wire.receive(length)
        number, said = ERROR.unpack_from(payload)
        if said > length - ERROR.size or not number:
            self._break("sent an error that is none")
        self._note_error(request, number, payload[ERROR.size : ERROR.size + said])

    def _read_status(self, request: Request, length: int) -> None:
        count, rest = divmod(length - COUNT.size, DESCRIPTOR.size)
        if rest or not 0 < count <= MOST_DESCRIPTORS:
            self._break(f"sent the status of blocks in {length} bytes")
        payload = self._wire.receive(length)
        (context,) = COUNT.unpack_from(payload)
        if context not in self._facts.contexts or context in request.descriptors:
            self._break("sent a status that nobody asked for")
        found = list(DESCRIPTOR.iter_unpack(memoryview(payload)[COUNT.size :]))
        if not all(size for size, _ in found):
            self._break("sent the status of no blocks")
        request.descriptors[context] = found

    def _note_error(self, request: Request, number: int, message: bytes = b"") -> None:
        if request.error is not None:
            return
        code = errno_of(number)
        said = message.decode(errors="replace")
        why = said if said and said.isprintable() else os.strerror(code)
        where = f"{request.length} bytes at {request.offset}"
        what = f"{request.command.name} of {where}" if request.length else request.command.name
        request.error = OSError(code, f"{self._wire.peer} refuses {what}: {why}")

    def _complete(self, cookie: int, request: Request) -> None:
        if request.error is None and not self._is_answered(request):
            self._break(f"did not answer all of a {request.command.name}")
        self._forget(cookie)
        request.finish()

    def _is_answered(self, request: Request) -> bool:
        if request.command == Command.READ:
            return request.is_filled
        told = len(request.descriptors)
        return request.command != Command.BLOCK_STATUS or told == len(self._facts.contexts)

    def _request(self, cookie: int) -> Request:
        request = self._find(cookie)
        if request is None:
            self._break("answered a request that there is not")
        return request

    def _break(self, what: str) -> NoReturn:
        raise ProtocolError(self._wire.peer, what)
