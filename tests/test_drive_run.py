"""The command line drives guests that we host, as it drives those of a QEMU."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import trio
from support.commands import VerbProcess, transship

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytest.importorskip("transship_unix")
pytest.importorskip("transship_ram")

GUEST: Final = "synthetic:ram=64MiB,dirty-rate=64MiB/s,working-set=16MiB"
SLOW: Final = ("--bandwidth", "16MiB/s", "--downtime", "1ms")
AT_ONCE_S: Final = 1.0


@asynccontextmanager
async def hosted(place: Path, name: str, *options: str) -> AsyncIterator[VerbProcess]:
    """A guest of ours; it can be driven at ``PLACE/NAME.qmp``."""
    async with VerbProcess("run", GUEST, "--qmp", f"unix:{place / name}.qmp", *options) as host:
        await host.said("qmp ")
        yield host


@asynccontextmanager
async def taking(place: Path) -> AsyncIterator[str]:
    """Somebody who takes the guest in; gives the address."""
    async with VerbProcess("run", GUEST, "--incoming", f"unix:{place / 'in'}") as destination:
        yield await destination.listening()


@asynccontextmanager
async def deaf(place: Path) -> AsyncIterator[str]:
    """Somebody who accepts a connection and never reads from it; gives the address."""
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(place / "deaf"))
        sock.listen()
        yield f"unix:{place / 'deaf'}"


async def test_guest_moves_and_both_sides_are_watched(place: Path) -> None:
    uri = f"unix:{place / 'in'}"
    here, there = ("--qmp", place / "a.qmp"), ("--qmp", place / "b.qmp")
    async with hosted(place, "a"), hosted(place, "b", "--incoming", uri) as destination:
        await destination.listening()
        moved = (await transship("migrate", uri, *here, "--downtime", "1s")).expect(0).facts
        assert moved["status"] == "completed"
        assert moved["guest"]["is_running"] is False
        assert moved["statistics"]["total_bytes"] >= 64 << 20
        assert moved["statistics"]["dirty_syncs"] >= 2
        assert moved["statistics"]["downtime_s"] < 1.5
        (await transship("watch", *there)).expect(0)
        assert (await transship("status", *there)).expect(0).facts["guest"]["is_running"]


@pytest.mark.parametrize("peer", [taking, deaf], ids=["reads", "never-reads"])
async def test_cancelled_migration_leaves_the_guest_running(
    place: Path, peer: Callable[[Path], AbstractAsyncContextManager[str]]
) -> None:
    here = ("--qmp", place / "a.qmp")
    async with hosted(place, "a"), peer(place) as uri:
        async with VerbProcess("migrate", uri, *here, *SLOW) as migrate:
            await migrate.said('{"status": "active"')
            cancelled = (await transship("cancel", *here)).expect(0).facts
            (await migrate.outcome()).expect(5)
        assert cancelled["status"] == "cancelled"
        assert cancelled["took_s"] < AT_ONCE_S
        assert cancelled["guest"]["is_running"]


async def test_time_that_is_over_and_ctrl_c_cancel(place: Path) -> None:
    here = ("--qmp", place / "a.qmp")
    async with hosted(place, "a"), deaf(place) as uri:
        ended = (await transship("migrate", uri, *here, *SLOW, "--timeout", "1s")).expect(4)
        assert ended.facts["guest"]["is_running"]
        async with VerbProcess("migrate", uri, *here, *SLOW) as migrate:
            await migrate.said('{"status": "active"')
            migrate.interrupt()
            ended = (await migrate.outcome()).expect(5)
        assert ended.facts["guest"]["is_running"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nonsense:x",), 3),
        (("tcp:127.0.0.1:1", "--cap", "warp"), 3),
        (("tcp:127.0.0.1:1", "--set", "warp=9"), 3),
        (("unix:/nowhere/at/all",), 1),
    ],
)
async def test_what_cannot_be_leaves_the_guest_running(
    place: Path, arguments: tuple[str, ...], code: int
) -> None:
    here = ("--qmp", place / "a.qmp")
    async with hosted(place, "a"):
        (await transship("migrate", *arguments, *here)).expect(code)
        assert (await transship("status", *here)).expect(0).facts["guest"]["is_running"]


async def test_source_that_dies_is_an_unknown_outcome(place: Path) -> None:
    async with hosted(place, "a") as source, deaf(place) as uri:
        async with VerbProcess("migrate", uri, "--qmp", place / "a.qmp", *SLOW) as migrate:
            await migrate.said('{"status": "active"')
            source.kill()
            (await migrate.outcome()).expect(7)
