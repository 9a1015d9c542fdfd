"""Receiving: what a parser wants done besides being fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.engine.receiver import StreamReceiver
from transship.testing import memory_channel_pair
from transship.wire.reader import InThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.wire.reader import Parsing


async def test_what_blocks_is_done_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    async def in_thread(do: Callable[[], object]) -> None:
        done.append("in a thread")
        do()

    def parse() -> Parsing[str]:
        yield InThread(lambda: done.append("what blocks"))
        return "went on"

    monkeypatch.setattr(trio.to_thread, "run_sync", in_thread)
    receiver = StreamReceiver.of_stream(memory_channel_pair()[0], 1)
    assert await receiver.run(parse()) == "went on"
    assert done == ["in a thread", "what blocks"]


async def test_failure_of_what_blocks_ends_the_parsing() -> None:
    ended: list[bool] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    def parse() -> Parsing[None]:
        try:
            yield InThread(fail)
        finally:
            ended.append(True)

    receiver = StreamReceiver.of_stream(memory_channel_pair()[0], 1)
    with pytest.raises(OSError, match="No space left"):
        await receiver.run(parse())
    assert ended == [True]
