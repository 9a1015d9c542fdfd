"""What a transport into a medium must do, one function a rule; :func:`check_stored_transport`.

For media such as files: a stream is written whole, then read, and nobody answers. Each check takes
``write``, which makes an ``Outgoing`` to one place, and ``read``, which makes an ``Incoming`` from
it. What channels promise that wait for a peer has no meaning here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import Blocking, ReturnPath, Seekable
from transship.abc.transport import Incoming, Outgoing
from transship.errors import ChannelError, PeerClosedError
from transship.testing.checking import (
    PATIENCE_S,
    PROMPTLY_S,
    blocked,
    buffers_of_every_kind,
    close_while_cancelled,
    is_resizable,
    naming,
    open_nursery,
    raises,
    receive_exactly,
    receive_to_end,
    require,
    require_cancellable,
    require_closed,
    settle,
    within,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from transship.abc.channel import Channel
    from transship.buffers import Buffer

Write = Callable[[], Outgoing]
Read = Callable[[], Incoming]

_SEED: Final = 20_261_126
"""Makes the payloads the same in every run."""

_TIMEOUT_S: Final = 10.0


async def check_stored_transport(write: Write, read: Read) -> None:
    """Run every check.

    Args:
        write: Makes an ``Outgoing``; what was there before is replaced.
        read: Makes an ``Incoming`` from the same place.

    Raises:
        AssertionError: A rule is broken; a note names the check.
    """
    for check in STORED_CHECKS:
        with naming(check):
            await check(write, read)


async def _store(write: Write, *batches: Sequence[Buffer]) -> None:
    with within(PATIENCE_S, "writing"):
        async with write() as channel:
            for batch in batches:
                await channel.send_segments(batch)
            await channel.send_eof()


@asynccontextmanager
async def _reading(read: Read) -> AsyncIterator[Channel]:
    async with read() as listener:
        with within(PATIENCE_S, "accepting what is there"):
            channel = await listener.accept()
        try:
            yield channel
        finally:
            await channel.aclose()


async def check_keeps_segments_in_order(write: Write, read: Read) -> None:
    """Any number of segments of any size comes back as one run of bytes, however it is read."""
    chance = random.Random(_SEED)
    sizes = [0, 1, 7, 4096, 65_537, 300_000]
    batches = [[chance.randbytes(chance.choice(sizes)) for _ in range(20)] for _ in range(3)]
    batches.append([chance.randbytes(8) for _ in range(3_000)])
    await _store(write, *batches)
    arrived = bytearray()
    async with _reading(read) as channel:
        require(channel.peer.isprintable() and bool(channel.peer), "the medium has no name")
        with within(PATIENCE_S, "reading some megabytes"):
            while True:
                target = memoryview(bytearray(chance.choice([1_000, 8192, 1 << 20])))
                count = await channel.receive_some_into(target)
                if not count:
                    break
                arrived += target[:count]
    require(arrived == b"".join(b"".join(batch) for batch in batches), "other bytes came back")


async def check_keeps_every_buffer(write: Write, read: Read) -> None:
    """Whatever :data:`transship.buffers.Buffer` names can be sent, whatever its items are."""
    segments = buffers_of_every_kind()
    await _store(write, segments)
    expected = b"".join(bytes(segment) for segment in segments)
    async with _reading(read) as channel:
        require(await receive_to_end(channel) == expected, "a kind of buffer comes back wrong")


async def check_keeps_nothing_of_empty_sends(write: Write, read: Read) -> None:
    """Nothing to send is not an end, and takes no bytes."""
    await _store(write, [], [b""], [b"", bytearray(), b"a", b"", memoryview(b"")], [b"b"])
    async with _reading(read) as channel:
        require(await receive_to_end(channel) == b"ab", "an empty segment ended it, or took bytes")


async def check_ends_where_writing_ended(write: Write, read: Read) -> None:
    """After the last byte comes the end, again and again, whatever was there before."""
    await _store(write, [b"an older and longer stream"])
    await _store(write, [b"stream"])
    async with _reading(read) as channel:
        require(await receive_exactly(channel, 4) == b"stre", "the bytes are wrong")
        with raises(PeerClosedError, "when the stream ends before the target is full"):
            await receive_exactly(channel, 3)
        require(await receive_to_end(channel) == b"", "the end must stay the end")


async def check_refuses_to_write_after_the_end(write: Write, read: Read) -> None:
    """After ``send_eof`` nothing more is written, though it may be said again."""
    async with write() as channel:
        await channel.send_segments((b"all",))
        await channel.send_eof()
        await channel.send_eof()
        with raises(ChannelError, "when sending after the end"):
            await channel.send_segments((b"more",))
    async with _reading(read) as channel:
        require(await receive_to_end(channel) == b"all", "something was written after the end")


async def check_detects_two_writers(write: Write, read: Read) -> None:
    """Of two tasks that send at once one is refused, and does the other no harm."""
    pages = [bytes([number]) * (16 << 20) for number in range(2)]
    refused: list[int] = []

    async def send(number: int) -> None:
        try:
            await channel.send_segments((pages[number],))
        except trio.BusyResourceError:
            refused.append(number)

    async with write() as channel:
        async with open_nursery() as nursery:
            nursery.start_soon(send, 0)
            nursery.start_soon(send, 1)
        require(len(refused) == 1, "two tasks could send at once")
        await channel.send_segments((b"!",))
        await channel.send_eof()
    async with _reading(read) as channel:
        expected = pages[1 - refused[0]] + b"!"
        require(await receive_to_end(channel, 1 << 20) == expected, "the other was disturbed")


async def check_is_cancellable_before_it_begins(write: Write, read: Read) -> None:
    """A call in a cancelled scope does not go through, and a send is not followed by another."""
    await _store(write, [b"x"])
    async with _reading(read) as channel:
        target = memoryview(bytearray(1))
        await require_cancellable("a receive", lambda: channel.receive_some_into(target))
    async with write() as channel:
        await require_cancellable("a send", lambda: channel.send_segments((b"x",)))
        with raises(ChannelError, "when sending after a cancelled send"):
            await channel.send_segments((b"x",))


async def check_keeps_no_views(write: Write, read: Read) -> None:
    """After return and after cancellation the memory of a segment and a target can be resized."""
    memory, large = bytearray(b"page"), bytearray(64 << 20)
    async with write() as channel:
        await channel.send_segments((memory,))
        require(is_resizable(memory), "a view is held after a send")
        await channel.send_eof()
    async with _reading(read) as channel:
        with memoryview(memory) as view:
            await channel.receive_some_into(view)
        require(is_resizable(memory), "a view is held after a receive")
    async with write() as channel:
        with trio.move_on_after(0.005):
            await channel.send_segments((memory, large, memory))
        require(is_resizable(memory) and is_resizable(large), "a view is held after cancelling")


async def check_writing_closes_for_good(write: Write, read: Read) -> None:
    """Closing twice is fine, closing works while cancelled, and nothing works afterwards."""
    await _store(write, [b"x"])
    async with _reading(read) as source:
        await close_while_cancelled(source)
        await require_closed(source)
    async with write() as destination:
        await close_while_cancelled(destination)
        await require_closed(destination)


async def check_can_be_read_again(write: Write, read: Read) -> None:
    """Reading changes nothing; the same stream comes a second time, also after a part of it."""
    await _store(write, [b"stream"])
    async with _reading(read) as channel:
        await receive_exactly(channel, 3)
    for _ in range(2):
        async with _reading(read) as channel:
            require(await receive_to_end(channel) == b"stream", "reading changed what is stored")


async def check_second_accept_waits(write: Write, read: Read) -> None:
    """A medium has one channel to offer, which outlives the listening; a cancelled accept waits."""
    await _store(write, [b"stream"])
    async with read() as listener:
        await require_cancellable("an accept", listener.accept)
        with within(PATIENCE_S, "accepting what is there"):
            channel = await listener.accept()
        async with blocked("accepting a second time", listener.accept) as attempt:
            attempt.scope.cancel()
            await attempt.wait(PROMPTLY_S)
    require(await receive_to_end(channel) == b"stream", "the channel ended with the listening")
    await channel.aclose()


async def check_does_nothing_before_entered(write: Write, read: Read) -> None:
    """The hooks only prepare: what they return may be dropped, and replaces nothing."""
    await _store(write, [b"stream"])
    write()
    read()
    async with _reading(read) as channel:
        require(await receive_to_end(channel) == b"stream", "what was only prepared was done")


async def check_nobody_answers(write: Write, read: Read) -> None:
    """There is no return path: whoever waited for an answer would wait for ever."""
    async with write() as channel:
        require(
            channel.capability(ReturnPath) is None,
            "a medium cannot answer",
        )
        await channel.send_eof()


async def check_places_and_gaps(write: Write, read: Read) -> None:
    """What is written at a place is there, whoever writes it, and a gap reads as zeros.

    Applies to channels that are :class:`~transship.abc.Seekable`.
    """
    async with write() as channel:
        medium = channel.capability(Seekable)
        if medium is None:
            return
        start = medium.tell()
        await channel.send_segments((b"head",))
        require(medium.tell() == start + 4, "the place does not go on with the stream")
        medium.seek(start + 8192)
        await channel.send_segments((b"tail",))
        medium.seek(start + 2)
        await channel.send_segments((b"AD",))
        with raises(ChannelError, "when seeking to before the beginning"):
            medium.seek(-1)
        await channel.send_eof()
    async with _reading(read) as channel:
        medium = channel.capability(Seekable)
        require(medium is not None, "what was written with places is read without")
        assert medium is not None
        require(medium.tell() == start, "reading begins elsewhere than writing")
        expected = b"heAD" + bytes(8188) + b"tail"
        require(await receive_to_end(channel) == expected, "places are mixed up")
        medium.seek(start + 8192)
        require(await receive_exactly(channel, 4) == b"tail", "seeking leads elsewhere")


async def check_threads_carry_the_same(write: Write, read: Read) -> None:
    """In the hands of a thread the same bytes go and come, and an interruption is for good.

    Applies to channels that are :class:`~transship.abc.Blocking`.
    """
    data = random.Random(_SEED).randbytes(5_000_003)
    async with write() as channel:
        threaded = channel.capability(Blocking)
        if threaded is None:
            return
        sender = threaded.blocking_sender(_TIMEOUT_S)
        pieces: list[Buffer] = [b"", data[:11], memoryview(data)[11:]]
        await trio.to_thread.run_sync(sender.send, pieces)
        await channel.send_segments((b"task",))
        await channel.send_eof()
    target = bytearray(len(data) + 10)
    async with _reading(read) as channel:
        threaded = channel.capability(Blocking)
        assert threaded is not None
        receiver = threaded.blocking_receiver(_TIMEOUT_S)
        with memoryview(target) as view, view[:7] as first, view[7:] as rest:
            count = await trio.to_thread.run_sync(receiver.receive, [first, rest])
        require(count == len(data) + 4, "a thread did not get all, or more than there is")
        require(target[:count] == data + b"task", "a thread got other bytes")
        receiver.interrupt()
        with raises(ChannelError, "when receiving after an interruption"):
            receiver.receive_some(memoryview(bytearray(1)))


async def check_failed_writing_leaves_no_stream(write: Write, read: Read) -> None:
    """What was written before a failure cannot be taken for a whole stream, even if it was."""

    class Failure(Exception):
        pass

    data = random.Random(_SEED).randbytes(20_000)

    async def fail() -> None:
        async with write() as channel:
            await channel.send_segments((data,))
            await channel.send_eof()
            await settle()
            raise Failure

    with raises(Failure, "when the body fails"):
        await fail()
    async with _reading(read) as channel:
        require(await receive_to_end(channel) != data, "a stream that failed can be loaded")


STORED_CHECKS: Final = (
    check_keeps_segments_in_order,
    check_keeps_every_buffer,
    check_keeps_nothing_of_empty_sends,
    check_ends_where_writing_ended,
    check_refuses_to_write_after_the_end,
    check_detects_two_writers,
    check_is_cancellable_before_it_begins,
    check_keeps_no_views,
    check_writing_closes_for_good,
    check_can_be_read_again,
    check_second_accept_waits,
    check_does_nothing_before_entered,
    check_nobody_answers,
    check_places_and_gaps,
    check_threads_carry_the_same,
    check_failed_writing_leaves_no_stream,
)
"""In the order in which a new transport comes to pass them."""
