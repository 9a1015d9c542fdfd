"""A guest moves with its disks, which it writes to all the time, between two of us."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from support.commands import VerbProcess, transship

from transship import migrate, receive
from transship.abc import Capability, Disk, Parameters
from transship.control.address import QmpAddress
from transship.control.client import open_qmp
from transship.disks import RawImage
from transship.errors import CancelledError, MigrationError
from transship.guests.synthetic import SyntheticGuest
from transship.wire.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from transship.engine.migration import Migration


class Passage:
    """A guest with one disk here, and a place for it there.

    Args:
        place: A folder.
        size_bytes: Of the disk.
        rate_bytes_per_s: How fast it is written, in blocks of 4 KiB all over it.
    """

    def __init__(self, place: Path, size_bytes: int, rate_bytes_per_s: int) -> None:
        self._place = place
        self.images = {side: place / f"{side}.raw" for side in ("here", "there")}
        disks = [Disk("disk0", RawImage.create(path, size_bytes)) for path in self.images.values()]
        disks[0].activate()
        self.here = SyntheticGuest(
            16 * MIB, disks=disks[:1], disk_rate_bytes_per_s=rate_bytes_per_s
        )
        self.there = SyntheticGuest(16 * MIB, disks=disks[1:], fill=False)

    def close(self) -> None:
        self.here.close()
        self.there.close()

    async def run(
        self,
        *capabilities: Capability,
        parameters: Parameters | None = None,
        meanwhile: Callable[[Migration], object] = lambda _: None,
    ) -> Migration:
        """Move the guest, with its disk."""
        parameters = parameters or Parameters(max_bandwidth_bytes_per_s=0, downtime_limit_s=1)
        uri = f"unix:{self._place / 'to.sock'}"
        is_listening = trio.Event()
        incoming = receive(self.there, uri, on_listening=lambda _: is_listening.set())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_to_its_end, incoming.run)
            await is_listening.wait()
            on = {Capability.BLOCK, *capabilities}
            migration = migrate(self.here, uri, capabilities=on, parameters=parameters)
            nursery.start_soon(_to_its_end, migration.run)
            while not migration.is_over:
                meanwhile(migration)
                await trio.sleep(0.02)
        return migration


async def _to_its_end(run: Callable[[], Awaitable[object]]) -> None:
    with suppress(MigrationError):
        await run()


@pytest.fixture
def fill(place: Path) -> Iterator[Callable[[int, int], Passage]]:
    """Makes a passage whose disk is full of something that cannot be guessed."""
    passages: list[Passage] = []

    def make(size_bytes: int, rate_bytes_per_s: int) -> Passage:
        passage = Passage(place, size_bytes, rate_bytes_per_s)
        passages.append(passage)
        device = passage.here.disks()[0].device
        for offset in range(0, size_bytes, 4 * MIB):
            if offset % (16 * MIB):
                device.write(offset, os.urandom(min(4 * MIB, size_bytes - offset)))
        return passage

    yield make
    for passage in passages:
        passage.close()


def same_content(images: dict[str, Path]) -> bool:
    with images["here"].open("rb") as here, images["there"].open("rb") as there:
        while (ours := here.read(MIB)) == there.read(MIB):
            if not ours:
                return True
    return False


async def moves(passage: Passage, *capabilities: Capability) -> Migration:
    """The guest goes, and nothing that it has written is lost."""
    await passage.here.resume()
    await trio.sleep(0.2)
    migration = await passage.run(*capabilities)
    assert migration.error is None
    here, there = passage.here.disks()[0], passage.there.disks()[0]
    assert (here.is_active, there.is_active) == (False, True)
    await trio.sleep(0.2)
    await passage.there.pause()
    verdict = await trio.to_thread.run_sync(passage.there.verify)
    assert verdict.ok, verdict.reason
    assert verdict.disk_blocks > 0
    return migration


@pytest.mark.parametrize("capabilities", [(), (Capability.ZERO_BLOCKS,)], ids=["full", "zeros"])
async def test_guest_moves_with_a_disk_that_it_writes_to(
    capabilities: tuple[Capability, ...], fill: Callable[[int, int], Passage]
) -> None:
    passage = fill(48 * MIB + 4 * KIB, 512 * KIB)
    migration = await moves(passage, *capabilities)
    block = migration.statistics.sections["block"]
    assert block["chunks"] + block["zero_chunks"] >= 49
    assert bool(block["zero_chunks"]) == bool(capabilities)
    assert block["remaining"] == 0


async def test_disk_of_a_guest_that_stands_still_is_the_same_there(
    fill: Callable[[int, int], Passage],
) -> None:
    passage = fill(20 * MIB + 4 * KIB, 0)
    migration = await passage.run(Capability.ZERO_BLOCKS)
    assert migration.error is None
    assert same_content(passage.images)
    assert passage.images["there"].stat().st_blocks < passage.images["there"].stat().st_size // 512


async def test_migration_that_is_cancelled_leaves_the_disk_to_the_source(
    fill: Callable[[int, int], Passage],
) -> None:
    passage = fill(64 * MIB, 512 * KIB)
    await passage.here.resume()

    def cancel(migration: Migration) -> None:
        if migration.statistics.sections.get("block", {}).get("chunks", 0) > 10:
            migration.cancel()

    slow = Parameters(max_bandwidth_bytes_per_s=50 * MIB)
    migration = await passage.run(parameters=slow, meanwhile=cancel)
    assert isinstance(migration.error, CancelledError)
    here, there = passage.here.disks()[0], passage.there.disks()[0]
    assert (here.is_active, there.is_active) == (True, False)
    assert passage.here.is_running
    await trio.sleep(0.1)
    await passage.here.pause()
    assert (await trio.to_thread.run_sync(passage.here.verify)).ok
    there.activate()  # nobody has it any more


async def test_cap_holds_for_disks(fill: Callable[[int, int], Passage]) -> None:
    passage = fill(32 * MIB, 0)
    cap = 20 * MIB
    started_s = trio.current_time()
    migration = await passage.run(parameters=Parameters(max_bandwidth_bytes_per_s=cap))
    assert migration.error is None
    assert trio.current_time() - started_s > 0.75 * 32 * MIB / cap


# Over QMP, by the command line.


def with_disk(image: Path) -> str:
    return f"synthetic:ram=16MiB,disk={image},disk-size=40MiB,disk-rate=8KiB/s"


@asynccontextmanager
async def hosts(place: Path, source: str) -> AsyncIterator[tuple[Path, str]]:
    """A guest, and a place for it; gives the socket that drives it, and where to send it."""
    qmp, there = place / "here.qmp", with_disk(place / "there.raw")
    async with (
        VerbProcess("run", source, "--qmp", f"unix:{qmp}") as here,
        VerbProcess("run", there, "--incoming", f"unix:{place / 'in'}") as destination,
    ):
        await here.said("qmp ")
        yield qmp, await destination.listening()


@pytest.mark.seed("S18", "S29")
async def test_command_line_copies_disks_and_shows_how_much_is_left(place: Path) -> None:
    async with hosts(place, with_disk(place / "here.raw")) as (qmp, uri):
        command = ("migrate", "--qmp", qmp, uri, "--blk", "--bandwidth", "10MiB/s")
        async with (
            VerbProcess(*command, "--downtime", "2s") as migrate,
            open_qmp(QmpAddress.parse(str(qmp)), timeout_s=5) as client,
        ):
            await migrate.said('{"status": "active"')
            info: Any = await client.execute("query-migrate")
            outcome = (await migrate.outcome()).expect(0)
        assert info["disk"]["total"] == 40 * MIB
        assert 0 < info["disk"]["remaining"] <= 40 * MIB
        assert '"disk_total_bytes": 41943040' in outcome.stderr
        after = (await transship("status", "--qmp", qmp)).expect(0).facts
        assert after["status"] == "completed"


async def test_disks_of_a_guest_without_are_refused_by_name(place: Path) -> None:
    async with hosts(place, "synthetic:ram=16MiB") as (qmp, uri):
        refused = (await transship("migrate", "--qmp", qmp, uri, "--blk")).expect(3)
        assert "the guest has none" in refused.error["cause"]


@pytest.mark.soak
async def test_guest_moves_with_a_large_disk_under_random_writes(
    fill: Callable[[int, int], Passage],
) -> None:
    await moves(fill(2048 * MIB, 256 * KIB), Capability.ZERO_BLOCKS)
