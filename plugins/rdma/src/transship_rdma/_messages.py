"""What the two sides say to each other once they are connected. Pure; every length is bounded.

Each message begins with a header: the identity that the receiver has given to its end, the number
of the message on this path (from 0, without gaps), its kind, and the length of what follows. All
numbers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from transship.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MESSAGE_BYTES: Final = 16 * 1024
"""Most that a message takes, its header included: what rxm sends at once, by one copy. For more it
would negotiate, and such a message wakes nobody who waits (fi_rxm(7), "Progress limitations")."""

HEADER: Final = struct.Struct("!QQHHI")
BODY_BYTES: Final = MESSAGE_BYTES - HEADER.size

CHUNK_BYTES: Final = 1024 * 1024
"""What is registered at a time; counted from the start of each block."""

CHUNKS_PER_REQUEST: Final = 64
"""So that registering those, which may pin memory, keeps the destination from nothing for long."""

MOST_BLOCKS: Final = 512
LONGEST_IDSTR_BYTES: Final = 255
_LONGEST_REASON_BYTES: Final = 1000
_LONGEST_NAME_BYTES: Final = 255


class Kind(IntEnum):
    """What a message is; the first ten belong to the channel, the others to a memory's own path."""

    OPEN = 1
    OPENED = 2
    DATA = 3
    CREDIT = 4
    END = 5
    CLOSE = 6
    EXPOSED = 7
    MIRROR = 8
    MIRRORED = 9
    REFUSED = 10
    WITHDRAWN = 11
    REGISTER = 20
    REGISTERED = 21
    FLUSH = 22
    FLUSHED = 23


class MalformedError(ChannelError):
    """A message that no peer of ours would send."""


class _Reader:
    """Takes a body apart, from its start."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def numbers(self, layout: str) -> tuple[int, ...]:
        shape = struct.Struct("!" + layout)
        return shape.unpack(self.bytes(shape.size))

    def bytes(self, count: int) -> bytes:
        taken = self._body[self._at : self._at + count]
        if len(taken) != count:
            raise MalformedError("a message is shorter than what it says is in it")
        self._at += count
        return taken

    def end(self) -> None:
        if self._at != len(self._body):
            raise MalformedError("a message is longer than what it says is in it")


@dataclass(frozen=True, slots=True)
class Exposed:
    """The destination has an endpoint for its memory.

    Args:
        session: Number of this exposure, from 1.
        identity: What messages to that endpoint must begin with.
        name: The endpoint's address.
    """

    session: int
    identity: int
    name: bytes

    def pack(self) -> bytes:
        return struct.pack("!IQH", self.session, self.identity, len(self.name)) + self.name

    @classmethod
    def unpack(cls, body: bytes) -> Exposed:
        reader = _Reader(body)
        session, identity, length = reader.numbers("IQH")
        if length > _LONGEST_NAME_BYTES:
            raise MalformedError("an endpoint's address is too long", found=f"{length} bytes")
        name = reader.bytes(length)
        reader.end()
        return cls(session, identity, name)


Table = tuple[tuple[str, int], ...]
"""Names and lengths of blocks, by name."""


def table_of(blocks: Mapping[str, memoryview]) -> Table:
    """The table of blocks, which both sides must agree about.

    Raises:
        ChannelError: There are too many, or a name is too long, for a message.
    """
    table = tuple(sorted((idstr, block.nbytes) for idstr, block in blocks.items()))
    size = sum(9 + len(idstr.encode()) for idstr, _ in table)
    if len(table) > MOST_BLOCKS or size > BODY_BYTES - 300:
        raise ChannelError(
            "the blocks of this guest cannot be written remotely",
            expected=f"at most {MOST_BLOCKS} blocks, with {BODY_BYTES - 300} bytes of names",
            found=f"{len(table)} blocks, {size} bytes",
        )
    if any(len(idstr.encode()) > LONGEST_IDSTR_BYTES for idstr, _ in table):
        raise ChannelError("the name of a block takes more than 255 bytes")
    return table


@dataclass(frozen=True, slots=True)
class Mirror:
    """The source wants to write: its endpoint, and the blocks that it has."""

    endpoint: Exposed
    table: Table

    def pack(self) -> bytes:
        parts = [self.endpoint.pack(), struct.pack("!H", len(self.table))]
        for idstr, length in self.table:
            encoded = idstr.encode()
            parts += [struct.pack("!BQ", len(encoded), length), encoded]
        return b"".join(parts)

    @classmethod
    def unpack(cls, body: bytes) -> Mirror:
        reader = _Reader(body)
        session, identity, name_length = reader.numbers("IQH")
        name = reader.bytes(min(name_length, _LONGEST_NAME_BYTES + 1))
        if len(name) > _LONGEST_NAME_BYTES:
            raise MalformedError("an endpoint's address is too long", found=f"{name_length} bytes")
        (count,) = reader.numbers("H")
        if count > MOST_BLOCKS:
            raise MalformedError(
                "too many blocks", expected=f"{MOST_BLOCKS} at most", found=str(count)
            )
        table = []
        for _ in range(count):
            idstr_length, length = reader.numbers("BQ")
            try:
                table.append((reader.bytes(idstr_length).decode(), length))
            except UnicodeDecodeError as error:
                raise MalformedError("the name of a block is no text") from error
        reader.end()
        return cls(Exposed(session, identity, name), tuple(table))


Place = tuple[int, int]
"""Key and address of the first byte of a block or chunk."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The destination agrees.

    Args:
        identity: Of the source's endpoint that asked.
        places: Where each block is, if all were registered at once; else nothing.
    """

    identity: int
    places: Sequence[Place]

    def pack(self) -> bytes:
        return struct.pack("!Q", self.identity) + pack_places(self.places)

    @classmethod
    def unpack(cls, body: bytes) -> Mirrored:
        (identity,) = _Reader(body[:8]).numbers("Q")
        return cls(identity, unpack_places(body[8:], MOST_BLOCKS))


@dataclass(frozen=True, slots=True)
class Refused:
    """The destination does not agree, or cannot register what the source asks for.

    Args:
        identity: Of the source's endpoint that asked.
        reason: For people.
    """

    identity: int
    reason: str

    def pack(self) -> bytes:
        return struct.pack("!Q", self.identity) + self.reason.encode()[:_LONGEST_REASON_BYTES]

    @classmethod
    def unpack(cls, body: bytes) -> Refused:
        if len(body) > 8 + _LONGEST_REASON_BYTES:
            raise MalformedError("a refusal is too long")
        (identity,) = _Reader(body[:8]).numbers("Q")
        text = body[8:].decode("utf-8", "replace")
        return cls(identity, "".join(c if c.isprintable() else "?" for c in text))


@dataclass(frozen=True, slots=True)
class Chunks:
    """Some consecutive chunks of a block."""

    block: int
    first: int
    count: int


_CHUNKS: Final = struct.Struct("!HHI")


def pack_chunks(wanted: Sequence[Chunks]) -> bytes:
    """The body of REGISTER."""
    return b"".join(_CHUNKS.pack(one.block, one.count, one.first) for one in wanted)


def unpack_chunks(body: bytes) -> list[Chunks]:
    """Read the body of REGISTER.

    Raises:
        MalformedError: It asks for nothing, or for too much.
    """
    if not body or len(body) % _CHUNKS.size:
        raise MalformedError("a request to register has a wrong length", found=f"{len(body)} bytes")
    wanted = [Chunks(block, first, count) for block, count, first in _CHUNKS.iter_unpack(body)]
    total = sum(one.count for one in wanted)
    if not 0 < total <= CHUNKS_PER_REQUEST or len(wanted) > CHUNKS_PER_REQUEST:
        raise MalformedError(
            "a request to register asks for too much or nothing",
            expected=f"1 to {CHUNKS_PER_REQUEST} chunks",
            found=str(total),
        )
    return wanted


_PLACE: Final = struct.Struct("!QQ")


def pack_places(places: Sequence[Place]) -> bytes:
    """The body of REGISTERED."""
    return b"".join(_PLACE.pack(*place) for place in places)


def unpack_places(body: bytes, most: int) -> list[Place]:
    """Read the body of REGISTERED.

    Raises:
        MalformedError: It has another length.
    """
    if len(body) % _PLACE.size or len(body) > most * _PLACE.size:
        raise MalformedError("an answer has a wrong length", found=f"{len(body)} bytes")
    return [(key, address) for key, address in _PLACE.iter_unpack(body)]


_COUNT: Final = struct.Struct("!I")


def pack_count(count: int) -> bytes:
    """The body of CREDIT, FLUSH, FLUSHED, WITHDRAWN."""
    return _COUNT.pack(count)


def unpack_count(body: bytes) -> int:
    """Read a body that is one number.

    Raises:
        MalformedError: It has another length.
    """
    if len(body) != _COUNT.size:
        raise MalformedError("a number has a wrong length", found=f"{len(body)} bytes")
    count: int = _COUNT.unpack(body)[0]
    return count


def unpack_nothing(body: bytes) -> None:
    """Read a body that must be empty.

    Raises:
        MalformedError: It is not.
    """
    if body:
        raise MalformedError("a message has a body and should not", found=f"{len(body)} bytes")
