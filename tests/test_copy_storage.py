"""Disks move beside the migration, from QEMU to QEMU, and nothing of it is left behind."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from qemu_peer.boot import assert_consecutive
from qemu_peer.find import QemuBinary, qemu_binaries
from support.commands import VerbProcess, transship, wait_until
from support.disks import IMAGES, assert_same_images, content, create_image, disked_guest
from support.passages import listen
from support.writing_boot import assert_all_written, last_sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qemu_peer.process import QemuProcess

pytestmark = pytest.mark.qemu

DOCS: Final = Path(__file__).parents[1] / "docs"

EAGER: Final = ("--bandwidth", "unlimited", "--downtime", "2s")
SLOW: Final = ("--bandwidth", "100KiB/s", "--downtime", "1ms")
"""The first pass takes some ten seconds: what is to happen meanwhile happens in it."""

HURRY: Final = {"max-bandwidth": 0, "downtime-limit": 2000}
SLOW_DISKS: Final = ("--storage-bandwidth", "3MiB/s")
COPYING: Final = r'"copying-disks".*"quick", "copied_bytes": [1-9]'
MIGRATING: Final = r'"status": "active"'

FIRST_WITH_IT: Final = (10, 0)
"""The QEMU that has no block migration of its own any more."""


@pytest.fixture
def qemu() -> QemuBinary:
    """A QEMU whose memory under TCG arrives whole, with a guest that rewrites its pages."""
    for binary in qemu_binaries():
        if binary.version >= FIRST_WITH_IT:
            return binary
    pytest.skip("no QEMU 10.0 or later here: name one in TRANSSHIP_QEMU")


def monitor(place: Path, name: str) -> tuple[str, str]:
    """A QMP server for the verb; the test itself has the other one."""
    return "-qmp", f"unix:{place / name}.1,server=on,wait=off"


@asynccontextmanager
async def running(qemu: QemuBinary, place: Path, **options: Any) -> AsyncIterator[QemuProcess]:
    """The source: its guest writes two disks all the time."""
    async with disked_guest(qemu, place, "a", arguments=monitor(place, "a"), **options) as source:
        await source.wait_sweeps(50)
        yield source


def waiting(qemu: QemuBinary, place: Path, name: str = "b", **options: Any) -> QemuProcess:
    """A destination with disks of its own."""
    arguments = (*monitor(place, name), *options.pop("arguments", ()))
    return disked_guest(qemu, place, name, arguments=arguments, incoming="defer", **options)


@asynccontextmanager
async def pair(
    qemu: QemuBinary, place: Path
) -> AsyncIterator[tuple[QemuProcess, QemuProcess, str]]:
    """A source, a destination that listens, and its address."""
    async with running(qemu, place) as source, waiting(qemu, place) as destination:
        yield source, destination, await listen(destination, place)


def order(place: Path, uri: str, name: str = "b", scheme: str = "unix") -> list[str]:
    """The verb and what it always needs."""
    nbd = f"unix:{place / name}.nbd" if scheme == "unix" else "tcp:127.0.0.1:10873"
    return [
        *("migrate", uri, "--qmp", str(place / "a.1"), "--copy-storage"),
        *("--destination-qmp", str(place / f"{name}.1"), "--storage-address", nbd),
    ]


async def expect_nothing_left(*sides: QemuProcess) -> None:
    """No job, node, export or server is there that a copy has made, and no switch is on."""
    for side in sides:
        assert await side.execute("query-jobs") == []
        nodes = await side.execute("query-named-block-nodes", flat=True)
        assert not [node for node in nodes if node["node-name"].startswith("transship")]
        assert await side.execute("query-block-exports") == []
        capabilities = await side.execute("query-migrate-capabilities")
        assert not [one for one in capabilities if one["state"] and "pause" in one["capability"]]
        with pytest.raises(Exception, match="NBD server not running"):
            await side.execute("nbd-server-stop")


async def expect_guest(source: QemuProcess) -> None:
    """The guest runs on the source, and has lost nothing; its disks are right when it stops."""
    assert await source.run_state() == "running"
    await source.wait_sweeps()
    assert_consecutive(source.serial_bytes())
    await expect_nothing_left(source)


async def expect_disks(side: QemuProcess, folder: Path) -> None:
    """Stop the guest for good: its disks hold all that it has written."""
    await side.stop()
    sweep = last_sweep(side.ram())
    await side.execute("quit")
    await side.wait_exit()
    for image in IMAGES[1:]:
        assert_all_written(content(folder / image), sweep)


# --- to the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
async def test_disks_are_the_same_on_both_sides_at_the_hand_over(
    qemu: QemuBinary, place: Path, scheme: str
) -> None:
    async with (
        running(qemu, place) as source,
        waiting(qemu, place, paused=True) as destination,
    ):
        uri = await listen(destination, place)
        moved = (await transship(*order(place, uri, scheme=scheme), *EAGER)).expect(0)
        await expect_nothing_left(source, destination)
        disks = moved.facts["storage"]["disks"]
        assert [disk["name"] for disk in disks] == ["ide0-hd0", "quick", "disk1"]
        assert all(disk["copied_bytes"] == disk["total_bytes"] for disk in disks)
        for side in (source, destination):
            await side.execute("quit")
            await side.wait_exit()
    for image in IMAGES:
        assert_same_images(place / "a" / image, place / "b" / image)


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--write-blocking",), marks=pytest.mark.soak)]
)
async def test_guest_writes_on_at_the_destination_and_no_write_is_lost(
    qemu: QemuBinary, place: Path, options: tuple[str, ...]
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        async with VerbProcess(*order(place, uri), *SLOW, *options) as migrate:
            await wait_until(migrate, MIGRATING)
            await source.execute("migrate-set-parameters", **HURRY)
            (await migrate.outcome()).expect(0)
        await destination.wait_sweeps()
        await destination.stop()
        assert_consecutive(source.serial_bytes() + destination.serial_bytes())
        await expect_disks(destination, place / "b")


async def test_incremental_copies_what_lies_above_the_backing_file(
    qemu: QemuBinary, place: Path
) -> None:
    backing = place / "base.raw"
    create_image(backing, "raw", "64M")
    with backing.open("r+b") as base:
        base.seek(40 << 20)
        base.write(b"below" * 1000)
    async with (
        running(qemu, place, backing=backing) as source,
        waiting(qemu, place, backing=backing, paused=True) as destination,
    ):
        uri = await listen(destination, place)
        chosen = ("--incremental", "--disk", "quick")
        moved = (await transship(*order(place, uri), *EAGER, *chosen)).expect(0)
        (disk,) = moved.facts["storage"]["disks"]
        assert disk["name"] == "quick"
        assert (await destination.wait_migration())["status"] == "completed"
        for side in (source, destination):
            await side.execute("quit")
            await side.wait_exit()
    assert_same_images(place / "a" / "quick.qcow2", place / "b" / "quick.qcow2")
    assert not any(content(place / "b" / "plain.raw"))


async def test_disks_go_encrypted_where_the_migration_does(qemu: QemuBinary, place: Path) -> None:
    creds = {"qom-type": "tls-creds-anon", "id": "tls0"}
    async with running(qemu, place) as source, waiting(qemu, place) as destination:
        await source.execute("object-add", endpoint="client", **creds)
        refused = await transship(*order(place, "unix:/nowhere"), "--set", "tls-creds=tls0")
        assert "encrypts its migration" in refused.expect(3).stderr
        await destination.execute("object-add", endpoint="server", **creds)
        await destination.execute("migrate-set-parameters", **{"tls-creds": "tls0"})
        uri = await listen(destination, place)
        (await transship(*order(place, uri), *EAGER)).expect(0)
        await destination.wait_sweeps()
        await expect_disks(destination, place / "b")


# --- cancelled ------------------------------------------------------------------------------------


async def test_ctrl_c_while_disks_are_copied_leaves_both_sides_as_they_were(
    qemu: QemuBinary, place: Path
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        async with VerbProcess(*order(place, uri), *SLOW_DISKS) as migrate:
            await wait_until(migrate, COPYING)
            migrate.interrupt()
            ended = (await migrate.outcome(timeout_s=10)).expect(5)
        assert ended.facts["status"] == "cancelled"
        assert ended.facts["guest"]["is_running"]
        await expect_guest(source)
        await expect_nothing_left(destination)
        (await transship(*order(place, uri), *EAGER)).expect(0)
        await destination.wait_sweeps()
        await expect_disks(destination, place / "b")


async def test_ctrl_c_while_memory_is_sent_leaves_the_source_as_it_was(
    qemu: QemuBinary, place: Path
) -> None:
    async with pair(qemu, place) as (source, _, uri):
        async with VerbProcess(*order(place, uri), *SLOW) as migrate:
            await wait_until(migrate, MIGRATING)
            migrate.interrupt()
            (await migrate.outcome(timeout_s=10)).expect(5)
        await expect_guest(source)
        await expect_disks(source, place / "a")


async def test_time_that_is_over_while_disks_are_copied_ends_the_copy(
    qemu: QemuBinary, place: Path
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        (await transship(*order(place, uri), *SLOW_DISKS, "--timeout", "2s")).expect(4)
        await expect_guest(source)
        await expect_nothing_left(destination)


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.4, 0.7, 1.1])
async def test_ctrl_c_at_any_moment_leaves_one_guest_with_its_disks(
    qemu: QemuBinary, place: Path, after_s: float
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        async with VerbProcess(*order(place, uri), *EAGER) as migrate:
            await wait_until(migrate, "no cap")
            await trio.sleep(after_s)
            migrate.interrupt()
            ended = await migrate.outcome(timeout_s=20)
        assert ended.exit_code in (0, 5), ended.stderr
        if ended.exit_code == 0:
            await destination.wait_sweeps()
            assert await source.run_state() == "postmigrate"
            await expect_disks(destination, place / "b")
        else:
            await expect_guest(source)
            await expect_disks(source, place / "a")


# --- killed ---------------------------------------------------------------------------------------


async def test_what_a_killed_copy_has_left_is_removed_by_the_next(
    qemu: QemuBinary, place: Path
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        async with VerbProcess(*order(place, uri), *SLOW_DISKS) as migrate:
            await wait_until(migrate, COPYING)
            migrate.kill()
            await migrate.outcome()
        assert await source.execute("query-jobs")
        (await transship(*order(place, uri), *EAGER)).expect(0)
        await expect_nothing_left(source, destination)
        await destination.wait_sweeps()
        await expect_disks(destination, place / "b")


async def test_guest_of_a_killed_migration_is_had_back_and_can_be_moved_again(
    qemu: QemuBinary, place: Path
) -> None:
    async with running(qemu, place) as source:
        async with waiting(qemu, place) as destination:
            uri = await listen(destination, place)
            async with VerbProcess(*order(place, uri), *SLOW) as migrate:
                await wait_until(migrate, MIGRATING)
                migrate.kill()
                await migrate.outcome()
            await source.execute("migrate-set-parameters", **HURRY)
            await source.wait_migration("pre-switchover")
            (await transship("cancel", "--qmp", place / "a.1")).expect(0)
            await destination.wait_exit()
        async with waiting(qemu, place, "c") as other:
            uri = await listen(other, place)
            (await transship(*order(place, uri, "c"), *EAGER)).expect(0)
            await other.wait_sweeps()
            await expect_disks(other, place / "c")


@pytest.mark.parametrize("moment", [COPYING, MIGRATING])
async def test_destination_that_dies_leaves_the_guest_with_its_disks(
    qemu: QemuBinary, place: Path, moment: str
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        options = SLOW_DISKS if moment == COPYING else SLOW
        async with VerbProcess(*order(place, uri), *options) as migrate:
            await wait_until(migrate, moment)
            os.kill(destination.pid, signal.SIGKILL)
            ended = (await migrate.outcome()).expect(1)
        assert ended.facts["guest"]["is_running"]
        await expect_guest(source)
        await expect_disks(source, place / "a")


@pytest.mark.parametrize("options", [(), ("--write-blocking",)])
async def test_destination_that_hangs_keeps_nobody_from_cancelling_and_moving_elsewhere(
    qemu: QemuBinary, place: Path, options: tuple[str, ...]
) -> None:
    async with running(qemu, place) as source:
        async with waiting(qemu, place) as destination:
            uri = await listen(destination, place)
            async with VerbProcess(*order(place, uri), *SLOW_DISKS, *options) as migrate:
                await wait_until(migrate, COPYING)
                os.kill(destination.pid, signal.SIGSTOP)
                await trio.sleep(1)
                migrate.interrupt()
                ended = (await migrate.outcome()).expect(5)
            assert f"not everything could be removed from unix:{place / 'b.1'}" in ended.stderr
            assert ended.facts["guest"]["is_running"]
        async with waiting(qemu, place, "c") as other:
            uri = await listen(other, place)
            (await transship(*order(place, uri, "c"), *EAGER)).expect(0)
            await other.wait_sweeps()
            assert_consecutive(source.serial_bytes() + other.serial_bytes())
            await expect_disks(other, place / "c")


async def test_second_ctrl_c_leaves_at_once_and_says_what_may_be_left(
    qemu: QemuBinary, place: Path
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        async with VerbProcess(*order(place, uri), *SLOW_DISKS) as migrate:
            await wait_until(migrate, COPYING)
            os.kill(destination.pid, signal.SIGSTOP)
            migrate.interrupt()
            await wait_until(migrate, "once more leaves at once")
            await trio.sleep(0.5)
            migrate.interrupt()
            left = (await migrate.outcome(timeout_s=3)).expect(130)
        assert "its disks may still be copied" in left.stderr
        os.kill(destination.pid, signal.SIGKILL)  # a QEMU may hang as long as its destination does
        await source.wait_run_state("running")
        await source.wait_sweeps()


async def test_source_that_dies_leaves_no_export_on_the_destination(
    qemu: QemuBinary, place: Path
) -> None:
    async with waiting(qemu, place) as destination, running(qemu, place) as source:
        uri = await listen(destination, place)
        async with VerbProcess(*order(place, uri), *SLOW_DISKS) as migrate:
            await wait_until(migrate, COPYING)
            os.kill(source.pid, signal.SIGKILL)
            ended = (await migrate.outcome()).expect(1)
        assert ended.facts["guest"] is None
        assert "does not answer any more" not in ended.facts["error"]["cause"]
        await expect_nothing_left(destination)


async def test_copy_that_breaks_while_memory_is_sent_cancels_the_migration(
    qemu: QemuBinary, place: Path
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        async with VerbProcess(*order(place, uri), *SLOW) as migrate:
            await wait_until(migrate, MIGRATING)
            for export in await destination.execute("query-block-exports"):
                await destination.execute("block-export-del", id=export["id"], mode="hard")
            ended = (await migrate.outcome()).expect(1)
        assert "the copy of disk" in ended.error["cause"]
        await expect_guest(source)
        await expect_disks(source, place / "a")


# --- refused --------------------------------------------------------------------------------------


async def test_destination_with_other_disks_is_refused_before_anything_is_set_up(
    qemu: QemuBinary, place: Path
) -> None:
    async with (
        running(qemu, place) as source,
        waiting(qemu, place, disk_bytes=65 << 20) as destination,
    ):
        uri = await listen(destination, place)
        refused = (await transship(*order(place, uri))).expect(3)
        assert "quick has 64.0 MiB (67108864 bytes) here and 65.0 MiB" in refused.stderr
        assert "disk1 has 64.0 MiB" in refused.stderr
        await expect_guest(source)
        await expect_nothing_left(destination)


async def test_destination_that_exports_something_else_is_left_alone(
    qemu: QemuBinary, place: Path
) -> None:
    async with pair(qemu, place) as (source, destination, uri):
        at = {"type": "unix", "data": {"path": str(place / "other.nbd")}}
        await destination.execute("nbd-server-start", addr=at)
        await destination.execute(
            "block-export-add", **{"type": "nbd", "id": "other", "node-name": "plain"}
        )
        refused = (await transship(*order(place, uri))).expect(3)
        assert "exports disks already; found other" in refused.stderr
        assert [one["id"] for one in await destination.execute("query-block-exports")] == ["other"]
        await expect_guest(source)


# --- as the guide says ----------------------------------------------------------------------------


async def test_command_of_the_guide_moves_a_machine(qemu: QemuBinary, place: Path) -> None:
    guide = (DOCS / "how-to" / "move-a-machine-with-its-disks.md").read_text()
    command = guide.partition("$ transship migrate")[2].partition("\ncap ")[0].replace("\\\n", "")
    arguments = command.replace("unix:/tmp/", f"unix:{place}/").split()
    for name in ("a", "b"):
        arguments = [one.replace(f"/{name}.qmp", f"/{name}.1") for one in arguments]
    async with running(qemu, place), waiting(qemu, place) as destination:
        await destination.migrate_incoming(f"unix:{place}/b.sock")
        moved = (await transship("migrate", *arguments)).expect(0)
        assert "the guest stands still while its disks are handed over" in moved.stderr
        await destination.wait_sweeps()
