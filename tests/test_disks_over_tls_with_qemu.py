"""A disk is copied between us and a QEMU over TLS, either way, by what an operator says to both."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import QemuProcess
from support.commands import VerbProcess
from tls_certificates import SERVER, make_folder

from transship.control.address import QmpAddress
from transship.control.client import QmpCommandError, open_qmp
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Execute = Callable[..., Awaitable[Any]]

pytest.importorskip("transship_ram")
pytest.importorskip("transship_unix")
pytest.importorskip("transship_nbd", reason="transship-nbd is not installed")
pytestmark = pytest.mark.qemu

SIZE: Final = 16 * MIB


@pytest.fixture(params=qemu_binaries(), ids=lambda one: one.label)
def qemu(request: pytest.FixtureRequest) -> QemuBinary:
    binary: QemuBinary = request.param
    return binary


@pytest.fixture
def images(place: Path) -> tuple[Path, Path]:
    """One with something in it, and one with nothing."""
    full, empty = place / "full.raw", place / "empty.raw"
    full.write_bytes(random.Random(3).randbytes(SIZE))
    empty.write_bytes(b"")
    os.truncate(empty, SIZE)
    return full, empty


def with_disk(binary: QemuBinary, place: Path, image: Path) -> QemuProcess:
    node = f"raw,node-name=disk0,file.driver=file,file.filename={image}"
    return QemuProcess(binary, place, paused=True, arguments=("-blockdev", node))


async def add_credentials(execute: Execute, folder: str, endpoint: str) -> None:
    made = {"qom-type": "tls-creds-x509", "id": "tls0", "dir": folder}
    await execute("object-add", endpoint=endpoint, **made)


async def serve(execute: Execute, place: Path) -> None:
    """Let others fill the disk, over TLS alone."""
    address = {"type": "unix", "data": {"path": str(place / "nbd")}}
    await execute("nbd-server-start", addr=address, **{"tls-creds": "tls0"})
    export = {"type": "nbd", "id": "export", "node-name": "disk0", "name": "disk0"}
    await execute("block-export-add", writable=True, **export)


async def add_target(execute: Execute, place: Path, **tls: str) -> None:
    server = {"type": "unix", "path": str(place / "nbd")}
    node = {"driver": "nbd", "node-name": "target", "server": server, "export": "disk0"}
    await execute("blockdev-add", **node, **tls)


async def wait_for_jobs(execute: Execute, *statuses: str) -> None:
    """Return when there are jobs of these statuses, and no others."""
    with trio.fail_after(60):
        while True:
            if [job["status"] for job in await execute("query-jobs")] == list(statuses):
                return
            await trio.sleep(0.02)


async def mirror(execute: Execute, place: Path) -> None:
    """Copy the disk to where it is served, and end when both are the same."""
    await add_target(execute, place, **{"tls-creds": "tls0", "tls-hostname": SERVER})
    job = {"job-id": "copy", "device": "disk0", "target": "target", "sync": "full"}
    await execute("blockdev-mirror", **job)
    await wait_for_jobs(execute, "ready")
    await execute("block-job-cancel", device="copy")
    await wait_for_jobs(execute)
    await execute("blockdev-del", **{"node-name": "target"})


async def test_disk_of_qemu_is_copied_to_ours(
    qemu: QemuBinary, place: Path, images: tuple[Path, Path]
) -> None:
    full, empty = images
    pki, qmp = make_folder(place / "pki"), place / "qmp"
    ours = VerbProcess(
        *("run", f"synthetic:ram=1MiB,disk={empty}", "--incoming", f"unix:{place}/in"),
        *("--qmp", f"unix:{qmp}"),
    )
    async with ours, with_disk(qemu, place, full) as theirs:
        await ours.listening()
        async with open_qmp(QmpAddress.parse(str(qmp))) as client:
            await add_credentials(client.execute, pki, "server")
            await add_credentials(theirs.execute, pki, "client")
            await serve(client.execute, place)
            with pytest.raises(Exception, match="TLS"):
                await add_target(theirs.execute, place)
            await mirror(theirs.execute, place)
            await client.execute("nbd-server-stop")
    assert empty.read_bytes() == full.read_bytes()


async def test_disk_of_ours_is_copied_to_qemu(
    qemu: QemuBinary, place: Path, images: tuple[Path, Path]
) -> None:
    full, empty = images
    pki, qmp = make_folder(place / "pki"), place / "qmp"
    ours = VerbProcess("run", f"synthetic:ram=1MiB,disk={full}", "--qmp", f"unix:{qmp}")
    async with ours, with_disk(qemu, place, empty) as theirs:
        await ours.said("the guest runs here")
        async with open_qmp(QmpAddress.parse(str(qmp))) as client:
            await add_credentials(client.execute, pki, "client")
            await add_credentials(theirs.execute, pki, "server")
            await serve(theirs.execute, place)
            with pytest.raises(QmpCommandError, match="insists on TLS"):
                await add_target(client.execute, place)
            await mirror(client.execute, place)
        await theirs.execute("nbd-server-stop")
        await theirs.execute("quit")
        await theirs.wait_exit()
    assert empty.read_bytes() == full.read_bytes()
