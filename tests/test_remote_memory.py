"""Memory that is written remotely: a whole guest, over channels in memory that can do that."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from transship.abc import Listener, Parameters, RemoteMemory, Settings
from transship.assembly import sections_for
from transship.engine.incoming import IncomingMigration
from transship.engine.migration import Migration
from transship.errors import MigrationError
from transship.guests.scratch import ScratchGuest
from transship.guests.spec import parse_guest
from transship.testing import ChannelWrapper, memory_channel_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Guest
    from transship.abc.channel import C

GUEST = "synthetic:ram=32MiB,dirty-rate=64MiB/s,working-set=4MiB,zero=0.5"


class Waiting(Listener):
    """Offers one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel

    @property
    def uri(self) -> str:
        return "memory:"

    async def accept(self) -> Channel:
        if self._channel is None:
            await trio.sleep_forever()
        channel, self._channel = self._channel, None
        assert channel is not None
        return channel


class WithoutRemoteMemory(ChannelWrapper):
    def capability(self, kind: type[C]) -> C | None:
        return None if kind is RemoteMemory else super().capability(kind)


class Move:
    """Both sides of a migration, prepared."""

    def __init__(
        self,
        destination: Guest | None = None,
        capabilities: tuple[str, ...] = (),
        *,
        wrap: type[ChannelWrapper] | None = None,
        **parameters: Any,
    ) -> None:
        settings = Parameters(max_bandwidth_bytes_per_s=0, **parameters)
        self.guest = parse_guest(GUEST)
        self.destination = destination or parse_guest(f"{GUEST},seed=9")
        self.source_channel, channel = memory_channel_pair(remote_memory=True)
        accepted: Channel = wrap(channel) if wrap else channel

        @asynccontextmanager
        async def outgoing() -> AsyncIterator[Channel]:
            try:
                yield self.source_channel
            finally:
                await self.source_channel.aclose()

        @asynccontextmanager
        async def incoming() -> AsyncIterator[Listener]:
            yield Waiting(accepted)

        ours, theirs = (Settings(frozenset(capabilities), settings) for _ in range(2))
        self.migration = Migration(self.guest, sections_for(self.guest, ours), outgoing(), ours)
        self.incoming = IncomingMigration(
            self.destination, sections_for(self.destination, theirs), incoming(), theirs
        )

    async def run(self) -> dict[str, int]:
        """Move the guest; returns the source's counters of RAM."""
        await self.guest.resume()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.incoming.run)
            await self.migration.run()
        return self.migration.statistics.sections["ram"]


@pytest.mark.parametrize("capabilities", [(), ("rdma-pin-all",)], ids=["on-demand", "at-once"])
async def test_guest_under_load_arrives_as_it_was(capabilities: tuple[str, ...]) -> None:
    move = Move(capabilities=capabilities)
    counters = await move.run()
    await move.destination.pause()
    assert move.destination.report()["consistent"] is True
    assert counters["remote_bytes"] >= counters["normal"] * counters["page_size"]
    assert counters["duplicate"] > 0
    assert counters["dirty_sync_count"] >= 2


@pytest.mark.parametrize(
    ("capabilities", "wrap"),
    [(("xbzrle",), None), ((), WithoutRemoteMemory)],
    ids=["xbzrle", "destination-cannot"],
)
async def test_memory_goes_in_the_stream_where_it_cannot_be_written(
    capabilities: tuple[str, ...], wrap: type[ChannelWrapper] | None
) -> None:
    move = Move(capabilities=capabilities, wrap=wrap)
    counters = await move.run()
    await move.destination.pause()
    assert move.destination.report()["consistent"] is True
    assert "remote_bytes" not in counters


async def test_memory_goes_in_the_stream_into_a_guest_that_takes_any() -> None:
    scratch = ScratchGuest()
    move = Move(scratch)
    counters = await move.run()
    assert "remote_bytes" not in counters
    assert [bytes(block.view) for block in scratch.ram_blocks()] == [
        bytes(block.view) for block in move.guest.ram_blocks()
    ]
    scratch.close()


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.06, 0.1])
@pytest.mark.parametrize("loser", ["cancelled", "channel-closed", "destination-cancelled"])
async def test_guest_stays_where_it_was_when_the_writing_is_broken_off(
    loser: str, after_s: float
) -> None:
    move = Move(downtime_limit_s=0.0)
    await move.guest.resume()

    async def run(attempt: Migration | IncomingMigration) -> None:
        with pytest.raises(MigrationError):
            await attempt.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, move.incoming)
        nursery.start_soon(run, move.migration)
        await trio.sleep(after_s)
        if loser == "cancelled":
            move.migration.cancel()
        elif loser == "destination-cancelled":
            move.incoming.cancel()
        else:
            await move.source_channel.aclose()
    assert move.guest.is_running
    assert not move.destination.is_running
    assert move.migration.owns_guest
    before = [bytes(block.view) for block in move.destination.ram_blocks()]
    await trio.sleep(0.02)
    assert before == [bytes(block.view) for block in move.destination.ram_blocks()]
    await move.guest.pause()
    assert move.guest.report()["consistent"] is True
