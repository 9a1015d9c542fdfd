"""Numbers of the migration stream, version 3, as QEMU 7.2 and 10.0 write it."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

MAGIC: Final = 0x5145564D
"""``QEVM``, the first four bytes of every stream."""

VERSION: Final = 3
"""The only stream version in use; 2 is obsolete and refused."""

MULTIFD_MAGIC: Final = bytes.fromhex("11223344")
"""The first four bytes of every channel of multifd but the main one."""

TARGET_PAGE_SIZE: Final = 4096
"""The guest page size of x86; the smallest of every CPU family we carry."""


class RecordType(IntEnum):
    """The byte that opens a record."""

    EOF = 0x00
    SECTION_START = 0x01
    SECTION_PART = 0x02
    SECTION_END = 0x03
    SECTION_FULL = 0x04
    SUBSECTION = 0x05
    VMDESCRIPTION = 0x06
    CONFIGURATION = 0x07
    COMMAND = 0x08
    SECTION_FOOTER = 0x7E


class CommandType(IntEnum):
    """What a COMMAND record asks of the destination."""

    OPEN_RETURN_PATH = 1
    PING = 2
    POSTCOPY_ADVISE = 3
    POSTCOPY_LISTEN = 4
    POSTCOPY_RUN = 5
    POSTCOPY_RAM_DISCARD = 6
    PACKAGED = 7
    ENABLE_COLO = 8
    POSTCOPY_RESUME = 9
    RECV_BITMAP = 10
    SWITCHOVER_START = 11
    OFFER_MEMORY = 0x7474
    """Ours: which RAM blocks can be had as descriptors; only after a GREETING that asks for it."""
    EXPOSE_MEMORY = 0x7475
    """Ours: let the source write to memory; only after a GREETING that offers it, and a table."""


COMMAND_LENGTHS: Final[dict[CommandType, tuple[int, ...]]] = {
    CommandType.OPEN_RETURN_PATH: (0,),
    CommandType.EXPOSE_MEMORY: (0,),
    CommandType.PING: (4,),
    CommandType.POSTCOPY_ADVISE: (16, 0),
    CommandType.POSTCOPY_LISTEN: (0,),
    CommandType.POSTCOPY_RUN: (0,),
    CommandType.PACKAGED: (4,),
    CommandType.ENABLE_COLO: (0,),
    CommandType.POSTCOPY_RESUME: (0,),
    CommandType.SWITCHOVER_START: (0,),
}
"""Payload lengths of the commands that have fixed ones; the others carry names or lists."""


class ReturnType(IntEnum):
    """Type of a message from destination to source."""

    SHUT = 1
    PONG = 2
    REQ_PAGES_ID = 3
    REQ_PAGES = 4
    RECV_BITMAP = 5
    RESUME_ACK = 6
    SWITCHOVER_ACK = 7
    REASON = 0x7473
    """Ours: why the destination failed, after a SHUT that says so, where QEMU reads no more."""
    GREETING = 0x7474
    """Ours: what the destination can do, before the PONG to a PING with :data:`PING_GREETING`."""
    WANTED = 0x7475
    """Ours: which of the blocks in an OFFER_MEMORY the destination takes."""
    ADOPTED = 0x7476
    """Ours: how many of these it has taken; none, where descriptors do not get through."""


PING_GREETING: Final = 0x7473_0001
"""Value of a PING that asks a destination what it can do; any other than ours just answers it."""


class Feature(IntFlag):
    """What a destination can do, in a GREETING."""

    TAKES_MEMORY = 0x1
    """It answers OFFER_MEMORY with WANTED, and then takes descriptors."""
    EXPOSES_MEMORY = 0x2
    """It lets its memory be written to remotely on EXPOSE_MEMORY."""


class PageFlag(IntFlag):
    """Low bits of a word of the RAM section; the rest is the offset of the page in its block."""

    ZERO = 0x002
    MEM_SIZE = 0x004
    PAGE = 0x008
    EOS = 0x010
    CONTINUE = 0x020
    XBZRLE = 0x040
    HOOK = 0x080
    COMPRESS_PAGE = 0x100
    MULTIFD_FLUSH = 0x200


RAM_SECTION_VERSION: Final = 4
XBZRLE_ENCODING: Final = 1
EOS_WORD: Final = int(PageFlag.EOS).to_bytes(8, "big")
