"""A host waits for a guest: where, how often, and what ends the waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from memory_transport import TAKEN

from transship.engine.notifiers import Notice, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, ConnectError, PluginError

from .hosted import URI, over, state, two_hosts

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.mark.seed("S34", "S69")
async def test_address_to_wait_at_must_make_sense() -> None:
    async with two_hosts(listens=False) as hosts:
        with pytest.raises(PluginError, match="'carrier-pigeon:'"):
            await hosts.there.start_incoming("carrier-pigeon:coop")
        with pytest.raises(BlockedError, match="is no migration address"):
            await hosts.there.start_incoming("anywhere")
        assert hosts.there.incoming is None
        await hosts.there.start_incoming(URI)


@pytest.mark.seed("S34")
async def test_place_where_nobody_can_listen_is_an_error_and_another_may_be_tried(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(listens=False) as hosts:
        for _ in range(2):
            with pytest.raises(ConnectError, match="cannot listen"):
                await hosts.there.start_incoming(TAKEN)
            assert hosts.there.incoming is hosts.there.active is None
            assert state(hosts.there) == "inmigrate"
        assert hosts.over == []
        incoming = await hosts.there.start_incoming(URI)
        assert incoming.address == URI
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        assert state(hosts.there) == "running"


async def test_hook_of_the_host_may_refuse_to_wait_and_be_asked_again() -> None:
    def refuse(notice: Notice) -> None:
        if notice == StatusReached(MigrationStatus.SETUP):
            raise BlockedError("no room for a guest")

    async with two_hosts(listens=False) as hosts:
        remove = hosts.there.notifiers.add(refuse)
        with pytest.raises(BlockedError, match="no room for a guest"):
            await hosts.there.start_incoming(URI)
        assert hosts.there.incoming is None
        assert state(hosts.there) == "inmigrate"
        remove()
        await hosts.there.start_incoming(URI)


async def test_waiting_that_whoever_asked_for_it_gave_up_can_be_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    async with two_hosts(listens=False) as hosts:
        with trio.CancelScope() as scope:
            scope.cancel()
            await hosts.there.start_incoming(TAKEN)
        assert scope.cancelled_caught
        await trio.sleep(1.0)
        assert hosts.there.active is None
        await hosts.there.start_incoming(URI)


async def test_waiting_twice_is_refused_also_once_it_has_failed(autojump_clock: MockClock) -> None:
    async with two_hosts() as hosts:
        incoming = hosts.there.incoming
        with pytest.raises(BlockedError, match="has begun to wait"):
            await hosts.there.start_incoming("memory:other")
        hosts.arrival.fails_in = ["prepare"]
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        with pytest.raises(BlockedError, match="has begun to wait"):
            await hosts.there.start_incoming("memory:other")
        assert hosts.there.incoming is incoming
        await over(hosts.here)


async def test_guest_that_is_here_does_not_wait_for_another(autojump_clock: MockClock) -> None:
    async with two_hosts() as hosts:
        with pytest.raises(BlockedError, match="does not wait") as caught:
            await hosts.here.start_incoming("memory:other")
        assert (caught.value.expected, caught.value.found) == ("inmigrate", "running")
        await hosts.here.start_migration(URI)
        await over(hosts.there)
        with pytest.raises(BlockedError, match="does not wait"):
            await hosts.there.start_incoming("memory:other")
