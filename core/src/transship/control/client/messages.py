"""QMP messages out of what a stream carries: one JSON object each. Knows none of their members."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from transship.control.client.errors import QmpClosedError, QmpProtocolError

if TYPE_CHECKING:
    from transship.control.address import QmpAddress

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
Json: TypeAlias = "dict[str, JsonValue]"

_LONGEST_BYTES: Final = 16 << 20
"""The longest answer of a QEMU 10.0, to query-qmp-schema, has some 300 KiB."""

_READ_BYTES: Final = 1 << 16
_SHOWN_BYTES: Final = 60


class MessageReader:
    """Reads messages.

    Args:
        stream: Where from.
        address: Whom errors name.
    """

    def __init__(self, stream: trio.abc.ReceiveStream, address: QmpAddress) -> None:
        self._stream = stream
        self._address = address
        self._received = bytearray()

    async def next(self) -> Json:
        """Return the next message.

        A message is a line. A monitor with ``pretty=on`` spreads it over several, of which the
        first and the last hold just a brace.

        Raises:
            QmpClosedError: There is none.
            QmpProtocolError: What comes is none.

        Cancellation: nothing is lost, if the message is a line.
        """
        text = bytearray(await self._line())
        if text == b"{":
            while not text.endswith(b"\n}"):
                text += b"\n" + await self._line(before_bytes=len(text))
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            said = text[:_SHOWN_BYTES].decode(errors="replace")
            raise QmpProtocolError(f"{self._address} does not speak QMP; it says {said!r}")
        return message

    async def _line(self, before_bytes: int = 0) -> bytes:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched + before_bytes > _LONGEST_BYTES:
                raise QmpProtocolError(
                    f"{self._address} does not speak QMP; a message has no end after "
                    f"{_LONGEST_BYTES >> 20} MiB"
                )
            try:
                data = await self._stream.receive_some(_READ_BYTES)
            except trio.BrokenResourceError as error:
                raise QmpClosedError(f"{self._address} broke the connection") from error
            if not data:
                raise QmpClosedError(f"{self._address} closed the connection")
            self._received += data
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.rstrip(b"\r")
