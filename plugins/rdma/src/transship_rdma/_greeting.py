"""What the two sides say over TCP before they have endpoints. Pure; every length is bounded.

::

    source                                destination
    HELLO    identity, providers  ---->
                                  <----   WELCOME  identity, provider, endpoint    or REFUSAL  why
    ENDPOINT endpoint             ---->

An identity is what messages to that side's endpoint will begin with. The connection then stays,
silent: its end tells that the other process is gone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from transship.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 1

FRAME: Final = struct.Struct("!4sHHH")
"""Magic, version, kind, length of what follows. The same in all versions to come."""

LONGEST_BYTES: Final = 1024
_MAGIC: Final = b"TSRD"
_MOST_PROVIDERS: Final = 16


class Greeting(IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    REFUSAL = 3
    ENDPOINT = 4


def pack_frame(kind: Greeting, body: bytes) -> bytes:
    """A frame."""
    return FRAME.pack(_MAGIC, VERSION, kind, len(body)) + body


def unpack_frame_header(header: bytes) -> tuple[int, int]:
    """Read a frame's header.

    Returns:
        Its kind, and the length of its body.

    Raises:
        ConnectError: It is of another protocol, or of another version of ours.
    """
    magic, version, kind, length = FRAME.unpack(header)
    if magic != _MAGIC:
        raise ConnectError(
            "the peer speaks another protocol",
            expected="transship-rdma",
            found=repr(bytes(header)),
            hint="QEMU's rdma: is another protocol, which this one cannot talk to",
        )
    if version != VERSION and kind != Greeting.REFUSAL:
        raise ConnectError(
            "the peer speaks another version of the protocol",
            expected=f"version {VERSION}",
            found=f"version {version}",
        )
    if length > LONGEST_BYTES:
        raise ConnectError(
            "a greeting is too long", expected=f"{LONGEST_BYTES} bytes at most", found=str(length)
        )
    return kind, length


@dataclass(frozen=True, slots=True)
class Hello:
    """The source introduces itself.

    Args:
        identity: What messages to it must begin with.
        providers: Those that it can use, the best first.
    """

    identity: int
    providers: Sequence[str]

    def pack(self) -> bytes:
        return struct.pack("!Q", self.identity) + "\n".join(self.providers).encode()

    @classmethod
    def unpack(cls, body: bytes) -> Hello:
        if len(body) < 8:
            raise ConnectError("a greeting is too short", found=f"{len(body)} bytes")
        names = body[8:].decode("ascii", "replace").split("\n")
        return cls(int.from_bytes(body[:8], "big"), names[:_MOST_PROVIDERS])


@dataclass(frozen=True, slots=True)
class Welcome:
    """The destination introduces itself, and decides.

    Args:
        identity: What messages to it must begin with.
        provider: The provider to use.
        name: Address of its endpoint.
    """

    identity: int
    provider: str
    name: bytes

    def pack(self) -> bytes:
        provider = self.provider.encode()
        return struct.pack("!QB", self.identity, len(provider)) + provider + self.name

    @classmethod
    def unpack(cls, body: bytes) -> Welcome:
        if len(body) < 9 or len(body) < 9 + body[8]:
            raise ConnectError("a greeting is too short", found=f"{len(body)} bytes")
        provider = body[9 : 9 + body[8]].decode("ascii", "replace")
        return cls(int.from_bytes(body[:8], "big"), provider, body[9 + body[8] :])


def text_of(body: bytes) -> str:
    """The reason of a refusal, for people."""
    text = body.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
