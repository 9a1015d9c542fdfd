"""The command line drives the migrations of real QEMUs, and ends them, over QMP."""

from __future__ import annotations

import os
import re
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio
from qemu_peer.boot import assert_consecutive
from qemu_peer.find import QemuBinary, qemu_binaries
from support.commands import Outcome, VerbProcess, transship, wait_until as wait_longer
from support.passages import guest, listen, receiving, waiting_guest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from qemu_peer.process import QemuProcess

pytestmark = pytest.mark.qemu

MACHINE: Final = "pc"
SLOW_BYTES_PER_S: Final = 512 << 10
SLOW: Final = ("--bandwidth", "512KiB/s", "--downtime", "1ms")
"""The counting guest writes to half a MiB at once, of which a page or two fit the downtime."""

EAGER: Final = ("--bandwidth", "unlimited", "--downtime", "2s")
wait_until = partial(wait_longer, timeout_s=20.0)

AT_ONCE_S: Final = 1.0
"""How soon after the request the guest must run on the source again."""


@pytest.fixture(params=qemu_binaries(), ids=lambda binary: binary.label)
def qemu(request: pytest.FixtureRequest) -> QemuBinary:
    binary: QemuBinary = request.param
    return binary


def monitors(place: Path, name: str) -> list[str]:
    """Arguments for two QMP servers more: a QEMU talks to one client on each."""
    paths = [place / f"{name}.{number}" for number in (1, 2)]
    return [word for path in paths for word in ("-qmp", f"unix:{path},server=on,wait=off")]


@asynccontextmanager
async def running(qemu: QemuBinary, place: Path, name: str = "a") -> AsyncIterator[QemuProcess]:
    """A QEMU whose guest counts; it can be driven at ``PLACE/NAME.1`` and ``PLACE/NAME.2``."""
    async with guest(qemu, place, name, MACHINE, arguments=monitors(place, name)) as source:
        await source.wait_sweeps()
        yield source


@asynccontextmanager
async def waiting(qemu: QemuBinary, place: Path, name: str = "b") -> AsyncIterator[QemuProcess]:
    """A QEMU that awaits the guest."""
    options = {"arguments": monitors(place, name)}
    async with waiting_guest(qemu, place, name, MACHINE, **options) as destination:
        yield destination


@asynccontextmanager
async def deaf(place: Path) -> AsyncIterator[str]:
    """Somebody who accepts a connection and never reads from it; gives the address."""
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(place / "deaf"))
    sock.listen()
    with sock:
        yield f"unix:{place / 'deaf'}"


async def expect_guest(source: QemuProcess) -> None:
    """The guest runs, and has lost nothing."""
    assert await source.run_state() == "running"
    await source.wait_sweeps()
    assert_consecutive(source.serial_bytes())


# --- to the end -----------------------------------------------------------------------------------


async def test_guest_moves_from_qemu_to_qemu(qemu: QemuBinary, place: Path) -> None:
    async with running(qemu, place) as source, waiting(qemu, place) as destination:
        uri = await listen(destination, place)
        moved = (await transship("migrate", uri, "--qmp", place / "a.1", *EAGER)).expect(0)
        info = await source.migration()
        statistics = moved.facts["statistics"]
        assert statistics["transferred_bytes"] == info["ram"]["transferred"]
        assert statistics["total_s"] == info["total-time"] / 1000
        assert statistics["downtime_s"] == info["downtime"] / 1000
        assert statistics["dirty_syncs"] == info["ram"]["dirty-sync-count"]
        assert moved.facts["guest"] == {"run_state": "postmigrate", "is_running": False}
        await destination.wait_sweeps()
        assert_consecutive(source.serial_bytes() + destination.serial_bytes())


async def test_guest_moves_from_qemu_into_a_checkpoint(qemu: QemuBinary, place: Path) -> None:
    folder = place / "vm"
    async with running(qemu, place), receiving(place, folder) as (receive, uri):
        order = ("--qmp", place / "a.1", *EAGER, "--cap", "return-path")
        (await transship("migrate", uri, *order)).expect(0)
        (await receive.outcome()).expect(0)
    (await transship("inspect", folder)).expect(0)


async def test_both_sides_can_be_asked_and_watched(qemu: QemuBinary, place: Path) -> None:
    async with running(qemu, place) as source, waiting(qemu, place) as destination:
        uri = await listen(destination, place, "tcp")
        there = (await transship("status", "--qmp", place / "b.1")).expect(0).facts
        assert there["guest"]["run_state"] == "inmigrate"
        assert there["listening"] == [uri]
        assert there["peer"]["version"] == "QEMU " + ".".join(map(str, qemu.version))
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *SLOW) as migrate:
            await wait_until(migrate, r'"dirty_syncs": [2-9]')
            here = (await transship("status", "--qmp", place / "a.2")).expect(0).facts
            assert here["status"] == "active"
            assert here["limits"]["max_bandwidth_bytes_per_s"] == SLOW_BYTES_PER_S
            assert here["statistics"]["total_bytes"] > source.ram_path.stat().st_size
            watch_here = VerbProcess("watch", "--qmp", place / "a.2")
            watch_there = VerbProcess("watch", "--qmp", place / "b.1")
            async with watch_here, watch_there:
                await wait_until(watch_here, '"active"')
                await wait_until(watch_there, '"active"')
                eager = {"downtime-limit": 2000, "max-bandwidth": 0}
                await source.execute("migrate-set-parameters", **eager)
                done = [(await verb.outcome()).expect(0) for verb in (migrate, watch_here)]
                (await watch_there.outcome()).expect(0)
        assert done[0].facts["statistics"] == done[1].facts["statistics"]


async def test_guest_that_writes_too_fast_is_said_not_to_converge(
    qemu: QemuBinary, place: Path
) -> None:
    for attempt in range(4):  # a guest that gets too little time writes slowly enough to be moved
        folder = place / str(attempt)
        folder.mkdir()
        async with running(qemu, folder) as source, waiting(qemu, folder) as destination:
            uri = await listen(destination, folder)
            order = ("--qmp", folder / "a.1", "--bandwidth", "200KiB/s", "--downtime", "1ms")
            ended = await transship("migrate", uri, *order, "--timeout", "15s")
            if ended.exit_code != 0:
                await expect_guest(source)
                break
    else:
        pytest.fail("the guest was moved each time")
    ended.expect(4)
    assert "cap 200 KiB/s\n" in ended.stderr
    assert re.search(
        r"will not converge at this rate: dirties \S+ .iB/s, sends \S+ .iB/s, cap 200 KiB/s "
        r"\(--bandwidth\)",
        ended.stderr,
    )
    assert ended.error["kind"] == "NotConvergedError"


# --- cancelled ------------------------------------------------------------------------------------


def expect_at_once(cancelled: Outcome) -> None:
    facts = cancelled.expect(0).facts
    assert facts["status"] == "cancelled"
    assert facts["guest"]["is_running"]
    assert facts["took_s"] < AT_ONCE_S


async def test_cancelled_migration_to_qemu_leaves_the_guest_running(
    qemu: QemuBinary, place: Path
) -> None:
    async with running(qemu, place) as source, waiting(qemu, place) as destination:
        uri = await listen(destination, place)
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *SLOW) as migrate:
            await wait_until(migrate, r'"dirty_syncs": [2-9]')
            expect_at_once(await transship("cancel", "--qmp", place / "a.2"))
            ended = (await migrate.outcome()).expect(5)
        assert ended.facts["guest"]["is_running"]
        await expect_guest(source)


async def test_cancelled_migration_into_a_checkpoint_leaves_the_guest_running(
    qemu: QemuBinary, place: Path
) -> None:
    folder = place / "vm"
    async with running(qemu, place) as source, receiving(place, folder) as (receive, uri):
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *SLOW) as migrate:
            await wait_until(migrate, r'"dirty_syncs": [2-9]')
            expect_at_once(await transship("cancel", "--qmp", place / "a.2"))
            (await migrate.outcome()).expect(5)
        assert (await receive.outcome()).exit_code != 0
        assert not folder.exists()
        await expect_guest(source)
        async with receiving(place, place / "again") as (again, there):
            (await transship("migrate", there, "--qmp", place / "a.1", *EAGER)).expect(0)
            (await again.outcome()).expect(0)


async def test_migration_to_somebody_who_does_not_read_is_cancelled_at_once(
    qemu: QemuBinary, place: Path
) -> None:
    async with running(qemu, place) as source, deaf(place) as uri:
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *EAGER) as migrate:
            await wait_until(migrate, "nothing has been sent for")
            expect_at_once(await transship("cancel", "--qmp", place / "a.2"))
            (await migrate.outcome()).expect(5)
        await expect_guest(source)


async def test_ctrl_c_cancels_also_where_nobody_reads(qemu: QemuBinary, place: Path) -> None:
    async with running(qemu, place) as source, deaf(place) as uri:
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *EAGER) as migrate:
            await wait_until(migrate, '"active"')
            began_s = trio.current_time()
            migrate.interrupt()
            ended = (await migrate.outcome()).expect(5)
            assert trio.current_time() - began_s < AT_ONCE_S
        assert ended.facts["guest"]["is_running"]
        await expect_guest(source)


async def test_time_that_is_over_cancels_also_where_nobody_reads(
    qemu: QemuBinary, place: Path
) -> None:
    async with running(qemu, place) as source, deaf(place) as uri:
        order = ("--qmp", place / "a.1", *EAGER, "--timeout", "1s")
        ended = (await transship("migrate", uri, *order)).expect(4)
        assert ended.facts["guest"]["is_running"]
        await expect_guest(source)


async def test_second_ctrl_c_leaves_and_the_guest_can_be_had_back(
    qemu: QemuBinary, place: Path
) -> None:
    async with running(qemu, place) as source, deaf(place) as uri:
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *EAGER) as migrate:
            await wait_until(migrate, '"active"')
            os.kill(source.pid, signal.SIGSTOP)  # a QEMU that does not answer
            migrate.interrupt()
            await wait_until(migrate, "once more leaves at once")
            migrate.interrupt()
            left = (await migrate.outcome(timeout_s=2)).expect(130)
            os.kill(source.pid, signal.SIGCONT)
        assert "may still run" in left.stderr
        (await transship("cancel", "--qmp", place / "a.2")).expect(0)
        await expect_guest(source)


# --- refused, failed, lost ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nonsense:x",), 3, "migrate: "),
        (("unix:",), 3, "migrate: "),
        (("tcp:127.0.0.1:1", "--cap", "warp"), 3, "'warp'"),
        (("tcp:127.0.0.1:1", "--set", "warp=9"), 3, "'warp'"),
        (("tcp:127.0.0.1:1", "--set", "downtime-limit=3h"), 3, "migrate-set-parameters: "),
        (("tcp:127.0.0.1:1", "--set", "downtime-limit=3x"), 2, "is not a time"),
        (("tcp:127.0.0.1:1",), 1, "Connection refused"),
        (("unix:/nowhere/at/all",), 1, "No such file"),
    ],
)
async def test_what_cannot_be_leaves_the_guest_running(
    qemu: QemuBinary, place: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    async with running(qemu, place) as source:
        ended = (await transship("migrate", *arguments, "--qmp", place / "a.1")).expect(code)
        assert words in ended.stderr
        await expect_guest(source)


async def test_destination_that_dies_is_a_failure_with_its_reason(
    qemu: QemuBinary, place: Path
) -> None:
    async with running(qemu, place) as source, receiving(place, place / "vm") as (receive, uri):
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *SLOW) as migrate:
            await wait_until(migrate, r'"dirty_syncs": [2-9]')
            receive.kill()
            ended = (await migrate.outcome()).expect(1)
        assert ended.facts["status"] == "failed"
        assert ended.facts["guest"]["is_running"]
        assert ended.error["cause"]
        await expect_guest(source)


async def test_source_that_dies_is_an_unknown_outcome(qemu: QemuBinary, place: Path) -> None:
    async with waiting(qemu, place) as destination, running(qemu, place) as source:
        uri = await listen(destination, place)
        async with VerbProcess("migrate", uri, "--qmp", place / "a.1", *SLOW) as migrate:
            await wait_until(migrate, r'"dirty_syncs": [2-9]')
            os.kill(source.pid, signal.SIGKILL)
            ended = (await migrate.outcome()).expect(7)
        assert ended.facts["status"] == "unknown"
        assert "transship status" in ended.stderr


async def test_client_that_is_not_the_only_one_is_told_so(qemu: QemuBinary, place: Path) -> None:
    async with running(qemu, place), await trio.open_unix_socket(place / "a.1"):
        ended = (await transship("status", "--qmp", place / "a.1")).expect(3)
        assert "one client at a time" in ended.stderr
