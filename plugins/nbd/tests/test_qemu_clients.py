"""QEMU's tools as clients of our server: what they write is there, and they read what is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from nbd_peers import QEMU_NBD_MISSING, Exporting, StorageDaemon, make_image

from transship.abc import Disk
from transship.disks import LoadView, RawImage
from transship_nbd.server import Export

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 64 << 20

pytestmark = pytest.mark.skipif(
    QEMU_NBD_MISSING or shutil.which("qemu-io") is None, reason="QEMU's tools are not installed"
)


@pytest.fixture
def image(place: Path) -> Iterator[RawImage]:
    image = RawImage.create(place / "disk.raw", SIZE)
    image.acquire()
    yield image
    image.close()


@pytest.fixture(params=["unix", "tcp"])
def server(request: pytest.FixtureRequest, place: Path, image: RawImage) -> Iterator[Exporting]:
    listen = "nbd://127.0.0.1:0" if request.param == "tcp" else f"{place}/socket"
    with Exporting({"disk": Export(image)}, listen) as server:
        yield server


def run(*command: str) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


def io(uri: str, *commands: str) -> str:
    said = run("qemu-io", "-f", "raw", *(word for one in commands for word in ("-c", one)), uri)
    assert "failed" not in said
    return said


def test_qemu_img_converts_to_an_export_and_back(server: Exporting, place: Path) -> None:
    source = make_image(place / "source.qcow2", SIZE, "qcow2")
    run(
        *("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 5M", "-c", "write -P 2 20M 65536"),
        *("-c", "write -P 3 50M 3M", str(source)),
    )
    run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", str(source), server.uri)
    same = run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(source), server.uri)
    assert "identical" in same
    back = place / "back.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri, str(back))
    assert "identical" in run("qemu-img", "compare", str(source), str(back))


def test_many_requests_of_qemu_io_at_once_are_done(server: Exporting, image: RawImage) -> None:
    writes = [f"aio_write -P {number + 1} {number}M 1M" for number in range(40)]
    reads = [f"aio_read -P {number + 1} {number}M 1M" for number in range(40)]
    said = io(server.uri, *writes, "aio_flush", *reads, "aio_flush", "flush")
    assert "verification" not in said
    target = bytearray(40 << 20)
    image.read_into(0, memoryview(target))
    assert target == b"".join(bytes([number + 1]) * (1 << 20) for number in range(40))


def test_every_kind_of_request_of_qemu_io_is_done(server: Exporting, image: RawImage) -> None:
    said = io(
        server.uri,
        "write -P 7 0 8M",
        "write -f -P 8 8M 4k",
        "write -z 1M 1M",
        "write -z -u 2M 1M",
        "write -z -f 3M 4k",
        "discard 4M 1M",
        "flush",
        "read -P 7 0 1M",
        "read -P 0 1M 2M",
        "read -P 8 8M 4k",
        "write -P 9 513 1000",
        "read -P 9 513 1000",
    )
    assert "verification" not in said
    target = bytearray(2 << 20)
    image.read_into(0, memoryview(target))
    assert target[513:1513] == bytes([9]) * 1000
    assert not any(target[1 << 20 :])


def test_holes_are_seen_by_qemu_img(server: Exporting) -> None:
    io(server.uri, "write -P 1 10M 1M")
    found = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", server.uri))
    data = [(one["start"], one["length"]) for one in found if not one["zero"]]
    assert data == [(10 << 20, 1 << 20)]


@pytest.mark.skipif(
    shutil.which("qemu-storage-daemon") is None, reason="qemu-storage-daemon is not installed"
)
def test_disk_is_the_target_of_a_mirror_job(place: Path) -> None:
    source = make_image(place / "source.qcow2", SIZE, "qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 3M 20M", str(source))
    image = RawImage.create(place / "target.raw", SIZE)
    disk = Disk("drive", image)
    try:
        with Exporting({"drive": Export(LoadView(disk.start_load()))}, f"{place}/socket"):
            daemon = StorageDaemon(
                *("--blockdev", f"file,node-name=file,filename={source}"),
                *("--blockdev", "qcow2,node-name=source,file=file"),
                *("--blockdev", "nbd,node-name=target,export=drive,server.type=unix,"
                  f"server.path={place}/socket"),
            )  # fmt: skip
            try:
                daemon.mirror("source", "target")
            finally:
                daemon.close()
        disk.activate()
        disk.inactivate()
    finally:
        image.close()
    same = run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(source), str(image.path))
    assert "identical" in same
    assert os.stat(image.path).st_blocks * 512 < 30 << 20
