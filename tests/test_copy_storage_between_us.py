"""Disks move beside the migration between two of us, as they do between two QEMUs."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from support.commands import VerbProcess, transship, wait_until
from tls_certificates import SERVER, make_folder

from transship.control.address import QmpAddress
from transship.control.client import QmpCommandError, open_qmp
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

pytest.importorskip("transship_unix")
pytest.importorskip("transship_ram")
pytest.importorskip("transship_nbd", reason="transship-nbd is not installed")

SIZE: Final = 64 * MIB
SLOW: Final = ("--storage-bandwidth", "4MiB/s")
COPYING: Final = r'"copying-disks".*"copied_bytes": [1-9]'
ACTIVE: Final = r'"status": "active"'


def guest(place: Path, name: str, *more: str) -> str:
    options = ["ram=16MiB", f"disk={place / name}.raw", f"disk-size={SIZE}", *more]
    return f"synthetic:{','.join(options)}"


@asynccontextmanager
async def running(
    place: Path, rate: str = "2MiB/s", options: Sequence[str] = ()
) -> AsyncIterator[VerbProcess]:
    """The source: its guest writes its disk and its memory all the time."""
    writes = (f"disk-rate={rate}", "disk-working-set=16MiB", "dirty-rate=4MiB/s")
    qmp = f"unix:{place / 'a.qmp'}"
    async with VerbProcess("run", guest(place, "a", *writes), "--qmp", qmp, *options) as source:
        await source.said("the guest runs here")
        yield source


@asynccontextmanager
async def waiting(place: Path, options: Sequence[str] = ()) -> AsyncIterator[VerbProcess]:
    """The destination, with a disk of its own."""
    incoming = ("--incoming", f"unix:{place / 'in'}", "--qmp", f"unix:{place / 'b.qmp'}")
    async with VerbProcess("run", guest(place, "b"), *incoming, *options) as destination:
        await destination.listening()
        yield destination


def order(place: Path, scheme: str = "unix") -> list[str]:
    """The verb and what it always needs."""
    nbd = f"unix:{place / 'nbd'}" if scheme == "unix" else "tcp:127.0.0.1:10874"
    return [
        *("migrate", f"unix:{place / 'in'}", "--qmp", str(place / "a.qmp"), "--copy-storage"),
        *("--destination-qmp", str(place / "b.qmp"), "--storage-address", nbd, "--downtime", "1s"),
    ]


async def ask(place: Path, side: str, command: str, **arguments: Any) -> Any:
    async with open_qmp(QmpAddress.parse(str(place / f"{side}.qmp"))) as client:
        return await client.execute(command, **arguments)


async def expect_nothing_left(place: Path, *sides: str) -> None:
    """No job, node, export or server is there that a copy has made, and no switch is on."""
    for side in sides:
        assert await ask(place, side, "query-jobs") == []
        nodes = await ask(place, side, "query-named-block-nodes")
        assert [node["node-name"] for node in nodes] == ["disk0"]
        assert await ask(place, side, "query-block-exports") == []
        capabilities = await ask(place, side, "query-migrate-capabilities")
        assert not [one for one in capabilities if one["state"] and "pause" in one["capability"]]
        with pytest.raises(Exception, match="no server of disks is running"):
            await ask(place, side, "nbd-server-stop")


async def expect_right(process: VerbProcess) -> dict[str, Any]:
    """End a side: its guest has all that it has written, on its disk too."""
    process.interrupt()
    last = (await process.outcome()).events[-1]
    facts: dict[str, Any] = last["guest"]
    assert last["event"] == "stopped"
    assert facts["consistent"], facts
    return facts


@pytest.mark.parametrize(
    ("scheme", "options"),
    [("unix", ()), ("tcp", ()), ("unix", ("--write-blocking",))],
    ids=["unix", "tcp", "write-blocking"],
)
async def test_guest_arrives_with_all_that_it_has_written(
    place: Path, scheme: str, options: tuple[str, ...]
) -> None:
    async with running(place), waiting(place) as destination:
        moved = (await transship(*order(place, scheme), *options)).expect(0)
        (disk,) = moved.facts["storage"]["disks"]
        assert disk["name"] == "disk0"
        assert disk["copied_bytes"] >= SIZE
        await expect_nothing_left(place, "a", "b")
        await trio.sleep(0.3)
        facts = await expect_right(destination)
    assert facts["disk_blocks"] > 100


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
async def test_disks_go_encrypted_where_the_migration_does(place: Path, scheme: str) -> None:
    pki = make_folder(place / "pki")
    server = f"--set=tls-creds={pki}"
    client = (server, f"--set=tls-hostname={SERVER}")
    async with running(place, "256KiB/s"), waiting(place, [server]) as destination:
        refused = await transship(*order(place, scheme))
        assert "encrypts its migration" in refused.expect(3).stderr
        await expect_nothing_left(place, "a", "b")
        slow = ("--storage-bandwidth", "32MiB/s")
        async with VerbProcess(*order(place, scheme), *client, *slow) as verb:
            await wait_until(verb, COPYING)
            nodes = await ask(place, "a", "query-named-block-nodes")
            assert [node["file"][:4] for node in nodes if node["drv"] == "nbd"] == ["nbds"]
            (await verb.outcome()).expect(0)
        await expect_nothing_left(place, "a", "b")
        await expect_right(destination)


async def test_disks_stay_where_they_are_if_their_server_is_not_believed(place: Path) -> None:
    here, there = make_folder(place / "here"), make_folder(place / "there")
    async with running(place) as source, waiting(place, [f"--set=tls-creds={there}"]):
        chosen = (f"--set=tls-creds={here}", f"--set=tls-hostname={SERVER}")
        refused = await transship(*order(place), *chosen)
        assert "it is not of the authority in ca-cert.pem" in refused.expect(3).stderr
        await expect_nothing_left(place, "a", "b")
        await expect_right(source)


async def test_sparse_disk_stays_sparse(place: Path) -> None:
    async with running(place, rate="64KiB/s"), waiting(place):
        (await transship(*order(place))).expect(0)
    status = (place / "b.raw").stat()
    assert status.st_size == SIZE
    assert status.st_blocks * 512 < SIZE // 2


@pytest.mark.parametrize("moment", [COPYING, ACTIVE], ids=["disks", "memory"])
async def test_cancelled_copy_leaves_the_guest_where_it_is(place: Path, moment: str) -> None:
    slow = SLOW if moment is COPYING else ("--bandwidth", "1MiB/s")
    async with running(place) as source, waiting(place):
        async with VerbProcess(*order(place), *slow) as verb:
            await wait_until(verb, moment)
            verb.interrupt()
            (await verb.outcome()).expect(5)
        await expect_nothing_left(place, "a")
        await expect_right(source)


async def test_copy_can_be_made_again_after_its_driver_was_killed(place: Path) -> None:
    async with running(place), waiting(place) as destination:
        async with VerbProcess(*order(place), *SLOW) as verb:
            await wait_until(verb, COPYING)
            verb.kill()
        assert len(await ask(place, "a", "query-jobs")) == 1
        (await transship(*order(place))).expect(0)
        await expect_nothing_left(place, "a", "b")
        await expect_right(destination)


@pytest.mark.parametrize(
    ("moment", "number"),
    [(COPYING, signal.SIGKILL), (COPYING, signal.SIGSTOP), (ACTIVE, signal.SIGKILL)],
    ids=["disks-killed", "disks-stopped", "memory-killed"],
)
async def test_destination_that_goes_or_hangs_costs_the_guest_nothing(
    place: Path, moment: str, number: signal.Signals
) -> None:
    slow = SLOW if moment is COPYING else ("--bandwidth", "1MiB/s")
    async with running(place) as source:
        async with waiting(place) as destination:
            async with VerbProcess(*order(place), *slow) as verb:
                await wait_until(verb, moment)
                os.kill(destination.pid, number)
                if number is signal.SIGSTOP:
                    verb.interrupt()
                assert (await verb.outcome()).exit_code not in (0, None)
            await expect_nothing_left(place, "a")
            os.kill(destination.pid, signal.SIGKILL)
        await expect_right(source)


async def test_guest_that_somebody_else_lets_go_is_no_success(place: Path) -> None:
    async with (
        running(place),
        waiting(place),
        open_qmp(QmpAddress.parse(str(place / "a.qmp"))) as other,
    ):
        go_on = {"state": "pre-switchover"}
        async with VerbProcess(*order(place), "--poll", "2s") as verb:
            with trio.fail_after(30):
                while True:
                    try:
                        await other.execute("migrate-continue", **go_on)
                    except QmpCommandError:
                        await trio.sleep(0.001)
                    else:
                        break
            outcome = await verb.outcome()
    if outcome.exit_code == 1:  # it was cancelled in time, and the guest has stayed
        assert outcome.facts["guest"]["is_running"]
        return
    outcome.expect(7)
    assert "somebody else let the guest go before its disks were handed over" in outcome.stderr


async def test_disk_of_another_size_is_refused_before_anything_is_set_up(place: Path) -> None:
    async with running(place):
        other = f"synthetic:ram=16MiB,disk={place / 'b'}.raw,disk-size={SIZE // 2}"
        incoming = ("--incoming", f"unix:{place / 'in'}", "--qmp", f"unix:{place / 'b.qmp'}")
        async with VerbProcess("run", other, *incoming) as destination:
            await destination.listening()
            refused = await transship(*order(place))
            refused.expect(3)
            assert "64.0 MiB (67108864 bytes) here and 32.0 MiB" in refused.stderr
            await expect_nothing_left(place, "a", "b")
