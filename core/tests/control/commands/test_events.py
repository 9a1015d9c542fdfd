"""What clients are told, in which order, and when they are not."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from transship.control.client import QmpClient, open_qmp
from transship.control.service import serve_host

from ..control_helpers import negotiated
from .bench import ADDRESS, Bench, Json, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transship.control.client import QmpEvents

MOVED = ["active", "STOP", "device", "completed"]


class Client:
    """A client, and the events that it was told."""

    def __init__(self, qmp: QmpClient, events: QmpEvents) -> None:
        self.execute = qmp.execute
        self._events = events

    async def until(self, last: str) -> list[str]:
        """The events up to one: statuses, ``pass N``, and names."""
        heard: list[str] = []
        with trio.fail_after(5):
            while last not in heard:
                event = await anext(self._events)
                if event.name == "MIGRATION":
                    assert event.data.keys() == {"status"}
                    heard.append(str(event.data["status"]))
                elif event.name == "MIGRATION_PASS":
                    assert event.data.keys() == {"pass"}
                    heard.append(f"pass {event.data['pass']}")
                else:
                    heard.append(event.name)
        return heard

    async def switch(self, *capabilities: str) -> None:
        """Switch capabilities on."""
        await self.execute(
            "migrate-set-capabilities",
            capabilities=[{"capability": one, "state": True} for one in capabilities],
        )


@asynccontextmanager
async def client_of(side: Side, path: Path) -> AsyncIterator[Client]:
    """Serve a host, and be its client, as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_host, f"unix:{path}", side.host)
        async with open_qmp(address) as qmp:
            with qmp.subscribe() as events:
                yield Client(qmp, events)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def source(bench: Bench, tmp_path: Path) -> AsyncIterator[Client]:
    async with client_of(bench.here, tmp_path / "here.qmp") as client:
        yield client


@pytest.fixture
async def destination(bench: Bench, tmp_path: Path) -> AsyncIterator[Client]:
    async with client_of(bench.there, tmp_path / "there.qmp") as client:
        yield client


def without_passes(heard: list[str]) -> list[str]:
    return [one for one in heard if not one.startswith("pass ")]


def passes(heard: list[str]) -> list[str]:
    return [one for one in heard if one.startswith("pass ")]


async def move(source: Client, destination: Client) -> None:
    await destination.execute("migrate-incoming", uri=ADDRESS)
    await source.execute("migrate", uri=ADDRESS)


async def test_guest_that_runs_moves_in_this_order(source: Client, destination: Client) -> None:
    await source.switch("events")
    await destination.switch("events")
    await move(source, destination)
    heard = await source.until("completed")
    assert heard[:3] == ["setup", "pass 1", "active"]
    assert without_passes(heard[2:]) == MOVED
    assert heard[-2].startswith("pass ")
    assert heard.index("device") < heard.index(heard[-2])
    numbers = [f"pass {number}" for number in range(1, len(passes(heard)) + 1)]
    assert passes(heard) == numbers
    assert await destination.until("completed") == ["setup", "active", "RESUME", "completed"]


async def test_guest_that_stands_still_moves_in_the_same_order_without_stop(
    source: Client, destination: Client
) -> None:
    await source.execute("stop")
    assert await source.until("STOP") == ["STOP"]
    await source.switch("events")
    await destination.switch("events")
    await move(source, destination)
    heard = await source.until("completed")
    assert without_passes(heard) == ["setup", "active", "device", "completed"]
    assert await destination.until("completed") == ["setup", "active", "completed"]


async def test_source_that_waits_to_switch_over_says_so_between_stop_and_device(
    source: Client, destination: Client
) -> None:
    await source.switch("events", "pause-before-switchover")
    await move(source, destination)
    before = await source.until("pre-switchover")
    assert without_passes(before) == ["setup", "active", "STOP", "pre-switchover"]
    await source.execute("migrate-continue", state="pre-switchover")
    after = await source.until("completed")
    assert after == ["device", f"pass {len(passes(before)) + 1}", "completed"]


async def test_migration_that_is_cancelled_says_so_on_both_sides(
    source: Client, destination: Client, bench: Bench
) -> None:
    bench.here.guest.is_held = True
    await source.switch("events")
    await destination.switch("events")
    await move(source, destination)
    assert await source.until("active") == ["setup", "pass 1", "active"]
    await source.execute("migrate_cancel")
    assert await source.until("cancelled") == ["cancelling", "cancelled"]
    assert await destination.until("failed") == ["setup", "active", "failed"]


async def test_guest_that_stays_after_all_is_resumed_before_the_end(
    source: Client, destination: Client
) -> None:
    await source.switch("events", "pause-before-switchover")
    await move(source, destination)
    await source.until("pre-switchover")
    await source.execute("migrate_cancel")
    assert await source.until("cancelled") == ["cancelling", "RESUME", "cancelled"]


async def test_migration_that_cannot_connect_fails(source: Client) -> None:
    await source.switch("events")
    await source.execute("migrate", uri="unix:/nobody")
    assert await source.until("failed") == ["setup", "failed"]


async def test_migration_that_was_refused_says_nothing(source: Client) -> None:
    await source.switch("events")
    with pytest.raises(Exception, match="malformed"):
        await source.execute("migrate", uri="unix:")
    await source.execute("stop")
    assert await source.until("STOP") == ["STOP"]


@pytest.mark.seed("S22")
async def test_without_the_capability_nothing_is_said_of_the_migration(
    source: Client, destination: Client, bench: Bench
) -> None:
    await move(source, destination)
    assert await source.until("STOP") == ["STOP"]
    assert await destination.until("RESUME") == ["RESUME"]
    await bench.here.reached("completed")
    await bench.there.reached("completed")
    for client, last in ((source, "SHUTDOWN"), (destination, "STOP")):
        await client.execute("quit" if last == "SHUTDOWN" else "stop")
        assert await client.until(last) == [last]


async def test_capability_of_one_side_is_nothing_to_the_other(
    source: Client, destination: Client, bench: Bench
) -> None:
    await destination.switch("events")
    await move(source, destination)
    assert await destination.until("completed") == ["setup", "active", "RESUME", "completed"]
    await bench.here.reached("completed")
    await source.execute("quit")
    assert await source.until("SHUTDOWN") == ["STOP", "SHUTDOWN"]


async def test_operator_who_pauses_and_resumes_is_told(source: Client) -> None:
    for command in ("stop", "stop", "cont", "cont", "stop"):
        await source.execute(command)
    await source.execute("quit")
    assert await source.until("SHUTDOWN") == ["STOP", "RESUME", "STOP", "SHUTDOWN"]


async def test_all_clients_are_told_and_the_data_is_that_of_qemu(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "qmp"
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        await nursery.start(serve_host, f"unix:{path}", bench.here.host)
        clients = [await stack.enter_async_context(negotiated(path)) for _ in range(5)]
        began_s = time.time()
        await clients[0].send(b'{"execute": "stop"}{"execute": "quit"}')
        for number, client in enumerate(clients):
            heard: list[Any] = [await client.read() for _ in range(4 if number == 0 else 2)]
            events: list[Json] = [message for message in heard if "event" in message]
            for event in events:
                stamp = event.pop("timestamp")
                assert 0 <= stamp["seconds"] + stamp["microseconds"] / 1e6 - began_s < 5
            assert events == [
                {"event": "STOP"},
                {"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-qmp-quit"}},
            ]
        nursery.cancel_scope.cancel()
