"""What no transport may leave behind, however much it has carried.

Memory, descriptors, tasks and processes are counted before and after. The first pairs are not: with
them come imports, and what allocators and caches keep for the next.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from transship.abc.channel import RemoteMemory, RemoteRun
from transship.testing.belongings import Belongings
from transship.testing.checking import PATIENCE_S, MakePair, open_nursery, require, within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.abc.channel import Channel
    from transship.abc.transport import Incoming, Outgoing

SHORT_BYTES: Final = 64 << 20
"""Enough to see a leak of everything; ten GiB see a leak of some bytes a message."""

GROWTH_BYTES: Final = 32 << 20
"""By how much resident memory may grow: allocators differ by some MiB from run to run."""

_SEED: Final = 20_261_127
_FIRST_BYTES: Final = 4 << 20
_FIRST_PAIRS: Final = 4
_BODY_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 8
_RAM: Final = "pc.ram"
_WRITTEN_BODIES: Final = 16
_SLOWEST_BYTES_PER_S: Final = 4 << 20


class Endured(NamedTuple):
    """What carrying took and left.

    Args:
        total_bytes: How much was carried.
        seconds: How long that took.
        before: What there was before.
        after: What there was afterwards.
    """

    total_bytes: int
    seconds: float
    before: Belongings
    after: Belongings

    @property
    def growth_bytes(self) -> int:
        """By how much resident memory grew."""
        return self.after.resident_bytes - self.before.resident_bytes

    def __str__(self) -> str:
        rate = self.total_bytes / self.seconds / (1 << 30)
        return (
            f"{self.total_bytes / (1 << 30):.2f} GiB in {self.seconds:.1f} s, {rate:.2f} GiB/s; "
            f"resident {self.growth_bytes / (1 << 20):+.1f} MiB, "
            f"descriptors {self.before.descriptors} and {self.after.descriptors}"
        )


async def check_leaves_nothing_behind(
    make_pair: MakePair, total_bytes: int = SHORT_BYTES
) -> Endured:
    """So many bytes arrive, each as it was sent, and nothing is left of them or of the pair.

    Returns:
        The figures.
    """

    async def carry(count: int) -> None:
        async with make_pair() as (source, destination), open_nursery() as nursery:
            nursery.start_soon(_send, source, count)
            await _receive(destination, count)

    return await _endure(carry, total_bytes)


async def check_remote_memory_leaves_nothing_behind(
    make_pair: MakePair, total_bytes: int = SHORT_BYTES
) -> Endured | None:
    """So many bytes are written into the destination's memory, and nothing is left of that.

    Applies to pairs of which both ends have the capability.

    Returns:
        The figures; None if it does not apply.
    """
    async with make_pair() as ends:
        if not all(end.capability(RemoteMemory) for end in ends):
            return None

    async def carry(count: int) -> None:
        async with make_pair() as (source, destination):
            await _write(source, destination, count)

    return await _endure(carry, total_bytes)


async def check_medium_leaves_nothing_behind(
    write: Callable[[], Outgoing], read: Callable[[], Incoming], total_bytes: int = SHORT_BYTES
) -> Endured:
    """As :func:`check_leaves_nothing_behind`, for a medium that is written whole and then read."""

    async def carry(count: int) -> None:
        async with write() as source:
            await _send(source, count)
        async with read() as listener:
            destination = await listener.accept()
            try:
                await _receive(destination, count)
            finally:
                await destination.aclose()

    return await _endure(carry, total_bytes)


async def _endure(carry: Callable[[int], Awaitable[None]], total_bytes: int) -> Endured:
    start = Belongings.now()
    for _ in range(_FIRST_PAIRS):
        await carry(min(total_bytes, _FIRST_BYTES))
    before = await Belongings.settled(start)
    started_s = time.monotonic()
    with within(PATIENCE_S + total_bytes / _SLOWEST_BYTES_PER_S, f"carrying {total_bytes} bytes"):
        await carry(total_bytes)
    seconds = time.monotonic() - started_s
    endured = Endured(total_bytes, seconds, before, await Belongings.settled(before))
    beyond = endured.after.beyond(before)
    require(not beyond, "; ".join(beyond))
    growth = endured.growth_bytes
    require(growth <= GROWTH_BYTES, f"{growth} bytes more of memory are in use")
    return endured


async def _send(channel: Channel, total_bytes: int) -> None:
    body = _body()
    for number in range(total_bytes // len(body)):
        await channel.send_segments((_head(number), body))
    await channel.send_eof()


async def _receive(channel: Channel, total_bytes: int) -> None:
    body = _body()
    head, came = bytearray(_HEAD_BYTES), bytearray(len(body))
    with memoryview(head) as head_view, memoryview(came) as came_view:
        for number in range(total_bytes // len(body)):
            await channel.receive_into(head_view)
            await channel.receive_into(came_view)
            require(head == _head(number) and came == body, f"piece {number} arrived wrong")
        require(not await channel.receive_some_into(head_view), "more came than was sent")


async def _write(source: Channel, destination: Channel, total_bytes: int) -> None:
    writes = source.capability(RemoteMemory)
    written = destination.capability(RemoteMemory)
    assert writes is not None
    assert written is not None
    body = _body()
    here, there = bytearray(body * _WRITTEN_BODIES), bytearray(len(body) * _WRITTEN_BODIES)
    with memoryview(here) as ours, memoryview(there) as theirs:
        async with written.expose({_RAM: theirs}, at_once=False):
            async with writes.mirror({_RAM: ours}, at_once=False) as writer:
                for number in range(max(1, total_bytes // len(here))):
                    here[:_HEAD_BYTES] = here[-_HEAD_BYTES:] = _head(number)
                    await writer.write([RemoteRun(_RAM, 0, len(here))])
                    await writer.flush()
                    require(there == here, f"write {number} arrived wrong")


def _body() -> bytes:
    return random.Random(_SEED).randbytes(_BODY_BYTES)


def _head(number: int) -> bytes:
    return number.to_bytes(_HEAD_BYTES, "big")
