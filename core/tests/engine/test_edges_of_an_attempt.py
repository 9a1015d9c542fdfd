"""Entering and leaving transports: what goes wrong there is never told of the guest."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Channel, Listener
from transship.engine.entering import entered
from transship.engine.globalstate import GlobalState
from transship.engine.incoming import IncomingMigration
from transship.engine.migration import Migration
from transship.engine.status import MigrationStatus
from transship.errors import ConnectError, MigrationError, RemoteError
from transship.plugin.registry import SectionRegistry
from transship.testing import FakeGuest, memory_channel_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock


class Machine(FakeGuest):
    """A guest without RAM and devices: only its run state travels."""

    def __init__(self, *, is_running: bool) -> None:
        super().__init__({}, is_running=is_running)


class Offers(Listener):
    """Offers the channels that it is given, and then does what it is told."""

    uri = "memory:"

    def __init__(self, *channels: Channel, then: Callable[[], None] = lambda: None) -> None:
        self._channels = list(channels)
        self._then = then

    async def accept(self) -> Channel:
        await trio.lowlevel.checkpoint()
        if not self._channels:
            self._then()
            await trio.sleep_forever()
        return self._channels.pop(0)


@asynccontextmanager
async def leaving_fails(what: Channel | Listener) -> AsyncIterator[Channel | Listener]:
    yield what
    raise OSError("the door is stuck")


@asynccontextmanager
async def plainly(what: Channel | Listener) -> AsyncIterator[Channel | Listener]:
    yield what


def fail() -> None:
    raise RuntimeError("no more")


async def moved(
    way_out: object = plainly, way_in: object = plainly, then: Callable[[], None] = lambda: None
) -> tuple[Migration, IncomingMigration, Machine, Machine]:
    near, far = memory_channel_pair()
    here, there = Machine(is_running=True), Machine(is_running=False)
    migration = Migration(here, SectionRegistry([GlobalState()]), way_out(near))  # type: ignore[operator]
    incoming = IncomingMigration(
        there,
        SectionRegistry([GlobalState()]),
        way_in(Offers(far, then=then)),  # type: ignore[operator]
    )
    async with trio.open_nursery() as nursery:
        for attempt in (migration, incoming):
            nursery.start_soon(_run, attempt)
    return migration, incoming, here, there


async def _run(attempt: Migration | IncomingMigration) -> None:
    with suppress(MigrationError):
        await attempt.run()


@pytest.mark.parametrize(
    "arguments",
    [{}, {"way_out": leaving_fails}, {"way_in": leaving_fails}, {"then": fail}],
    ids=["nothing", "closing at the source", "closing at the destination", "a second accept"],
)
async def test_trouble_with_the_transport_after_the_guest_has_moved_is_no_failure(
    arguments: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    migration, incoming, here, there = await moved(**arguments)  # type: ignore[arg-type]
    assert migration.error is incoming.error is None
    assert migration.status is incoming.status is MigrationStatus.COMPLETED
    assert there.is_running
    assert not here.is_running


@pytest.mark.parametrize("accepts_more", [True, False])
async def test_address_is_listened_on_only_if_sources_connect_to_it(
    accepts_more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Offers, "accepts_more", accepts_more)
    _, incoming, _, _ = await moved()
    assert incoming.listens is accepts_more


@pytest.mark.seed("S42")
async def test_connection_made_just_too_late_is_a_connect_error(
    autojump_clock: MockClock,
) -> None:
    near, _ = memory_channel_pair()
    has_left = False

    @asynccontextmanager
    async def slow() -> AsyncIterator[Channel]:
        nonlocal has_left
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
        try:
            yield near
        finally:
            has_left = True

    guest = Machine(is_running=True)
    migration = Migration(guest, SectionRegistry([GlobalState()]), slow())
    with pytest.raises(ConnectError, match="no connection within 30 s"):
        await migration.run()
    assert migration.status is MigrationStatus.FAILED
    assert guest.is_running
    assert has_left


async def test_failure_of_the_body_is_not_hidden_by_that_of_leaving() -> None:
    with pytest.raises(RemoteError, match="the real reason"):
        async with entered(leaving_fails_always(), 1.0, 1.0):
            raise RemoteError("the real reason")


@asynccontextmanager
async def leaving_fails_always() -> AsyncIterator[None]:
    try:
        yield
    finally:
        raise OSError("the door is stuck")


async def test_leaving_that_hangs_has_an_end(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def hangs() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await trio.sleep_forever()

    started_s = trio.current_time()
    with pytest.raises(RemoteError, match="the real reason"):
        async with entered(hangs(), 5.0, 1.0):
            raise RemoteError("the real reason")
    async with entered(hangs(), 5.0, 1.0):
        pass
    assert trio.current_time() - started_s == pytest.approx(2.0)


async def test_leaving_is_shielded_from_the_cancellation_that_caused_it() -> None:
    has_cleaned = False

    @asynccontextmanager
    async def careful() -> AsyncIterator[None]:
        nonlocal has_cleaned
        try:
            yield
        finally:
            await trio.lowlevel.checkpoint()
            has_cleaned = True

    with trio.CancelScope() as scope:
        async with entered(careful(), 5.0, 1.0):
            scope.cancel()
            await trio.sleep_forever()
    assert has_cleaned
