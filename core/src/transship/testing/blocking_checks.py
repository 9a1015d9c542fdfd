"""What a channel must do that can be used from a thread.

Each check applies to pairs of which the end concerned has the capability, and passes any other.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from transship.abc.channel import NO_DESCRIPTOR, Blocking, ReturnPath
from transship.errors import ChannelError, StalledError
from transship.testing.checking import (
    PATIENCE_S,
    PROMPTLY_S,
    UNREAD_BYTES,
    Attempt,
    MakePair,
    blocked,
    open_nursery,
    raises,
    receive_exactly,
    require,
    within,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transship.abc.channel import BlockingReceiver, BlockingSender, Channel
    from transship.buffers import Buffer

T = TypeVar("T")

_STALL_S: Final = 0.2
"""Time-out of calls that must run into it."""

_WORD: Final = bytes(range(256))


# In the hands of a thread


async def check_blocks_with_the_same_bytes(make_pair: MakePair) -> None:
    """What a thread sends and what a task sends is one stream, whoever receives it."""
    segments: list[Buffer] = [b"first", b"", bytearray(_WORD * 5_000), memoryview(_WORD).cast("Q")]
    expected = b"".join(map(bytes, segments))
    async with _halves(make_pair, PATIENCE_S) as (source, destination, sender, receiver):
        if sender is not None:
            with within(PATIENCE_S, "receiving what a thread sends"):
                async with open_nursery() as nursery:
                    nursery.start_soon(_in_thread, lambda: sender.send(segments))
                    came = await receive_exactly(destination, len(expected))
            require(came == expected, "the bytes that a thread sent arrive wrong")
        if receiver is not None:
            targets = [bytearray(3), bytearray(len(expected) - 4), bytearray(1)]
            with within(PATIENCE_S, "receiving in a thread"):
                async with open_nursery() as nursery:
                    nursery.start_soon(source.send_segments, segments)
                    views = [memoryview(target) for target in targets]
                    count = await _in_thread(lambda: receiver.receive(views))
            require(count == len(expected), f"{count} of {len(expected)} bytes were received")
            require(b"".join(targets) == expected, "a thread receives the bytes wrong")
            with within(PATIENCE_S, "receiving one byte in a thread"):
                await source.send_segments((b"x",))
                target = bytearray(8)
                count = await _in_thread(lambda: receiver.receive_some(memoryview(target)))
                require(target[:count] == b"x", "a thread does not receive what there is")
                await source.send_segments((b"end",))
                await source.send_eof()
                targets = [bytearray(2), bytearray(6)]
                views = [memoryview(target) for target in targets]
                count = await _in_thread(lambda: receiver.receive(views))
                require(count == 3, f"{count} bytes were received where 3 were left")
                count = await _in_thread(lambda: receiver.receive_some(memoryview(target)))
                require(count == 0, "a thread does not hear of the end")


async def check_blocks_over_a_descriptor(make_pair: MakePair) -> None:
    """A function that uses the descriptor itself moves bytes of the same stream."""
    async with _halves(make_pair, PATIENCE_S) as (source, destination, sender, receiver):
        with within(PATIENCE_S, "using the descriptor"):
            if sender is not None:
                count = await _in_thread(
                    lambda: sender.send_with(lambda descriptor: os.write(descriptor, _WORD))
                )
                if count != NO_DESCRIPTOR:
                    require(
                        await receive_exactly(destination, count) == _WORD[:count],
                        "the descriptor does not carry the bytes of the channel",
                    )
            if receiver is not None:
                await source.send_segments((_WORD,))
                target = bytearray(len(_WORD))
                count = await _in_thread(
                    lambda: receiver.receive_with(lambda descriptor: os.readv(descriptor, [target]))
                )
                if count != NO_DESCRIPTOR:
                    require(count > 0, "the descriptor does not wait until bytes come")
                    require(target[:count] == _WORD[:count], "the descriptor has other bytes")


async def check_blocking_call_times_out(make_pair: MakePair) -> None:
    """A call that makes no progress is a ``StalledError`` after the time-out, not before.

    The channel then refuses to send: nobody knows how much was sent.
    """
    async with _halves(make_pair, _STALL_S) as (source, _, sender, _):
        if sender is not None:
            unread = bytes(UNREAD_BYTES)
            await _require_stall("a send", lambda: sender.send([unread]))
            await _require_poisoned(source, "a thread's send that made no progress")
    async with _halves(make_pair, _STALL_S) as (_, _, _, receiver):
        if receiver is not None:
            target = memoryview(bytearray(1))
            await _require_stall("a receive", lambda: receiver.receive([target]))


async def _require_poisoned(source: Channel, after: str) -> None:
    with within(PROMPTLY_S, f"sending after {after}"):
        with raises(ChannelError, f"when the channel sends after {after}"):
            await source.send_segments((b"x",))


async def _require_stall(what: str, call: Callable[[], object]) -> None:
    began_s = time.monotonic()
    with within(PATIENCE_S, f"{what} with a time-out of {_STALL_S} s"):
        with raises(StalledError, f"when {what} makes no progress"):
            await _in_thread(call)
    taken_s = time.monotonic() - began_s
    require(taken_s > 0.8 * _STALL_S, f"{what} gave up after {taken_s:.3f} s already")


async def check_interrupt_breaks_one_half(make_pair: MakePair) -> None:
    """``interrupt`` breaks the call under way and all later ones; the other half works on."""
    async with _halves(make_pair, 10 * PATIENCE_S) as (source, destination, sender, receiver):
        if sender is not None:
            unread = bytes(UNREAD_BYTES)
            await _interrupted("a send", sender, lambda: sender.send([unread]))
            await _require_poisoned(source, "its sender's interrupt")
            await _other_way(source, destination, "an interrupted sender breaks what is received")
    async with _halves(make_pair, 10 * PATIENCE_S) as (source, destination, sender, receiver):
        if receiver is not None:
            target = bytearray(1)
            await _interrupted(
                "a receive", receiver, lambda: receiver.receive([memoryview(target)])
            )
            await _other_way(source, destination, "an interrupted receiver breaks what is sent")


async def _other_way(source: Channel, destination: Channel, broken: str) -> None:
    """Send from the destination to the source, if the channel leads back."""
    if source.capability(ReturnPath) is None:
        return
    with within(PATIENCE_S, "sending the other way after an interruption"):
        async with open_nursery() as nursery:
            nursery.start_soon(destination.send_segments, (_WORD,))
            require(await receive_exactly(source, len(_WORD)) == _WORD, broken)


async def check_blocking_call_notices_lost_peer(make_pair: MakePair) -> None:
    """A call under way ends when the peer is gone: with an error, or for a receive with the end."""
    async with _halves(make_pair, 10 * PATIENCE_S) as (_, destination, sender, _):
        if sender is not None:
            unread = bytes(UNREAD_BYTES)
            async with _blocked_thread("a send", sender, lambda: sender.send([unread])) as attempt:
                await destination.aclose()
                await attempt.wait(PATIENCE_S)
                require(attempt.error is not None, "a send succeeded although the peer is gone")
    async with _halves(make_pair, 10 * PATIENCE_S) as (source, _, _, receiver):
        if receiver is not None:
            target = bytearray(1)
            async with _blocked_thread(
                "a receive", receiver, lambda: receiver.receive([memoryview(target)])
            ) as attempt:
                await source.aclose()
                await attempt.wait(PATIENCE_S)


@asynccontextmanager
async def _halves(
    make_pair: MakePair, timeout_s: float
) -> AsyncIterator[tuple[Channel, Channel, BlockingSender | None, BlockingReceiver | None]]:
    """A pair, and its source's sender and destination's receiver where there are any."""
    async with make_pair() as (source, destination):
        sends = source.capability(Blocking)
        receives = destination.capability(Blocking)
        sender = None if sends is None else sends.blocking_sender(timeout_s)
        receiver = None if receives is None else receives.blocking_receiver(timeout_s)
        yield source, destination, sender, receiver


async def _in_thread(call: Callable[[], T]) -> T:
    """Make a call in a thread; a check that gives up does not wait for it."""
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)


@asynccontextmanager
async def _blocked_thread(
    what: str, half: BlockingSender | BlockingReceiver, call: Callable[[], object]
) -> AsyncIterator[Attempt]:
    """A call in a thread that must block while the body runs; interrupted after it."""
    try:
        async with blocked(f"{what} in a thread", lambda: _in_thread(call)) as attempt:
            yield attempt
    finally:
        half.interrupt()


async def _interrupted(
    what: str, half: BlockingSender | BlockingReceiver, call: Callable[[], object]
) -> None:
    async with _blocked_thread(what, half, call) as attempt:
        half.interrupt()
        half.interrupt()
        await attempt.wait(PROMPTLY_S)
        require(attempt.error is not None, f"{what} that was interrupted succeeded")
    with within(PROMPTLY_S, f"refusing {what} after an interrupt"):
        with raises(ChannelError, f"on {what} after an interrupt"):
            await _in_thread(call)


BLOCKING_CHECKS: Final = (
    check_blocks_with_the_same_bytes,
    check_blocks_over_a_descriptor,
    check_blocking_call_times_out,
    check_interrupt_breaks_one_half,
    check_blocking_call_notices_lost_peer,
)
"""In the order in which a new channel comes to pass them."""
