"""The checks of what is left bite: on memory, descriptors, tasks, processes, and on wrong bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship.testing import (
    ChannelWrapper,
    check_leaves_nothing_behind,
    check_medium_leaves_nothing_behind,
    check_remote_memory_leaves_nothing_behind,
    memory_channel_pair,
)
from transship.toolkit import FileChannel, SingleListener, stored_or_not

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from transship.abc import Channel, Listener
    from transship.buffers import Buffer
    from transship.testing import MakePair

MIB = 1 << 20


class Leaks:
    """What was left behind; a test clears it away."""

    def __init__(self) -> None:
        self.memory: list[bytes] = []
        self.descriptors: list[int] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.may_end = trio.Event()

    def leave_descriptor(self) -> None:
        self.descriptors.append(os.dup(2))

    def leave_process(self) -> None:
        sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
        self.processes.append(subprocess.Popen(sleeping))

    def leave_task(self) -> None:
        trio.lowlevel.spawn_system_task(self.may_end.wait)


@pytest.fixture
def leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leaks]:
    monkeypatch.setattr("transship.testing.belongings.LEAVING_S", 0.1)
    with cleared(Leaks()) as leaks:
        yield leaks


@contextmanager
def cleared(leaks: Leaks) -> Iterator[Leaks]:
    try:
        yield leaks
    finally:
        for descriptor in leaks.descriptors:
            os.close(descriptor)
        for process in leaks.processes:
            process.kill()
            process.wait()


def pairs(
    leave: Callable[[], object] = lambda: None,
    wrap: Callable[[Channel], Channel] = lambda channel: channel,
    *,
    remote_memory: bool = False,
) -> MakePair:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Channel, Channel]]:
        source, destination = memory_channel_pair(remote_memory=remote_memory)
        try:
            yield wrap(source), destination
        finally:
            leave()
            await source.aclose()
            await destination.aclose()

    return make


@pytest.mark.parametrize("remote_memory", [False, True])
async def test_pair_that_leaves_nothing_passes_and_its_figures_are_told(
    remote_memory: bool,
) -> None:
    endured = await check_leaves_nothing_behind(pairs(), 20 * MIB)
    assert (endured.total_bytes, endured.before.descriptors) == (
        20 * MIB,
        endured.after.descriptors,
    )
    assert "0.02 GiB in" in str(endured)
    written = await check_remote_memory_leaves_nothing_behind(
        pairs(remote_memory=remote_memory), 20 * MIB
    )
    assert (written is not None) is remote_memory


@pytest.mark.parametrize("what", ["descriptor", "process", "task"])
async def test_what_is_left_by_each_pair_is_seen(what: str, leaks: Leaks) -> None:
    leave = getattr(leaks, f"leave_{what}")
    with pytest.raises(AssertionError, match=r"there were \d+ \w+, and are \d+") as caught:
        await check_leaves_nothing_behind(pairs(leave), 2 * MIB)
    assert what[:7] in str(caught.value)
    leaks.may_end.set()


async def test_memory_that_is_kept_of_what_was_sent_is_seen(leaks: Leaks) -> None:
    class Keeps(ChannelWrapper):
        async def send_segments(self, segments: Sequence[Buffer]) -> None:
            leaks.memory += [bytes(memoryview(segment)[:]) + b"!" for segment in segments]
            await super().send_segments(segments)

    with pytest.raises(AssertionError, match="bytes more of memory"):
        await check_leaves_nothing_behind(pairs(wrap=Keeps))


async def test_bytes_that_arrive_wrong_are_seen() -> None:
    class Damages(ChannelWrapper):
        async def send_segments(self, segments: Sequence[Buffer]) -> None:
            await super().send_segments([*segments[:-1], bytes(len(segments[-1]))])

    with pytest.raises(AssertionError, match="piece 0 arrived wrong"):
        await check_leaves_nothing_behind(pairs(wrap=Damages), 2 * MIB)


class Medium:
    """A file; each reader leaves something."""

    def __init__(self, path: Path, leave: Callable[[], object] = lambda: None) -> None:
        self._path = path
        self._leave = leave

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Channel]:
        number = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        async with stored_or_not(FileChannel("medium", number)) as channel:
            yield channel

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Listener]:
        channel = FileChannel("medium", os.open(self._path, os.O_RDONLY))
        listener = SingleListener(channel, "medium", trio.lowlevel.checkpoint)
        yield listener
        await listener.aclose()
        self._leave()


async def test_medium_that_leaves_nothing_passes(tmp_path: Path) -> None:
    medium = Medium(tmp_path / "medium")
    await check_medium_leaves_nothing_behind(medium.write, medium.read, 20 * MIB)


async def test_medium_that_leaves_a_descriptor_is_seen(tmp_path: Path, leaks: Leaks) -> None:
    medium = Medium(tmp_path / "medium", leaks.leave_descriptor)
    with pytest.raises(AssertionError, match="descriptors"):
        await check_medium_leaves_nothing_behind(medium.write, medium.read, 2 * MIB)
