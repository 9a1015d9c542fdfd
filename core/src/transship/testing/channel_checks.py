"""What every channel must do, one function a rule; :func:`check_transport` runs them all.

Each takes a ``make_pair`` and raises ``AssertionError`` with the rule that was broken. None needs
a test framework, none needs anything but the pair, and none looks at a scheme.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import Channel, ReturnPath
from transship.errors import ChannelError, PeerClosedError
from transship.testing.blocking_checks import BLOCKING_CHECKS
from transship.testing.checking import (
    PATIENCE_S,
    PROMPTLY_S,
    MakePair,
    blocked_receive,
    blocked_send,
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
from transship.testing.descriptor_checks import check_passes_descriptors
from transship.testing.remote_memory_checks import REMOTE_MEMORY_CHECKS

if TYPE_CHECKING:
    from transship.buffers import Buffer

_SEED: Final = 20_261_123
"""Makes the payloads the same in every run."""


async def check_transport(make_pair: MakePair) -> None:
    """Run every required check on fresh pairs, and the optional ones that apply.

    Args:
        make_pair: Returns an async context manager that yields a connected source and
            destination, and closes both when left; called once or more for each check.

    Raises:
        AssertionError: A rule is broken; a note names the check.
    """
    for check in CHANNEL_CHECKS:
        with naming(check):
            await check(make_pair)


async def check_names_its_peer(make_pair: MakePair) -> None:
    """Both ends have a name for people: one line, not empty."""
    async with make_pair() as pair:
        for channel in pair:
            name = channel.peer
            require(bool(name) and name.isprintable(), f"{name!r} is no name for a peer")


async def check_carries_segments_in_order(make_pair: MakePair) -> None:
    """Any number of segments of any size arrives as one run of bytes, however it is received."""
    chance = random.Random(_SEED)
    sizes = [0, 1, 7, 4096, 65_537, 300_000]
    segments: list[Buffer] = [chance.randbytes(chance.choice(sizes)) for _ in range(40)]
    segments += [chance.randbytes(size) for _ in range(2_000) for size in (8, 512)]
    expected = b"".join(segments)
    async with make_pair() as (source, destination), open_nursery() as nursery:
        nursery.start_soon(source.send_segments, segments)
        arrived = bytearray()
        with within(PATIENCE_S, "carrying some megabytes"):
            while len(arrived) < len(expected):
                target = memoryview(bytearray(chance.choice([1, 100, 8192, 1 << 20])))
                arrived += target[: await destination.receive_some_into(target)]
        require(arrived == expected, "the bytes that arrived are not those that were sent")


async def check_accepts_every_buffer(make_pair: MakePair) -> None:
    """Whatever :data:`transship.buffers.Buffer` names can be sent, whatever its items are."""
    segments = buffers_of_every_kind()
    expected = b"".join(bytes(segment) for segment in segments)
    async with make_pair() as (source, destination), open_nursery() as nursery:
        nursery.start_soon(source.send_segments, segments)
        with within(PATIENCE_S, "carrying every kind of buffer"):
            require(
                await receive_exactly(destination, len(expected)) == expected,
                "a kind of buffer arrives wrong",
            )


async def check_tolerates_empty_sends(make_pair: MakePair) -> None:
    """Nothing to send is not an end, and takes no bytes."""
    async with make_pair() as (source, destination):
        with within(PATIENCE_S, "sending nothing"):
            await source.send_segments([])
            await source.send_segments([b""])
            await source.send_segments([b"", bytearray(), b"a", b"", b"b", memoryview(b"")])
            require(await receive_exactly(destination, 2) == b"ab", "an empty segment took bytes")


async def check_resumes_after_short_writes(make_pair: MakePair) -> None:
    """A send that the channel takes piece by piece goes on in the middle of a segment."""
    chance = random.Random(_SEED)
    segments: list[Buffer] = []
    for _ in range(12):
        segments += [chance.randbytes(8), b"", chance.randbytes(1_000_003)]
    left = sum(map(len, segments))
    arrived = hashlib.sha256()
    pauses = 30
    async with make_pair() as (source, destination), open_nursery() as nursery:
        nursery.start_soon(source.send_segments, segments)
        with within(3 * PATIENCE_S, "carrying 12 MB to a slow reader"):
            while left:
                if pauses:
                    pauses -= 1
                    await settle(0.001)  # until the sender is stuck
                target = memoryview(bytearray(min(left, 10_007 if pauses else 100_003)))
                count = await destination.receive_some_into(target)
                require(count > 0, "the channel ended before all had arrived")
                arrived.update(target[:count])
                left -= count
    expected = hashlib.sha256(b"".join(segments)).digest()
    require(arrived.digest() == expected, "the bytes that arrived are not those that were sent")


async def check_bounds_its_buffers(make_pair: MakePair) -> None:
    """A sender whose peer does not receive blocks: memory is not the place for a guest."""
    async with make_pair() as (source, _), blocked_send(source):
        pass


async def check_receives_exactly(make_pair: MakePair) -> None:
    """``receive_into`` fills its target across sends, and says when the peer ended too early."""
    async with make_pair() as (source, destination), open_nursery() as nursery:
        nursery.start_soon(_send_slowly, source, [b"abc", b"def", b"g"])
        with within(PATIENCE_S, "receiving seven bytes"):
            require(await receive_exactly(destination, 6) == b"abcdef", "the bytes are wrong")
            with raises(PeerClosedError, "when the peer ends before the target is full"):
                await receive_exactly(destination, 2)


async def _send_slowly(channel: Channel, pieces: list[bytes]) -> None:
    for piece in pieces:
        await channel.send_segments((piece,))
        await settle(0.001)
    await channel.send_eof()


async def check_ends_one_direction(make_pair: MakePair) -> None:
    """After ``send_eof`` all bytes still arrive, then the end, again and again."""
    async with make_pair() as (source, destination):
        with within(PATIENCE_S, "ending a direction"):
            await source.send_segments((b"last words",))
            await source.send_eof()
            require(await receive_to_end(destination) == b"last words", "bytes before the end")
            require(await receive_to_end(destination) == b"", "the end must stay the end")
            with raises(ChannelError, "when sending after the end"):
                await source.send_segments((b"more",))


async def check_notices_lost_destination(make_pair: MakePair) -> None:
    """Once the destination is gone, sends fail, also one that was blocked, and go on failing."""
    async with make_pair() as (source, destination):
        await destination.aclose()
        with within(PATIENCE_S, "noticing that the peer is gone"):
            await _send_until_it_fails(source)
            with raises(ChannelError, "when sending to a lost peer again"):
                await source.send_segments((b"more",))
    async with make_pair() as (source, destination), blocked_send(source) as attempt:
        await destination.aclose()
        await attempt.wait()
        require(attempt.error is not None, "a blocked send succeeded although the peer is gone")


async def _send_until_it_fails(channel: Channel) -> None:
    with raises(ChannelError, "when sending to a lost peer"):
        for _ in range(1_000):
            await channel.send_segments((bytes(1_000),))
            await trio.sleep(0.001)


async def check_notices_lost_source(make_pair: MakePair) -> None:
    """Once the source is gone, a receive ends: with the end, or with an error."""
    async with make_pair() as (source, destination):
        await source.send_segments((b"half",))
        await source.aclose()
        with within(PATIENCE_S, "noticing that the peer is gone"):
            require(await receive_exactly(destination, 4) == b"half", "bytes before the loss")
            require(await _ends(destination), "bytes came from a peer that is gone")
    async with make_pair() as (source, destination), blocked_receive(destination) as attempt:
        await source.aclose()
        await attempt.wait()


async def _ends(channel: Channel) -> bool:
    try:
        return await receive_to_end(channel) == b""
    except ChannelError:
        return True


async def check_detects_two_senders(make_pair: MakePair) -> None:
    """A second task that sends is refused at once, and does the first no harm."""
    async with make_pair() as (source, destination), open_nursery() as nursery:
        first = bytes(4 * 1024 * 1024) + b"!"
        nursery.start_soon(source.send_segments, (first, first, first, first))
        await settle()
        with within(PATIENCE_S, "refusing a second sender"):
            with raises(trio.BusyResourceError, "when two tasks send"):
                await source.send_segments((b"second",))
            require(await receive_exactly(destination, 4 * len(first)) == 4 * first, "disturbed")


async def check_detects_two_receivers(make_pair: MakePair) -> None:
    """A second task that receives is refused at once, and does the first no harm."""
    async with make_pair() as (source, destination):
        async with blocked_receive(destination) as attempt:
            with within(PATIENCE_S, "refusing a second receiver"):
                with raises(trio.BusyResourceError, "when two tasks receive"):
                    await destination.receive_some_into(memoryview(bytearray(1)))
                await source.send_segments((b"x",))
                await attempt.wait()


async def check_cancelled_send_poisons(make_pair: MakePair) -> None:
    """A blocked send ends promptly when cancelled, and nothing can be sent after it."""
    async with make_pair() as (source, _), blocked_send(source) as attempt:
        attempt.scope.cancel()
        await attempt.wait(PROMPTLY_S)
        with within(PROMPTLY_S, "refusing to send after a cancelled send"):
            with raises(ChannelError, "when sending after a cancelled send"):
                await source.send_segments((b"x",))
        with within(PROMPTLY_S, "closing a clogged channel"):
            await source.aclose()


async def check_cancelled_receive_ends(make_pair: MakePair) -> None:
    """A blocked receive ends promptly when cancelled."""
    async with make_pair() as (_, destination), blocked_receive(destination) as attempt:
        attempt.scope.cancel()
        await attempt.wait(PROMPTLY_S)


async def check_is_cancellable_at_once(make_pair: MakePair) -> None:
    """A call in a cancelled scope does not go through, even if it would not have to wait."""
    async with make_pair() as (source, destination):
        await source.send_segments((b"x",))
        target = memoryview(bytearray(1))
        await require_cancellable("a send", lambda: source.send_segments((b"y",)))
        await require_cancellable("a receive", lambda: destination.receive_some_into(target))


async def check_closing_breaks_blocked_send(make_pair: MakePair) -> None:
    """A blocked send fails promptly when its channel is closed, though the peer does not read."""
    async with make_pair() as (source, _), blocked_send(source) as attempt:
        with within(PROMPTLY_S, "closing a clogged channel"):
            await source.aclose()
        await attempt.wait(PROMPTLY_S)
        require(attempt.error is not None, "a send on a closed channel succeeded")


async def check_closing_breaks_blocked_receive(make_pair: MakePair) -> None:
    """A blocked receive fails promptly when its channel is closed."""
    async with make_pair() as (_, destination), blocked_receive(destination) as attempt:
        with within(PROMPTLY_S, "closing a silent channel"):
            await destination.aclose()
        await attempt.wait(PROMPTLY_S)
        require(attempt.error is not None, "a receive on a closed channel succeeded")


async def check_closes_for_good(make_pair: MakePair) -> None:
    """Closing twice is fine, closing works while cancelled, and nothing works afterwards."""
    async with make_pair() as (source, destination):
        await source.aclose()
        await close_while_cancelled(destination)
        for channel in (source, destination):
            await require_closed(channel)


async def check_holds_no_views(make_pair: MakePair) -> None:
    """After return, cancellation or failure the memory of a segment and a target can be resized."""
    async with make_pair() as (source, destination):
        sent, target = bytearray(b"page"), bytearray(4)
        await source.send_segments((sent,))
        require(is_resizable(sent), "a view is held after a send")
        with memoryview(target) as view:
            await destination.receive_some_into(view)
        require(is_resizable(target), "a view is held after a receive")

        with trio.move_on_after(0.05), memoryview(target) as view:
            await destination.receive_some_into(view)
        require(is_resizable(target), "a view is held after a cancelled receive")

        large = bytearray(4 * 1024 * 1024)
        with trio.move_on_after(0.1) as scope:
            while True:
                await source.send_segments((sent, large, sent))
        require(scope.cancelled_caught, "a cancelled send went through")
        require(is_resizable(sent) and is_resizable(large), "a view is held after a cancelled send")
    async with make_pair() as (source, destination):
        await destination.aclose()
        kept: ChannelError | None = None
        with within(PATIENCE_S, "noticing that the peer is gone"):
            while kept is None:
                try:
                    await source.send_segments((sent, large, sent))
                except ChannelError as error:
                    kept = error
        require(is_resizable(sent) and is_resizable(large), "a view is held after a failed send")


async def check_return_path(make_pair: MakePair) -> None:
    """Messages go from destination to source while the stream goes the other way, and after it.

    Applies to pairs of which both ends have the capability.
    """
    async with make_pair() as (source, destination):
        towards_us = source.capability(ReturnPath)
        towards_source = destination.capability(ReturnPath)
        if towards_us is None or towards_source is None:
            return
        stream = random.Random(_SEED).randbytes(3_000_000)
        messages = [bytes([turn]) * 500 for turn in range(200)]
        arrived = bytearray()

        async def send_stream() -> None:
            for _ in range(5):
                await source.send_segments((stream,))
            await source.send_eof()

        async def send_messages() -> None:
            for message in messages:
                await towards_source.send_return(message)

        async def receive_messages() -> None:
            target = memoryview(bytearray(777))
            while len(arrived) < 500 * 200:
                count = await towards_us.receive_return_into(target)
                require(count > 0, "the return path ended")
                arrived.extend(target[:count])

        with within(3 * PATIENCE_S, "carrying both directions at once"):
            async with open_nursery() as nursery:
                for task in (send_stream, send_messages, receive_messages):
                    nursery.start_soon(task)
                require(await receive_to_end(destination) == 5 * stream, "the stream is wrong")
            require(arrived == b"".join(messages), "the messages are wrong")
            await towards_source.send_return(b"after the end")
            target = memoryview(bytearray(100))
            count = await towards_us.receive_return_into(target)
            require(bytes(target[:count]) == b"after the end", "the end closed the return path")


CHANNEL_CHECKS: Final = (
    check_names_its_peer,
    check_carries_segments_in_order,
    check_accepts_every_buffer,
    check_tolerates_empty_sends,
    check_resumes_after_short_writes,
    check_bounds_its_buffers,
    check_receives_exactly,
    check_ends_one_direction,
    check_notices_lost_destination,
    check_notices_lost_source,
    check_detects_two_senders,
    check_detects_two_receivers,
    check_cancelled_send_poisons,
    check_cancelled_receive_ends,
    check_is_cancellable_at_once,
    check_closing_breaks_blocked_send,
    check_closing_breaks_blocked_receive,
    check_closes_for_good,
    check_holds_no_views,
    check_return_path,
    check_passes_descriptors,
    *BLOCKING_CHECKS,
    *REMOTE_MEMORY_CHECKS,
)
"""In the order in which a new transport comes to pass them."""
