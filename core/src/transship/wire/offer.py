"""Which RAM blocks a source offers as memory to be shared, and which of them are wanted.

OFFER_MEMORY: for each block a counted string, its name, and its length in eight bytes. WANTED: one
byte for each of these, 1 or 0. Then come the descriptors of the wanted ones, in that order, beside
a byte of the stream, and ADOPTED says whether they got through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from transship.errors import RemoteError
from transship.wire import encoder
from transship.wire.constants import CommandType, ReturnType
from transship.wire.limits import OFFERED_BLOCKS
from transship.wire.returnpath import ReturnMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transship.wire.events import Command

_LENGTH_BYTES = 8


class OfferedBlock(NamedTuple):
    """A RAM block that can be had.

    Args:
        idstr: Its name.
        used_length: Its bytes in use.
    """

    idstr: str
    used_length: int


def offer(blocks: Iterable[OfferedBlock]) -> bytes:
    """The command; of at most :data:`~transship.wire.limits.OFFERED_BLOCKS` blocks."""
    entries = (
        encoder.counted_string(block.idstr) + block.used_length.to_bytes(_LENGTH_BYTES, "big")
        for block in blocks
    )
    return encoder.command(CommandType.OFFER_MEMORY, b"".join(entries))


def read_offer(command: Command) -> Sequence[OfferedBlock]:
    """What such a command offers.

    Raises:
        RemoteError: It is malformed, or offers a block twice.
    """
    blocks: dict[str, OfferedBlock] = {}
    rest = command.payload
    while rest:
        name, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        length, rest = rest[:_LENGTH_BYTES], rest[_LENGTH_BYTES:]
        idstr = name.decode(errors="backslashreplace")
        if len(length) < _LENGTH_BYTES or idstr in blocks or len(blocks) == OFFERED_BLOCKS:
            raise RemoteError(
                "a malformed offer of memory",
                offset=command.offset,
                expected=f"at most {OFFERED_BLOCKS} RAM blocks, each with a name and a length",
                found=f"{len(command.payload)} bytes, wrong in or after block {idstr!r}",
            )
        blocks[idstr] = OfferedBlock(idstr, int.from_bytes(length, "big"))
    return tuple(blocks.values())


def wanted(marks: Iterable[bool]) -> ReturnMessage:
    """The answer."""
    return ReturnMessage(ReturnType.WANTED, bytes(marks))


def read_wanted(message: ReturnMessage, offered: int) -> Sequence[bool]:
    """Which blocks are wanted, of so many that were offered.

    Raises:
        RemoteError: It answers another offer.
    """
    if len(message.payload) != offered or max(message.payload, default=0) > 1:
        raise RemoteError(
            "an answer to another offer of memory",
            expected=f"0 or 1 for each of {offered} RAM blocks",
            found=message.payload[:16].hex(),
        )
    return tuple(map(bool, message.payload))
