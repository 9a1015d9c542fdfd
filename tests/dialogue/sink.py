"""Somebody who takes a whole migration stream, and says what a source may wait for.

It does not read the stream. It looks for the few bytes of the commands that want an answer, and
for the end of the JSON at the end. A guest's memory holds them by chance in one run of thousands.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import trio

OPEN_RETURN_PATH: Final = bytes.fromhex("08 0001 0000")
PING: Final = re.compile(rb"\x08\x00\x02\x00\x04(.{4})", re.DOTALL)
PONG: Final = bytes.fromhex("0002 0004")
SHUT: Final = bytes.fromhex("0001 0004 00000000")
PING_BYTES: Final = 9

DESCRIPTION_ENDS: Final = b"]}"
"""The last bytes of a stream: the description of the devices is an object that holds a list."""

QUIET_S: Final = 0.05
"""So long nothing comes after the end of a stream, before it counts as one."""


async def swallow(stream: trio.SocketStream, *, says_shut: bool = True) -> None:
    """Read to the end. If a return path is opened, answer pings, and say that all has arrived.

    Args:
        stream: From the source.
        says_shut: False leaves out the last word, so a source waits for it.
    """
    has_return_path = has_said = False
    tail = b""
    with suppress(trio.BrokenResourceError):
        while True:
            data: bytes | None = None
            with trio.move_on_after(QUIET_S):
                data = bytes(await stream.receive_some(1 << 16))
            if data is None:
                if (
                    has_return_path
                    and says_shut
                    and not has_said
                    and tail.endswith(DESCRIPTION_ENDS)
                ):
                    await stream.send_all(SHUT)
                    has_said = True
                continue
            if not data:
                return
            tail += data
            has_return_path = has_return_path or OPEN_RETURN_PATH in tail
            answered = 0
            for ping in PING.finditer(tail) if has_return_path else ():
                await stream.send_all(PONG + ping[1])
                answered = ping.end()
            tail = tail[max(answered, len(tail) - PING_BYTES + 1) :]
