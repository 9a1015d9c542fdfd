"""Multifd: what goes over the extra channels, as bytes. Big-endian, as everything on the wire.

A channel begins with an initial packet, and goes on with packets that each have a header of one
size, and then the data of the pages that the header lists.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from transship.errors import StreamError
from transship.wire.constants import MULTIFD_MAGIC

PACKET_DATA_BYTES: Final = 512 * 1024
"""Guest memory that one packet stands for at most."""

INITIAL_BYTES: Final = 64
SYNC: Final = 0x01
"""Flag of a packet after which the channel waits for the main stream."""

METHOD_BITS: Final = 0x3E
"""Flags that say how the data are compressed; all 0 if they are not."""

QEMU_METHODS: Final = {"zlib": 0x02, "zstd": 0x04, "qpl": 0x08, "uadk": 0x10, "qatzip": 0x20}
"""The flags that have one bit alone, and whose they are: QEMU's."""

HEADER_BYTES: Final = 320
"""Of a packet, up to its offsets."""

CHANNELS: Final = 255
"""Most channels of one migration: their number is one byte, and QEMU's parameter ends here."""

_VERSION: Final = 1
_NO_UUID: Final = bytes(16)
_INITIAL: Final = struct.Struct(">4sI16sB39x")
_HEADER: Final = struct.Struct(">4sIIIIIQI28x256s")


def packet_capacity(page_size: int) -> int:
    """How many pages a packet lists at most."""
    return PACKET_DATA_BYTES // page_size


def packet_bytes(page_size: int) -> int:
    """Bytes of a packet without its data: header and room for all offsets, used or not."""
    return HEADER_BYTES + 8 * packet_capacity(page_size)


def initial_packet(uuid: bytes | None, number: int) -> bytes:
    """How channel ``number`` begins, of a guest with that UUID."""
    return _INITIAL.pack(MULTIFD_MAGIC, _VERSION, uuid or _NO_UUID, number)


class InitialPacket(NamedTuple):
    """How a channel begins.

    Args:
        uuid: Of the guest; None if it has none.
        number: Of the channel, from 0.
    """

    uuid: bytes | None
    number: int


def parse_initial_packet(data: bytes) -> InitialPacket:
    """Read an initial packet.

    Raises:
        StreamError: It is none, or of another version.
    """
    magic, version, uuid, number = _INITIAL.unpack(data)
    if magic != MULTIFD_MAGIC:
        raise StreamError(
            "an extra channel does not begin like one of multifd",
            offset=0,
            expected=MULTIFD_MAGIC.hex(),
            found=magic.hex(),
        )
    if version != _VERSION:
        raise StreamError(
            "unsupported version of multifd", offset=4, expected=str(_VERSION), found=str(version)
        )
    return InitialPacket(None if uuid == _NO_UUID else uuid, number)


class PacketHeader(NamedTuple):
    """A packet's header.

    Args:
        flags: :data:`SYNC`, and the method's.
        capacity: How many offsets the sender has room for.
        normal_pages: How many pages have data.
        data_bytes: How many bytes follow; means nothing without normal pages.
        number: Counts packets; tells nothing.
        zero_pages: How many pages are zero; their offsets come after the others.
        idstr: The block; empty if there are no pages.
    """

    flags: int
    capacity: int
    normal_pages: int
    data_bytes: int
    number: int
    zero_pages: int
    idstr: bytes

    def pack(self) -> bytes:
        """The first :data:`HEADER_BYTES` bytes of the packet."""
        flags, *numbers, idstr = self
        return _HEADER.pack(MULTIFD_MAGIC, _VERSION, flags, *numbers, idstr)


def parse_packet_header(data: bytes | memoryview) -> PacketHeader:
    """Read a packet's header; nothing in it has been compared with anything but the format.

    Raises:
        StreamError: It is no header of a packet.
    """
    magic, version, flags, capacity, normal, data_bytes, number, zero, idstr = _HEADER.unpack(data)
    if (magic, version) != (MULTIFD_MAGIC, _VERSION):
        raise StreamError(
            "a packet of multifd does not begin like one",
            expected=f"{MULTIFD_MAGIC.hex()}, version {_VERSION}",
            found=f"{magic.hex()}, version {version}",
        )
    name = idstr.partition(b"\0")[0]
    return PacketHeader(flags, capacity, normal, data_bytes, number, zero, name)
