"""Sending: time-outs are for progress, not for size, and nothing is left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.engine.pacing import Pacer
from transship.engine.sender import StreamSender
from transship.errors import StalledError
from transship.testing import ChannelWrapper, memory_channel_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from transship.abc import Channel, Segments
    from transship.buffers import Buffer

MIB = 1 << 20


class Slow(ChannelWrapper):
    """Carries a mebibyte a second, and keeps what it carried."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.carried = bytearray()

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await trio.sleep(sum(map(len, segments)) / MIB)
        for segment in segments:
            self.carried += segment


def slow_sender(stall_timeout_s: float) -> tuple[Slow, StreamSender]:
    slow = Slow(memory_channel_pair()[0])
    return slow, StreamSender(slow, Pacer(0, trio.current_time()), stall_timeout_s, lambda: 0)


async def test_slow_link_is_not_a_stalled_one(autojump_clock: MockClock) -> None:
    slow, sender = slow_sender(0.1)
    parts = [b"head", bytes(range(256)) * (6 * MIB // 256), b"", b"tail"]
    await sender.send(*parts)
    assert slow.carried == b"".join(parts)


async def test_link_that_takes_too_long_for_a_batch_is_stalled(autojump_clock: MockClock) -> None:
    _, sender = slow_sender(0.05)
    with pytest.raises(StalledError, match=r"did not take 65536 bytes within 0\.05 s"):
        await sender.send(bytes(6 * MIB))


async def test_body_is_closed_when_sending_it_fails(autojump_clock: MockClock) -> None:
    is_closed = False

    def body() -> Segments:
        nonlocal is_closed
        try:
            while True:
                yield bytes(4 * MIB)
        finally:
            is_closed = True

    _, sender = slow_sender(0.05)
    with pytest.raises(ExceptionGroup):
        await sender.send_record(b"", body(), b"", paced=False)
    assert is_closed
