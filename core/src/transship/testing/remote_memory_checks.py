"""What a channel must do that writes memory of the source's into memory of the destination's."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from transship.abc.channel import RemoteMemory, RemoteRun, RemoteWriter
from transship.errors import ChannelError
from transship.testing.checking import (
    PATIENCE_S,
    PROMPTLY_S,
    MakePair,
    is_resizable,
    open_nursery,
    raises,
    receive_exactly,
    require,
    within,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from transship.abc.channel import Channel

_SEED: Final = 20_261_126
_MIB: Final = 1 << 20
_MARGIN_BYTES: Final = 4096
"""Of memory around a block, which must stay as it is."""


async def check_writes_remote_memory(make_pair: MakePair) -> None:
    """What is written is there after ``flush``, exactly, and nothing else is touched.

    Applies, as all checks here, to pairs of which both ends have the capability.
    """
    chance = random.Random(_SEED)
    blocks = {"pc.ram": 3 * _MIB + 12_345, "vga": 65_536, "rom": 1, "empty": 0}
    for at_once in (False, True):
        async with _remote_pair(make_pair) as pair:
            if pair is None:
                return
            here = {idstr: bytearray(chance.randbytes(size)) for idstr, size in blocks.items()}
            there = {
                idstr: bytearray(b"\xee" * (size + 2 * _MARGIN_BYTES))
                for idstr, size in blocks.items()
            }
            expected = {idstr: bytearray(memory) for idstr, memory in there.items()}
            with within(3 * PATIENCE_S, "writing some megabytes"):
                async with _joined(pair, here, there, at_once=at_once) as writer:
                    await writer.write([])
                    await writer.flush()
                    for _ in range(3):
                        runs = [_any_run(chance, blocks) for _ in range(40)]
                        await writer.write(runs)
                        await writer.flush()
                        for idstr, offset, length in runs:
                            start = _MARGIN_BYTES + offset
                            expected[idstr][start : start + length] = here[idstr][
                                offset : offset + length
                            ]
                        require(there == expected, "the memory there is not what was written")
                    await writer.write([RemoteRun(i, 0, size) for i, size in blocks.items()])
                    await writer.flush()
            for idstr, memory in here.items():
                written = there[idstr][_MARGIN_BYTES : _MARGIN_BYTES + len(memory)]
                require(written == memory, f"{idstr} did not arrive whole")
                for margin in (there[idstr][:_MARGIN_BYTES], there[idstr][-_MARGIN_BYTES:]):
                    require(set(margin) == {0xEE}, f"memory outside {idstr} was touched")


def _any_run(chance: random.Random, blocks: Mapping[str, int]) -> RemoteRun:
    idstr = chance.choice(list(blocks))
    offset = chance.randint(0, blocks[idstr])
    longest = chance.choice([0, 1, 4096, 65_536, 2 * _MIB])
    return RemoteRun(idstr, offset, min(longest, blocks[idstr] - offset))


async def check_refuses_other_memory(make_pair: MakePair) -> None:
    """Blocks of other names or lengths are refused before anything is written."""
    for other in ({"ram": 4096}, {"pc.ram": 4097}, {"pc.ram": 4096, "vga": 1}, {}):
        async with _remote_pair(make_pair) as pair:
            if pair is None:
                return
            source, destination = pair.source, pair.destination
            there = bytearray(4096)
            with memoryview(there) as target, within(PATIENCE_S, "refusing other blocks"):
                async with destination.expose({"pc.ram": target}, at_once=False):
                    with raises(ChannelError, f"when {other} is to be written to pc.ram"):
                        async with source.mirror(
                            {idstr: memoryview(b"\1" * size) for idstr, size in other.items()},
                            at_once=False,
                        ):
                            pass
            require(not any(there), "memory was written to although the blocks are others")


async def check_refuses_runs_outside_memory(make_pair: MakePair) -> None:
    """A run that is not within its block is refused, and nothing of it is written."""
    outside = [
        RemoteRun("vga", 0, 1),
        RemoteRun("pc.ram", 4096, 1),
        RemoteRun("pc.ram", 0, 4097),
        RemoteRun("pc.ram", -1, 1),
        RemoteRun("pc.ram", 1, -1),
    ]
    for run in outside:
        async with _remote_pair(make_pair) as pair:
            if pair is None:
                return
            there = {"pc.ram": bytearray(4096 + 2 * _MARGIN_BYTES)}
            here = {"pc.ram": bytearray(b"\1" * 4096)}
            with within(PATIENCE_S, "refusing a run"):
                async with _joined(pair, here, there, at_once=False) as writer:
                    with raises(ValueError, f"when {run} is to be written"):
                        await writer.write([run])
            require(not any(there["pc.ram"]), f"something of {run} was written")


async def check_lets_go_of_memory(make_pair: MakePair) -> None:
    """When both sides have left, no view is held, and the stream goes on."""
    async with _remote_pair(make_pair) as pair:
        if pair is None:
            return
        here, there = {"pc.ram": bytearray(8192)}, {"pc.ram": bytearray(8192 + 2 * _MARGIN_BYTES)}
        with within(PATIENCE_S, "writing a little"):
            async with _joined(pair, here, there, at_once=False) as writer:
                await writer.write([RemoteRun("pc.ram", 0, 8192)])
                await writer.flush()
        require(is_resizable(here["pc.ram"]), "the source holds a view of its memory")
        require(is_resizable(there["pc.ram"]), "the destination holds a view of its memory")
        with within(PATIENCE_S, "going on with the stream"):
            await pair.channels[0].send_segments((b"go on",))
            words = await receive_exactly(pair.channels[1], 5)
            require(words == b"go on", "the stream is wrong")


async def check_writes_nothing_when_left(make_pair: MakePair) -> None:
    """Once ``expose`` is left, no write succeeds, and the memory stays as it is."""
    async with _remote_pair(make_pair) as pair:
        if pair is None:
            return
        source, destination = pair.source, pair.destination
        here, there = bytearray(b"\1" * 2 * _MIB), bytearray(2 * _MIB)
        mirrored = trio.Event()
        left = trio.Event()

        async def write_for_ever() -> None:
            with memoryview(here) as memory:
                async with source.mirror({"pc.ram": memory}, at_once=False) as writer:
                    while True:
                        await writer.write([RemoteRun("pc.ram", 0, 2 * _MIB)])
                        mirrored.set()
                        if left.is_set():
                            await writer.flush()

        async def fail_to_write() -> None:
            with raises(ChannelError, "when the memory is not exposed any more"):
                await write_for_ever()

        with within(PATIENCE_S, "leaving amid writes"):
            async with open_nursery() as nursery:
                with memoryview(there) as memory:
                    async with destination.expose({"pc.ram": memory}, at_once=False):
                        nursery.start_soon(fail_to_write)
                        await mirrored.wait()
                require(is_resizable(there), "the destination holds a view of its memory")
                there[:] = bytes(len(there))
                left.set()
        await trio.sleep(0.05)
        require(not any(there), "memory was written to after it had been taken back")


async def check_cancelled_write_ends(make_pair: MakePair) -> None:
    """Entering, writing and flushing end promptly when cancelled, and let go of the memory."""
    async with _remote_pair(make_pair) as pair:
        if pair is None:
            return
        source = pair.source
        here = bytearray(4096)
        with within(PROMPTLY_S, "giving up on memory that nobody exposes"):
            with memoryview(here) as memory, trio.move_on_after(0.05) as scope:
                async with source.mirror({"pc.ram": memory}, at_once=False):
                    pass
            require(scope.cancelled_caught, "memory was mirrored that nobody exposes")
        require(is_resizable(here), "the source holds a view of its memory")
    for call in ("write", "flush"):
        async with _remote_pair(make_pair) as pair:
            if pair is None:
                return
            here = bytearray(b"\1" * 4096)
            with within(PATIENCE_S, f"cancelling a {call}"):
                there = {"pc.ram": bytearray(4096 + 2 * _MARGIN_BYTES)}
                async with _joined(pair, {"pc.ram": here}, there, at_once=False) as writer:
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        if call == "write":
                            await writer.write([RemoteRun("pc.ram", 0, 4096)])
                        else:
                            await writer.flush()
                    require(scope.cancelled_caught, f"a {call} in a cancelled scope went through")
            require(is_resizable(here), "the source holds a view of its memory")


async def check_stops_writing_when_closed(make_pair: MakePair) -> None:
    """A writer whose channel is closed, at either end, fails instead of waiting."""
    for end in (0, 1):
        async with _remote_pair(make_pair) as pair:
            if pair is None:
                return
            here = {"pc.ram": bytearray(_MIB)}
            there = {"pc.ram": bytearray(_MIB + 2 * _MARGIN_BYTES)}
            with within(PATIENCE_S, "noticing that the channel is closed"):
                async with _joined(pair, here, there, at_once=False) as writer:
                    await writer.write([RemoteRun("pc.ram", 0, _MIB)])
                    await pair.channels[end].aclose()
                    with raises(ChannelError, "when writing on a closed channel"):
                        while True:
                            await writer.write([RemoteRun("pc.ram", 0, _MIB)])
                            await writer.flush()


class _Pair(NamedTuple):
    """Two channels, and their capabilities."""

    channels: tuple[Channel, Channel]
    source: RemoteMemory
    destination: RemoteMemory


@asynccontextmanager
async def _remote_pair(make_pair: MakePair) -> AsyncIterator[_Pair | None]:
    """A pair with its capabilities; None if one end lacks it."""
    async with make_pair() as (source, destination):
        writing = source.capability(RemoteMemory)
        written = destination.capability(RemoteMemory)
        if writing is None or written is None:
            yield None
        else:
            yield _Pair((source, destination), writing, written)


@asynccontextmanager
async def _joined(
    pair: _Pair,
    here: Mapping[str, bytearray],
    there: Mapping[str, bytearray],
    *,
    at_once: bool,
) -> AsyncIterator[RemoteWriter]:
    """A writer from blocks to others, which have a margin before and behind."""
    targets = {
        idstr: memoryview(memory)[_MARGIN_BYTES:-_MARGIN_BYTES] for idstr, memory in there.items()
    }
    sources = {idstr: memoryview(memory) for idstr, memory in here.items()}
    try:
        async with pair.destination.expose(targets, at_once=at_once):
            async with pair.source.mirror(sources, at_once=at_once) as writer:
                yield writer
    finally:
        for view in (*targets.values(), *sources.values()):
            view.release()


REMOTE_MEMORY_CHECKS: Final = (
    check_writes_remote_memory,
    check_refuses_other_memory,
    check_refuses_runs_outside_memory,
    check_lets_go_of_memory,
    check_writes_nothing_when_left,
    check_cancelled_write_ends,
    check_stops_writing_when_closed,
)
"""Part of :data:`~transship.testing.channel_checks.CHANNEL_CHECKS`."""
