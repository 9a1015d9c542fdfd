"""What only files can do wrong: places, disks that are full, calls that cannot be broken."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Blocking, ReturnPath, Seekable
from transship.errors import ChannelError, PeerClosedError
from transship.testing.checking import is_resizable, receive_exactly, receive_to_end
from transship.toolkit import FileChannel, stored_or_not

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stream"


def written(path: Path, *, offset: int = 0) -> FileChannel:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return FileChannel(f"file:{path}", descriptor)


def read(path: Path) -> FileChannel:
    return FileChannel(f"file:{path}", os.open(path, os.O_RDONLY))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_file_has_places_and_threads_and_nobody_who_answers(path: Path) -> None:
    channel = written(path)
    assert channel.capability(Seekable) is channel
    assert channel.capability(Blocking) is channel
    assert channel.capability(ReturnPath) is None
    await channel.aclose()


async def test_stream_begins_where_the_descriptor_stands(path: Path) -> None:
    path.write_bytes(b"head")
    channel = written(path, offset=6)
    assert channel.tell() == 6
    await channel.send_segments([b"stream"])
    await channel.send_eof()
    await channel.aclose()
    assert path.read_bytes() == b"head\0\0stream"


async def test_more_than_a_step_and_more_segments_than_a_call_takes_are_written(path: Path) -> None:
    large = os.urandom(9 << 20)
    segments = [large, *[b"%06d" % turn for turn in range(3_000)], large[:5]]
    channel = written(path)
    await channel.send_segments(segments)
    channel.blocking_sender(1.0).send(segments)
    await channel.aclose()
    assert path.read_bytes() == 2 * b"".join(segments)


async def test_end_of_the_file_is_the_end_of_the_stream(path: Path) -> None:
    path.write_bytes(b"short")
    channel = read(path)
    assert await receive_exactly(channel, 3) == b"sho"
    with pytest.raises(PeerClosedError, match="expected 8 more bytes"):
        await receive_exactly(channel, 10)
    channel.seek(1 << 40)
    assert await receive_to_end(channel) == b""
    receiver = channel.blocking_receiver(1.0)
    with memoryview(bytearray(4)) as target:
        assert receiver.receive([target]) == receiver.receive_some(target) == 0
    await channel.aclose()


@pytest.mark.parametrize("place", [-1, 1 << 70])
async def test_place_that_no_file_has_is_refused(place: int, path: Path) -> None:
    channel = written(path)
    with pytest.raises(ChannelError, match=f"cannot be positioned at {place}"):
        channel.seek(place)
    await channel.aclose()
    for call in (channel.tell, lambda: channel.descriptor, lambda: channel.seek(0)):
        with pytest.raises(ChannelError, match="closed on this side"):
            call()


def on_full_disk() -> FileChannel:
    return FileChannel("file:full", os.open("/dev/full", os.O_WRONLY))


async def test_full_disk_is_told_with_the_name_of_the_file() -> None:
    channel = on_full_disk()
    with pytest.raises(ChannelError, match="file:full: No space left on device"):
        await channel.send_segments([b"x"])
    with pytest.raises(ChannelError, match="cut short"):
        await channel.send_segments([b"x"])
    with pytest.raises(ChannelError, match="cut short"):
        await channel.send_eof()
    await channel.aclose()


async def test_full_disk_is_told_to_a_thread_and_spoils_the_channel() -> None:
    channel = on_full_disk()
    with pytest.raises(ChannelError, match="file:full: No space left on device"):
        channel.blocking_sender(1.0).send([b"x"])
    with pytest.raises(ChannelError, match="cut short"):
        await channel.send_segments([b"x"])
    await channel.aclose()


async def test_file_that_may_not_be_written_says_so(path: Path) -> None:
    path.write_bytes(b"x")
    channel = read(path)
    with pytest.raises(ChannelError, match="Bad file descriptor"):
        await channel.send_segments([b"x"])
    await channel.aclose()


class Slow:
    """Writes to a file when it is let, a step at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self._writev = os.writev
        monkeypatch.setattr(os, "writev", self)

    def __call__(self, descriptor: int, views: list[memoryview]) -> int:
        self.steps += 1
        self.has_begun.set()
        assert self.may_go_on.wait(10)
        return self._writev(descriptor, views)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


async def ends_after_a_step(slow: Slow, path: Path, end: Callable[[], None]) -> None:
    """Let a send of several steps begin, do something, and let it go on."""
    await trio.to_thread.run_sync(slow.has_begun.wait)
    end()
    slow.may_go_on.set()


async def test_cancelled_send_ends_after_the_step_it_is_in(slow: Slow, path: Path) -> None:
    channel, memory = written(path), bytearray(40 << 20)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(ends_after_a_step, slow, path, scope.cancel)
        with scope:
            await channel.send_segments([memory])
    assert scope.cancelled_caught
    assert slow.steps == 1
    assert is_resizable(memory)
    with pytest.raises(ChannelError, match="cut short"):
        await channel.send_segments([b"x"])
    await channel.aclose()


async def test_closing_breaks_a_send_and_closes_the_file_when_it_is_over(
    slow: Slow, path: Path
) -> None:
    before = open_descriptors()
    channel = written(path)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(ChannelError, match="closed on this side"):
                await channel.send_segments([bytes(40 << 20)])

        await trio.to_thread.run_sync(slow.has_begun.wait)
        await channel.aclose()
        assert os.path.samefile(f"/proc/self/fd/{channel._file.number}", path)
        slow.may_go_on.set()
    assert slow.steps == 1
    assert open_descriptors() == before


@pytest.mark.parametrize("way", ["interrupt", "close"])
async def test_thread_that_writes_is_told_that_it_is_over(way: str, slow: Slow, path: Path) -> None:
    channel = written(path)
    sender = channel.blocking_sender(1.0)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(ChannelError, match="closed on this side"):
                await trio.to_thread.run_sync(sender.send, [bytes(40 << 20)])

        await trio.to_thread.run_sync(slow.has_begun.wait)
        if way == "interrupt":
            sender.interrupt()
        else:
            await channel.aclose()
        slow.may_go_on.set()
    assert slow.steps == 1
    with pytest.raises(ChannelError):
        sender.send([b"x"])
    with pytest.raises(ChannelError):
        await channel.send_segments([b"x"])
    await channel.aclose()


async def test_interrupted_receiver_receives_no_more(path: Path) -> None:
    path.write_bytes(b"stream")
    channel = read(path)
    receiver = channel.blocking_receiver(1.0)
    receiver.interrupt()
    with memoryview(bytearray(1)) as target:
        with pytest.raises(ChannelError, match="closed on this side"):
            receiver.receive([target])
        with pytest.raises(ChannelError, match="closed on this side"):
            await channel.receive_some_into(target)
    await channel.aclose()


# What failed is taken back.


async def test_what_was_written_stays_if_nothing_fails(path: Path) -> None:
    async with stored_or_not(written(path)) as channel:
        await channel.send_segments([b"stream"])
    assert path.read_bytes() == b"stream"


async def fail_after_writing(channel: FileChannel, data: bytes, *, is_closed: bool = False) -> None:
    async with stored_or_not(channel):
        await channel.send_segments([data])
        await channel.send_eof()
        if is_closed:
            await channel.aclose()
        raise ZeroDivisionError


async def test_what_was_written_is_taken_back_on_failure_and_no_more_than_that(path: Path) -> None:
    path.write_bytes(b"head and an old stream")
    before = open_descriptors()
    with pytest.raises(ZeroDivisionError):
        await fail_after_writing(
            written(path, offset=4), b"a whole stream, longer than the old one"
        )
    assert path.read_bytes() == b"head"
    assert open_descriptors() == before


async def test_what_was_written_is_taken_back_when_cancelled(path: Path) -> None:
    with trio.CancelScope() as scope:
        async with stored_or_not(written(path)) as channel:
            await channel.send_segments([b"stream"])
            scope.cancel()
            await channel.send_eof()
    assert scope.cancelled_caught
    assert path.read_bytes() == b""


async def test_beginning_that_cannot_be_cut_off_is_blanked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: False)
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(ZeroDivisionError):
        await fail_after_writing(written(path, offset=10), b"QEVM and more")
    assert path.read_bytes() == b"x" * 10 + bytes(4096) + b"x" * (10_000 - 4106)


async def test_closed_channel_cannot_be_taken_back_and_hides_no_failure(path: Path) -> None:
    channel = written(path)
    with pytest.raises(ZeroDivisionError):
        await fail_after_writing(channel, b"stream", is_closed=True)
    with pytest.raises(ChannelError, match="closed on this side"):
        await channel.take_back()
