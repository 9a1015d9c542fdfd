"""JSON messages out of bytes: objects back to back, however the bytes are cut. Sans-IO.

The rules are QMP's, not those of JSON files (``docs/interop/qmp-spec`` of QEMU, and what a QEMU
10.0 was seen to do):

* a message ends when its outermost bracket closes, and needs no newline;
* strings may stand in single quotes, and may contain an escaped single quote;
* a control byte other than tab, carriage return and newline, a byte 0xFF, or any control byte
  inside a string ends whatever message there was: so a client gets back in step with the server.

Two passes keep this linear whatever comes. The first goes once over the bytes, in jumps from
bracket to bracket and over strings, to find where a message ends; it enforces the limits, so that
nothing is built of what is too large. The second gives a whole message to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeVar

from transship.control.server import limits
from transship.control.server.jsontext import parse

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """A well-formed JSON value; an object, if the client is not mistaken."""

    value: object


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something that is no message.

    Args:
        reason: What is wrong with it.
        is_fatal: Whether a limit was exceeded. Nothing is read any more then, and the connection is
            to be closed: whoever sends that much will hardly find back into step.
    """

    reason: str
    is_fatal: bool = False


Found = Message | Malformed
_Scanning = Generator[Found | None, None, T]
"""Yields what was found; None when it needs more bytes."""


class JsonReader:
    """Finds the messages in what one client sends.

    Feed it bytes, then take what is in them until there is None. It keeps at most the piece it was
    fed last and :data:`limits.MESSAGE_BYTES`.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        """Where the unfinished message begins; the position, if there is none."""
        self._position = 0
        """Up to where all is scanned."""
        self._scanning = self._scan()
        self._is_over = False

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self._is_over:
            return
        del self._data[: self._start]
        self._position -= self._start
        self._start = 0
        self._data += data

    def next(self) -> Found | None:
        """Take the next message; None when there is none before more is fed.

        Nothing comes after a fatal :class:`Malformed`.
        """
        return next(self._scanning, None)

    @property
    def has_partial(self) -> bool:
        """Whether a message has begun and has not ended."""
        return self._start < self._position

    def _scan(self) -> _Scanning[None]:
        try:
            while True:
                byte = yield from self._skip(_BLANKS)
                if byte in _OPENING:
                    try:
                        yield from self._scan_message()
                    except _OutOfStepError as error:
                        yield Malformed(str(error))
                elif byte in _CONTROL:
                    yield Malformed(f"byte {byte:#04x} is no part of a message")
                    yield from self._skip(_CONTROLS)
                else:
                    yield Malformed("a message must be a JSON object")
                    yield from self._skip(_RUN)
        except _LimitError as error:
            self._is_over = True
            self._data.clear()
            self._start = self._position = 0
            yield Malformed(str(error), is_fatal=True)

    def _scan_message(self) -> _Scanning[None]:
        """From the first byte of a message, which opens it, to what closes it."""
        depth = tokens = 0
        while True:
            scanned = self._position - self._start
            byte = yield from self._jump(_UNSTRUCTURED)
            tokens += 1 + self._data.count(_COMMA, self._start + scanned, self._position)
            if tokens > limits.MESSAGE_TOKENS:
                raise _LimitError(f"{limits.MESSAGE_TOKENS} brackets, commas and strings")
            if byte not in _STRUCTURE:
                raise self._out_of_step(byte)
            self._position += 1
            depth += _STRUCTURE[byte]
            if depth > limits.MESSAGE_DEPTH:
                raise _LimitError(f"{limits.MESSAGE_DEPTH} levels")
            if byte in _INSIDE:
                yield from self._scan_string(byte)
            if not depth:
                break
        text = bytes(memoryview(self._data)[self._start : self._position])
        self._start = self._position
        yield _parsed(text)

    def _scan_string(self, quote: int) -> _Scanning[None]:
        """From behind the opening quote to behind the closing one."""
        byte = yield from self._jump(_INSIDE[quote])
        if byte == _BACKSLASH:  # what it escapes is no part of a string
            self._position += 1
            byte = self._data[self._position]
        if byte != quote:
            raise self._out_of_step(byte)
        self._position += 1

    def _skip(self, pattern: re.Pattern[bytes]) -> _Scanning[int]:
        """Drop all that matches. Returns the byte behind it."""
        while True:
            end = _end(pattern, self._data, self._position, len(self._data))
            self._start = self._position = end
            if self._position < len(self._data):
                return self._data[self._position]
            yield None

    def _jump(self, pattern: re.Pattern[bytes]) -> _Scanning[int]:
        """Go past all that matches, as part of a message. Returns the byte behind it."""
        while True:
            # Feeding moves the message to the front, so this changes.
            limit = self._start + limits.MESSAGE_BYTES
            self._position = _end(pattern, self._data, self._position, limit)
            rest = min(limit, len(self._data)) - self._position
            if rest > 1 or (rest == 1 and self._data[self._position] != _BACKSLASH):
                return self._data[self._position]
            if len(self._data) >= limit:
                raise _LimitError(f"{limits.MESSAGE_BYTES} bytes")
            yield None

    def _out_of_step(self, byte: int) -> _OutOfStepError:
        """Drop the message; its last byte as well, unless it is a blank between messages."""
        if byte not in _BLANK:
            self._position += 1
        self._start = self._position
        return _OutOfStepError(f"byte {byte:#04x} breaks off a message")


class _OutOfStepError(Exception):
    """A message is broken off by a byte that no message has."""


class _LimitError(Exception):
    """A message is too large."""

    def __str__(self) -> str:
        return f"a message has more than {self.args[0]}"


def _parsed(text: bytes) -> Found:
    try:
        return Message(parse(text))
    except ValueError as error:
        return Malformed(f"a message is no JSON: {error}")


def _end(pattern: re.Pattern[bytes], data: bytearray, position: int, limit: int) -> int:
    match = pattern.match(data, position, limit)
    assert match is not None  # every pattern here matches nothing at all, too
    return match.end()


_BACKSLASH: Final = ord("\\")
_COMMA: Final = b","
_BLANK: Final = b"\t\r\n "
_CONTROL: Final = bytes(byte for byte in range(0x20) if byte not in _BLANK) + b"\xff"

_STRUCTURE: Final = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1, ord('"'): 0, ord("'"): 0}
"""How much deeper it is behind a byte."""

_OPENING: Final = b"{[\"'"

# Possessive repetition: no pattern goes back over what it has matched.
_BLANKS: Final = re.compile(rb"[\t\r\n ]*+")
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\xff]*+")
_RUN: Final = re.compile(rb"[^{\[\"'\x00-\x20\xff]*+")
"""What begins no message, up to where one may begin."""

_UNSTRUCTURED: Final = re.compile(rb"[^{}\[\]\"'\x00-\x08\x0b\x0c\x0e-\x1f\xff]*+")
"""What stands between brackets and strings."""

_INSIDE: Final = {
    quote: re.compile(
        rb"[^\\%(quote)c\x00-\x1f\xff]*+(?:\\[^\x00-\x1f\xff][^\\%(quote)c\x00-\x1f\xff]*+)*+"
        % {b"quote": quote}
    )
    for quote in b"\"'"
}
"""What stands inside a string, by its quote."""
