"""Messages from destination to source: two bytes of type, two of length, the payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.wire.constants import ReturnType
from transship.wire.encoder import be16, be32
from transship.wire.limits import OFFERED_BLOCKS, REASON_BYTES
from transship.wire.strangers import stranger

if TYPE_CHECKING:
    from transship.wire.reader import Parsing, StreamReader

_LENGTHS: Final[dict[ReturnType, tuple[int, int]]] = {
    ReturnType.SHUT: (4, 4),
    ReturnType.PONG: (4, 4),
    ReturnType.REQ_PAGES_ID: (13, 12 + 1 + 255),
    ReturnType.REQ_PAGES: (12, 12),
    ReturnType.RECV_BITMAP: (1, 1 + 255),
    ReturnType.RESUME_ACK: (4, 4),
    ReturnType.SWITCHOVER_ACK: (0, 0),
    ReturnType.REASON: (0, REASON_BYTES),
    ReturnType.GREETING: (4, 4),
    ReturnType.WANTED: (0, OFFERED_BLOCKS),
    ReturnType.ADOPTED: (4, 4),
}


@dataclass(frozen=True, slots=True)
class ReturnMessage:
    """One message; ``value()`` reads those that carry a single number."""

    type: ReturnType
    payload: bytes = b""

    def value(self) -> int:
        """The payload as one big-endian integer."""
        return int.from_bytes(self.payload, "big")

    def encode(self) -> bytes:
        """The message as it goes over the wire."""
        return be16(self.type) + be16(len(self.payload)) + self.payload


def pong(value: int) -> ReturnMessage:
    """The answer to a PING."""
    return ReturnMessage(ReturnType.PONG, be32(value))


def shut(*, failed: bool) -> ReturnMessage:
    """The destination's last word."""
    return ReturnMessage(ReturnType.SHUT, be32(int(failed)))


def greeting(features: int) -> ReturnMessage:
    """What the destination can do, as bits of :class:`~transship.wire.constants.Feature`."""
    return ReturnMessage(ReturnType.GREETING, be32(features))


def adopted(blocks: int) -> ReturnMessage:
    """How many blocks are shared now."""
    return ReturnMessage(ReturnType.ADOPTED, be32(blocks))


def read_message(reader: StreamReader) -> Parsing[ReturnMessage | None]:
    """Read the next message; None when the return path ends between two.

    Raises:
        StreamError: Unknown type, or a length that its type does not have.
    """
    if (yield from reader.at_end()):
        return None
    offset = reader.offset
    number = yield from reader.be16()
    length = yield from reader.be16()
    try:
        kind = ReturnType(number)
    except ValueError:
        other = stranger((number << 16 | length).to_bytes(4, "big"))
        raise reader.error(
            f"the return path carries {other.name}"
            if other
            else "unknown message on the return path",
            offset=offset,
            expected=f"1 to {ReturnType.SWITCHOVER_ACK}",
            found=str(number),
            hint=other.remedy if other else None,
        ) from None
    least, most = _LENGTHS[kind]
    if not least <= length <= most:
        raise reader.error(
            f"wrong length of return message {kind.name}",
            offset=offset + 2,
            expected=str(least) if least == most else f"{least} to {most}",
            found=str(length),
        )
    return ReturnMessage(kind, (yield from reader.take(length)))
