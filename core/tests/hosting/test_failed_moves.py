"""A move fails, or nobody knows how it ended: which guest runs, and which may be told to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from engine_channels import saying
from engine_machine import PAGE

from transship.engine.notifiers import GuestResumed
from transship.engine.status import MigrationStatus
from transship.errors import (
    BlockedError,
    ConnectError,
    LocalError,
    NotStartedError,
    PeerClosedError,
    PeerFailedError,
    StreamError,
    UnknownOutcomeError,
)
from transship.testing import ChannelWrapper, CloseAfter

from .hosted import URI, other_host, over, state, two_hosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory_transport import Network
    from trio.testing import MockClock

    from transship.buffers import Buffer

WITHOUT_THE_LAST_WORD: Final = saying(lambda number, message: message if number < 2 else b"")
"""The destination says that it has the guest, and the source does not hear it."""


class EndsUnsaid(ChannelWrapper):
    """Closes instead of sending the end of the stream."""

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        data = b"".join(map(bytes, segments))
        if data[:2] == b"\0\6":
            await self.inner.aclose()
        await self.inner.send_segments((data,))


@pytest.mark.seed("S1", "S48", "S59", "S63")
async def test_guest_runs_on_when_its_hand_over_fails_and_can_be_moved_again(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        hosts.arrival.fails_in = ["prepare"]
        first = await hosts.migrate()
        assert isinstance(first.error, PeerFailedError)
        assert first.status is MigrationStatus.FAILED
        assert hosts.here.outgoing is first
        assert state(hosts.here) == "running"
        sent = first.statistics.transferred_bytes
        assert sent > 0
        async with other_host(hosts.guest) as other:
            second = await hosts.here.start_migration("memory:other")
            assert second.error is None
            assert second.statistics.transferred_bytes < sent
            await over(hosts.here, other)
            assert state(other) == "running"
            assert first.statistics.transferred_bytes == sent


@pytest.mark.seed("S57")
async def test_guest_that_cannot_be_paused_for_the_hand_over_runs_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_hosts() as hosts:
        hosts.guest.fails_in = ["pause"]
        migration = await hosts.here.start_migration(URI)
        await over(hosts.here)
        assert "pause does not work here" in str(migration.error)
        assert state(hosts.here) == "running"
        hosts.guest.fails_in = []
        await hosts.here.stop()
        assert state(hosts.here) == "paused"
        await over(hosts.there)
    assert caplog.text == ""
    assert GuestResumed() not in hosts.seen_here.notices


async def test_guest_that_cannot_be_resumed_after_a_failure_stands_still_and_can_be_told_again(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts() as hosts:
        hosts.guest.fails_in = ["resume"]
        hosts.arrival.fails_in = ["prepare"]
        migration = await hosts.here.start_migration(URI)
        await over(hosts.here)
        assert "could not be resumed" in str(migration.error)
        assert state(hosts.here) == "paused"
        hosts.guest.fails_in = []
        await hosts.here.cont()
        assert state(hosts.here) == "running"
        await over(hosts.there)


@pytest.mark.seed("S37", "S70")
@pytest.mark.parametrize("exits", [True, False])
async def test_guest_that_fails_to_arrive_is_forgotten_and_the_reason_kept(
    exits: bool, network: Network, autojump_clock: MockClock
) -> None:
    network.far = lambda end: CloseAfter(end, received_bytes=3 * PAGE)
    async with two_hosts(listens=False) as hosts:
        incoming = await hosts.there.start_incoming(URI, exits_on_error=exits)
        assert hosts.there.exits_on_error is exits
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        assert state(hosts.there) == "inmigrate"
        assert incoming is hosts.there.incoming
        assert incoming.status is MigrationStatus.FAILED
        assert isinstance(incoming.error, PeerClosedError | StreamError)
        assert hosts.arrival.history == ["discard"]
        assert hosts.arrival.announced_s == []
        await over(hosts.here)
        assert state(hosts.here) == "running"
        assert incoming in hosts.over


@pytest.mark.seed("S71")
@pytest.mark.parametrize("method", ["commit", "resume"])
async def test_guest_that_arrived_and_could_not_be_started_stands_still_and_can_be_told_to_run(
    method: str, autojump_clock: MockClock
) -> None:
    async with two_hosts() as hosts:
        hosts.arrival.fails_in = [method]
        await hosts.migrate()
        assert hosts.there.incoming is not None
        assert isinstance(hosts.there.incoming.error, NotStartedError)
        assert state(hosts.there) == "paused"
        with pytest.raises(BlockedError, match="the destination's word that it has the guest"):
            await hosts.here.cont()
        hosts.arrival.fails_in = []
        await hosts.there.cont()
        assert state(hosts.there) == "running"


async def test_guest_whose_fate_is_unknown_stands_still_and_may_be_told_to_run(
    network: Network, autojump_clock: MockClock
) -> None:
    network.far = WITHOUT_THE_LAST_WORD
    async with two_hosts(storage_is_shared=False) as hosts:
        hosts.arrival.fails_in = ["resume"]
        migration = await hosts.migrate()
        assert isinstance(migration.error, UnknownOutcomeError)
        assert not migration.is_confirmed
        assert state(hosts.here) == "postmigrate"
        assert state(hosts.there) == "paused"
        with pytest.raises(BlockedError, match="moved away already"):
            await hosts.here.start_migration("memory:other")
        await hosts.here.cont()
        assert state(hosts.here) == "running"
        again = await hosts.here.start_migration("memory:nowhere")
        await over(hosts.here)
        assert isinstance(again.error, ConnectError)


async def test_guest_whose_fate_is_unknown_does_not_run_while_the_other_side_has_its_disk(
    network: Network, autojump_clock: MockClock
) -> None:
    network.far = WITHOUT_THE_LAST_WORD
    async with two_hosts() as hosts:
        hosts.arrival.fails_in = ["resume"]
        migration = await hosts.migrate()
        assert isinstance(migration.error, UnknownOutcomeError)
        assert hosts.arrival.disk.is_active
        with pytest.raises(LocalError, match="belongs to somebody else"):
            await hosts.here.cont()
        assert state(hosts.here) == "postmigrate"
        hosts.arrival.disk.inactivate()
        await hosts.here.cont()
        assert state(hosts.here) == "running"
        with pytest.raises(LocalError, match="belongs to somebody else"):
            await hosts.there.cont()


async def test_guest_whose_source_was_lost_at_the_last_word_stands_still(
    network: Network, autojump_clock: MockClock
) -> None:
    """It may be told to run, by somebody who has looked at the source."""
    network.near = EndsUnsaid
    async with two_hosts() as hosts:
        await hosts.migrate()
        assert hosts.there.incoming is not None
        assert isinstance(hosts.there.incoming.error, UnknownOutcomeError)
        assert state(hosts.there) == "paused"
        assert state(hosts.here) == "postmigrate"
        await hosts.there.cont()
