"""Numbers and layouts of the NBD protocol; knows neither sockets nor devices.

Source: the protocol's public description, ``doc/proto.md`` of NetworkBlockDevice/nbd. All numbers
are big-endian.
"""

from __future__ import annotations

import errno
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

# Handshake

GREETING: Final = Struct(">QQH")
"""What a server says first: two magic numbers and the handshake flags."""

SERVER_MAGIC: Final = 0x4E42444D41474943
"""``NBDMAGIC``"""

OPTION_MAGIC: Final = 0x49484156454F5054
"""``IHAVEOPT``; behind ``NBDMAGIC`` it says that the server negotiates ("newstyle")."""

REPLY_MAGIC: Final = 0x3E889045565A9

CLIENT_FLAGS: Final = Struct(">I")
OPTION: Final = Struct(">QII")
"""Magic, option, length of its data."""

OPTION_REPLY: Final = Struct(">QIII")
"""Magic, option, kind of reply, length of its data."""

EXPORT_ANSWER: Final = Struct(">QH")
"""Size and transmission flags, in answer to ``EXPORT_NAME``."""

ZEROES_BYTES: Final = 124
"""Behind an :data:`EXPORT_ANSWER`, unless both sides do without them."""

LONGEST_STRING_BYTES: Final = 4096
"""Of a name or a message."""


class HandshakeFlag(IntFlag):
    """Of a server, and with the same values of a client."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class Option(IntEnum):
    """What a client may ask before it has an export."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    """How a server answers an option."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_PLATFORM = (1 << 31) + 4
    ERR_TLS_REQD = (1 << 31) + 5
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_SHUTDOWN = (1 << 31) + 7
    ERR_BLOCK_SIZE_REQD = (1 << 31) + 8
    ERR_TOO_BIG = (1 << 31) + 9


REPLY_IS_ERROR: Final = 1 << 31


class Info(IntEnum):
    """What there is to know about an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


INFO_KIND: Final = Struct(">H")
INFO_EXPORT: Final = Struct(">HQH")
"""Kind, size, transmission flags."""

INFO_BLOCK_SIZE: Final = Struct(">HIII")
"""Kind; smallest, preferred block; longest payload."""

COUNT: Final = Struct(">I")
"""A length, a number of queries, or a context's number."""

ALLOCATION: Final = "base:allocation"
"""The metadata context that says what reads as zeroes, and where holes are."""

DEPTH: Final = "qemu:allocation-depth"
"""QEMU's context that says which image of a chain has the bytes. Source: QEMU's documentation,
``docs/interop/nbd``."""

ITS_OWN: Final = 1
"""Of :data:`DEPTH`: the image itself has them. With 0 no image has them, above 1 it is a base."""


class Transmission(IntFlag):
    """What a client may do with an export."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8


# Sizes

SMALLEST_BLOCK: Final = 1
PREFERRED_BLOCK: Final = 4096
LONGEST_PAYLOAD_BYTES: Final = 32 * 1024 * 1024
"""What holds if a server says nothing; nobody may take so much for an attack."""

LARGEST_SMALLEST_BLOCK: Final = 64 * 1024
MOST_DESCRIPTORS: Final = 1 << 20
"""In one answer about the status of blocks."""

# Transmission

REQUEST: Final = Struct(">IHHQQI")
"""Magic, flags, command, cookie, offset, length."""

REQUEST_MAGIC: Final = 0x25609513

SIMPLE: Final = Struct(">IIQ")
"""Magic, error, cookie."""

SIMPLE_MAGIC: Final = 0x67446698

CHUNK: Final = Struct(">IHHQI")
"""Magic, flags, kind, cookie, length of the payload."""

CHUNK_MAGIC: Final = 0x668E33EF
CHUNK_REST: Final = Struct(">I")
"""Of a chunk, what is behind the length of a simple reply."""


class Command(IntEnum):
    """What a client may ask of an export."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """How."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3


CHUNK_IS_LAST: Final = 1 << 0


class Chunk(IntEnum):
    """What a chunk of a structured reply holds."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


CHUNK_IS_ERROR: Final = 1 << 15

OFFSET: Final = Struct(">Q")
HOLE: Final = Struct(">QI")
ERROR: Final = Struct(">IH")
"""Error, length of the message."""

DESCRIPTOR: Final = Struct(">II")
"""Of the status of blocks: length and flags."""

STATE_HOLE: Final = 1 << 0
STATE_ZERO: Final = 1 << 1
"""Of :data:`ALLOCATION`."""

_ERRORS: Final = {
    1: errno.EPERM,
    5: errno.EIO,
    12: errno.ENOMEM,
    22: errno.EINVAL,
    28: errno.ENOSPC,
    75: errno.EOVERFLOW,
    95: errno.ENOTSUP,
    108: errno.ESHUTDOWN,
}
_NUMBERS: Final = {code: number for number, code in _ERRORS.items()} | {
    errno.EACCES: 1,
    errno.EROFS: 1,
    errno.EDQUOT: 28,
    errno.EFBIG: 28,
}
_EIO: Final = 5


def errno_of(number: int) -> int:
    """The system's number of an error on the wire; an unknown one counts as ``EINVAL``."""
    return _ERRORS.get(number, errno.EINVAL)


def error_number(code: int | None) -> int:
    """The number on the wire of the system's; what has none is an ``EIO``."""
    return _NUMBERS.get(code or 0, _EIO)
