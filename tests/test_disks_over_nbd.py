"""A guest whose disk is a qcow2 image behind a qemu-nbd moves between us; both sides reach it."""

from __future__ import annotations

import shutil
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from support.commands import VerbProcess, transship
from tls_certificates import SERVER, make_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytest.importorskip("transship_nbd", reason="transship-nbd is not installed")
pytestmark = pytest.mark.skipif(
    shutil.which("qemu-nbd") is None or shutil.which("qemu-img") is None,
    reason="qemu-nbd or qemu-img is not installed",
)


@asynccontextmanager
async def served(image: Path, socket: Path, clients: int, *options: str) -> AsyncIterator[str]:
    """A qemu-nbd; yields its address."""
    command = ["qemu-nbd", "-f", "qcow2", "-k", str(socket), "-t", "-e", str(clients)]
    command += [*options, str(image)]
    process = await trio.lowlevel.open_process(command)
    try:
        await trio.to_thread.run_sync(_wait_for, socket)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def _wait_for(socket: Path) -> None:
    deadline = time.monotonic() + 20
    while not socket.exists():
        assert time.monotonic() < deadline, "qemu-nbd does not serve"
        time.sleep(0.01)


def _wait_for_growth(image: Path) -> None:
    before, deadline = image.stat().st_blocks, time.monotonic() + 20
    while image.stat().st_blocks == before:
        assert time.monotonic() < deadline, "nothing is written"
        time.sleep(0.01)


async def test_disk_goes_to_the_destination_with_its_guest(place: Path) -> None:
    image = place / "disk.qcow2"
    await trio.run_process(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "64M"])
    async with served(image, place / "nbd", 2) as uri:
        guest = f"synthetic:ram=4MiB,disk={uri},disk-rate=16MiB/s"
        address = f"unix:{place}/migration"
        async with VerbProcess("run", guest, "--incoming", address) as destination:
            await destination.listening()
            source = await transship("run", guest, "--migrate-to", address, "--after", "1s")
            source.expect(0)
            await trio.sleep(0.3)
            destination.interrupt()
            outcome = await destination.outcome()
    guest_facts = outcome.expect(0).events[-1]["guest"]
    assert guest_facts["consistent"], guest_facts
    assert guest_facts["disk_blocks"] > 1000
    await trio.run_process(["qemu-img", "check", str(image)], capture_stdout=True)


async def test_disk_over_tls_is_that_of_a_guest(place: Path) -> None:
    image, pki = place / "disk.qcow2", make_folder(place / "pki")
    await trio.run_process(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "64M"])
    credentials = f"tls-creds-x509,id=tls0,endpoint=server,dir={pki},verify-peer=on"
    tls = ("--object", credentials, "--tls-creds", "tls0")
    async with served(image, place / "nbd", 2, *tls) as plain:
        refused = await transship("run", f"synthetic:ram=4MiB,disk={plain}")
        assert "it insists on TLS" in refused.expect(3).stderr
        uri = plain.replace("nbd+", "nbds+") + f"&tls-certificates={pki}"
        refused = await transship("run", f"synthetic:ram=4MiB,disk={uri}")
        assert "no host name to look for in the certificate" in refused.expect(3).stderr
        guest = f"synthetic:ram=4MiB,disk={uri}&tls-hostname={SERVER},disk-rate=16MiB/s"
        async with VerbProcess("run", guest) as running:
            await running.said("the guest runs here")
            await trio.to_thread.run_sync(_wait_for_growth, image)
            running.interrupt()
            outcome = await running.outcome()
    guest_facts = outcome.expect(0).events[-1]["guest"]
    assert guest_facts["consistent"], guest_facts
    assert guest_facts["disk_blocks"] > 0
    await trio.run_process(["qemu-img", "check", str(image)], capture_stdout=True)


async def test_server_that_is_not_there_is_a_refusal_that_names_it(place: Path) -> None:
    uri = f"nbd+unix:///?socket={place}/nobody"
    refused = await transship("run", f"synthetic:disk={uri}")
    refused.expect(3)
    assert f"cannot connect to {uri}: No such file" in refused.stderr


async def test_scheme_that_nobody_knows_is_a_refusal_that_names_it() -> None:
    refused = await transship("run", "synthetic:disk=drum://host/")
    refused.expect(3)
    assert "no disks at 'drum:'" in refused.stderr
