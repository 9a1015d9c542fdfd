"""Several migrations in one process, each with limits of its own, and one for all of them."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest
import trio

import transship
from transship import MigrationStatus
from transship.engine.limiter import BandwidthLimiter
from transship.guests.synthetic import SyntheticGuest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytest.importorskip("transship_unix")
pytest.importorskip("transship_ram")
pytest.importorskip("transship_devstate")

MIB: Final = 1 << 20
RAM: Final = 48 * MIB
TOTAL: Final = 8 * MIB
CAPPED: Final = MIB
CAPS: Final = (0, 0, CAPPED, 0)
FAIR: Final = 0.15
"""How far from its share a migration may be."""
SETTLING_S: Final = 0.5
WINDOW_S: Final = 1.0
WINDOWS: Final = 8
"""Where the processors are busy with something else, less is sent; never more."""
PATIENCE_S: Final = 30.0


@dataclass
class Move:
    """One guest on its way."""

    here: SyntheticGuest
    there: SyntheticGuest
    migration: transship.Migration
    incoming: transship.IncomingMigration
    listening: trio.Event
    has_arrived: trio.Event = field(default_factory=trio.Event)
    has_left: trio.Event = field(default_factory=trio.Event)

    async def receive(self) -> None:
        with suppress(transship.MigrationError):  # its status says so
            await self.incoming.run()
        self.has_arrived.set()

    async def leave(self) -> None:
        with suppress(transship.MigrationError):
            await self.migration.run()
        self.has_left.set()

    @property
    def sent_bytes(self) -> int:
        return self.migration.statistics.transferred_bytes


def move(
    stack: ExitStack, place: Path, number: int, cap_bytes_per_s: int, limiter: BandwidthLimiter
) -> Move:
    """Prepare one of several."""
    here = stack.enter_context(
        SyntheticGuest(
            RAM, dirty_rate_bytes_per_s=MIB, working_set_bytes=MIB // 2, seed=1000 + number
        )
    )
    there = stack.enter_context(SyntheticGuest(RAM, fill=False))
    uri = f"unix:{place / str(number)}"
    listening = trio.Event()
    return Move(
        here,
        there,
        transship.migrate(
            here,
            uri,
            parameters=transship.Parameters(
                max_bandwidth_bytes_per_s=cap_bytes_per_s, downtime_limit_s=0.001
            ),
            limiter=limiter,
        ),
        transship.receive(there, uri, on_listening=lambda _: listening.set()),
        listening,
    )


async def expect_shares(moves: Sequence[Move], shares: Sequence[float]) -> None:
    """Wait until each sends its share, in bytes per second; at no time may one send more."""
    await trio.sleep(SETTLING_S)
    seen = []
    for _ in range(WINDOWS):
        began_s, before = trio.current_time(), [one.sent_bytes for one in moves]
        await trio.sleep(WINDOW_S)
        elapsed_s = trio.current_time() - began_s
        assert {one.migration.status for one in moves} == {MigrationStatus.ACTIVE}
        seen = [
            (one.sent_bytes - sent) / elapsed_s for one, sent in zip(moves, before, strict=True)
        ]
        for sent, share in zip(seen, shares, strict=True):
            assert sent < share * (1 + FAIR)
        if seen == pytest.approx(shares, rel=FAIR):
            return
    raise AssertionError(f"{seen} bytes per second, where {shares} were expected")


async def over(moves: Sequence[Move]) -> None:
    with trio.fail_after(PATIENCE_S):
        for one in moves:
            await one.has_left.wait()
            await one.has_arrived.wait()


async def test_migrations_share_what_there_is_and_keep_to_limits_of_their_own(
    place: Path,
) -> None:
    limiter = BandwidthLimiter(TOTAL)
    with ExitStack() as stack:
        moves = [
            move(stack, place, number, cap_bytes_per_s, limiter)
            for number, cap_bytes_per_s in enumerate(CAPS)
        ]
        async with trio.open_nursery() as nursery:
            for one in moves:
                await one.here.resume()
                nursery.start_soon(one.receive)
            for one in moves:
                await one.listening.wait()
                nursery.start_soon(one.leave)

            fair = (TOTAL - CAPPED) / 3
            await expect_shares(moves, [fair, fair, CAPPED, fair])

            given_up, *moves = moves
            given_up.migration.cancel()
            await over([given_up])
            fair = (TOTAL - CAPPED) / 2
            await expect_shares(moves, [fair, CAPPED, fair])

            limiter.total_bytes_per_s = 1 << 40
            for one in moves:
                one.migration.parameters = transship.Parameters(max_bandwidth_bytes_per_s=0)
            await over(moves)
        assert given_up.migration.status is MigrationStatus.CANCELLED
        assert given_up.here.is_running
        assert not given_up.there.is_running
        for one in moves:
            assert one.migration.status is MigrationStatus.COMPLETED
            assert (one.here.is_running, one.there.is_running) == (False, True)
        for number, guest in enumerate([given_up.here, *(one.there for one in moves)]):
            assert guest.traits.seed == 1000 + number
            verdict = await trio.to_thread.run_sync(guest.verify)
            assert verdict.ok, verdict.reason
