"""QEMU's server and QEMU's tools over TLS: they and ours understand and refuse each other."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from nbd_certificates import SERVER, make_folder, of_client, of_server
from nbd_peers import QEMU_NBD_MISSING, Exporting, QemuNbd, StorageDaemon, make_image, owned

from transship.abc import Disk
from transship.disks import LoadView, RawImage
from transship.errors import ConnectError
from transship.testing.pytest_plugin import BlockDeviceConformance
from transship_nbd.client import connect
from transship_nbd.server import Export

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transship.testing import OpenDevice
    from transship_nbd.client import NbdDevice

SIZE = 16 << 20

pytestmark = pytest.mark.skipif(
    QEMU_NBD_MISSING or shutil.which("qemu-io") is None, reason="QEMU's tools are not installed"
)


@pytest.fixture
def alike(tmp_path: Path, pki: Path) -> Path:
    """The same authority, and no certificate of a client."""
    folder = tmp_path / "alike"
    folder.mkdir()
    (folder / "ca-cert.pem").write_bytes((pki / "ca-cert.pem").read_bytes())
    return folder


@pytest.fixture
def other_pki(tmp_path: Path) -> Path:
    """Of another authority."""
    return make_folder(tmp_path / "other")


# qemu-nbd, and our client


def qemu_nbd(place: Path, pki: Path, *options: str, verify_peer: bool = True) -> QemuNbd:
    credentials = f"tls-creds-x509,id=tls0,endpoint=server,dir={pki}"
    verifies = "on" if verify_peer else "off"
    return QemuNbd(
        make_image(place / "disk", SIZE, "qcow2"),
        "qcow2",
        place / "socket",
        *("--object", f"{credentials},verify-peer={verifies}", "--tls-creds", "tls0", *options),
        is_secure=True,
    )


def read(device: NbdDevice, offset: int, length: int) -> bytes:
    data = bytearray(length)
    device.read_into(offset, memoryview(data))
    return bytes(data)


class TestExportOfQemuNbdOverTls(BlockDeviceConformance):
    @pytest.fixture
    def open_device(self, place: Path, pki: Path) -> Iterator[OpenDevice]:
        with qemu_nbd(place, pki) as server:
            yield lambda: connect(server.uri, None, of_client(pki))


@pytest.mark.parametrize("verify_peer", [True, False])
def test_disk_of_qemu_nbd_is_read_and_written(place: Path, pki: Path, verify_peer: bool) -> None:
    with qemu_nbd(place, pki, verify_peer=verify_peer) as server:
        device = owned(server.uri, {"timeout": 20}, of_client(pki))
        device.write(12345, b"sealed" * 500_000)
        device.release()
        device.acquire()
        assert read(device, 12345, 3_000_000) == b"sealed" * 500_000
        device.close()


def test_client_without_a_certificate_is_let_in_where_qemu_nbd_does_not_look(
    place: Path, pki: Path, alike: Path
) -> None:
    with qemu_nbd(place, pki, verify_peer=False) as server:
        connect(server.uri, {"timeout": 20}, of_client(alike)).close()


def test_client_without_a_certificate_is_refused_by_qemu_nbd(
    place: Path, pki: Path, alike: Path
) -> None:
    with qemu_nbd(place, pki) as server:
        with pytest.raises(ConnectError, match=r"TLS with the server failed|closed|broke"):
            connect(server.uri, {"timeout": 20}, of_client(alike))


def test_qemu_nbd_of_another_authority_is_not_believed(
    place: Path, pki: Path, other_pki: Path
) -> None:
    with qemu_nbd(place, pki) as server, pytest.raises(ConnectError) as caught:
        connect(server.uri, {"timeout": 20}, of_client(other_pki))
    assert "it is not of the authority in ca-cert.pem" in str(caught.value)


def test_client_of_another_name_is_not_let_in_by_qemu_nbd(place: Path, pki: Path) -> None:
    rules = ("--object", "authz-simple,id=rules,identity=CN=nobody", "--tls-authz", "rules")
    with qemu_nbd(place, pki, *rules) as server:
        with pytest.raises(ConnectError, match=r"closed|broke"):
            connect(server.uri, {"timeout": 20}, of_client(pki))


def test_qemu_nbd_insists_on_tls(place: Path, pki: Path) -> None:
    with qemu_nbd(place, pki) as server, pytest.raises(ConnectError, match="insists on TLS"):
        connect(server.uri.replace("nbds+", "nbd+"), {"timeout": 20})


def test_qemu_nbd_in_plain_is_not_enough(place: Path, pki: Path) -> None:
    image = make_image(place / "disk", SIZE, "qcow2")
    with QemuNbd(image, "qcow2", place / "socket", is_secure=True) as server:
        with pytest.raises(ConnectError, match="it has no TLS, and TLS is asked for"):
            connect(server.uri, {"timeout": 20}, of_client(pki))


# QEMU's tools, and our server


@pytest.fixture
def image(place: Path) -> Iterator[RawImage]:
    image = RawImage.create(place / "disk.raw", SIZE)
    image.acquire()
    yield image
    image.close()


@pytest.fixture(params=["unix", "tcp"])
def server(
    request: pytest.FixtureRequest, place: Path, image: RawImage, pki: Path
) -> Iterator[Exporting]:
    listen = "nbds://127.0.0.1:0" if request.param == "tcp" else f"{place}/socket"
    with Exporting({"disk": Export(image)}, listen, of_server(pki)) as server:
        yield server


def where(server: Exporting, place: Path) -> str:
    """The server as the options of a block node of QEMU have it."""
    address = server.uri.removeprefix("nbds://").removesuffix("/disk")
    if address.startswith("nbds+unix"):
        return f"driver=nbd,export=disk,server.type=unix,server.path={place}/socket"
    host, port = address.rsplit(":", 1)
    return f"driver=nbd,export=disk,server.type=inet,server.host={host},server.port={port}"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
    )


def io(node: str, folder: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    """qemu-io on a node over TLS, with the credentials in a folder."""
    credentials = f"tls-creds-x509,id=tls0,endpoint=client,dir={folder}"
    said = [word for one in commands for word in ("-c", one)]
    node += f",tls-creds=tls0,tls-hostname={SERVER}"
    return run("qemu-io", "--object", credentials, *said, "--image-opts", node)


def test_qemu_img_converts_to_an_export_and_back(server: Exporting, place: Path, pki: Path) -> None:
    source = make_image(place / "source.qcow2", SIZE, "qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 5M", str(source)).check_returncode()
    node = f"{where(server, place)},tls-creds=tls0,tls-hostname={SERVER}"
    credentials = ("--object", f"tls-creds-x509,id=tls0,endpoint=client,dir={pki}")
    to = ("-n", "--target-image-opts", "-f", "qcow2", str(source), node)
    done = run("qemu-img", "convert", *credentials, *to)
    assert done.returncode == 0, done.stdout
    back = place / "back.qcow2"
    done = run("qemu-img", "convert", *credentials, "--image-opts", "-O", "qcow2", node, str(back))
    assert done.returncode == 0, done.stdout
    assert "identical" in run("qemu-img", "compare", str(source), str(back)).stdout


def test_every_kind_of_request_of_qemu_io_is_done(
    server: Exporting, place: Path, pki: Path, image: RawImage
) -> None:
    writes = [f"aio_write -P {number + 1} {number}M 1M" for number in range(10)]
    reads = [f"aio_read -P {number + 1} {number}M 1M" for number in range(10)]
    done = io(
        where(server, place),
        pki,
        *(*writes, "aio_flush", *reads, "aio_flush"),
        *("write -f -P 8 10M 4k", "write -z 1M 1M", "discard 4M 1M", "flush", "read -P 0 1M 1M"),
    )
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout
    target = bytearray(2 << 20)
    image.read_into(0, memoryview(target))
    assert target == b"\1" * (1 << 20) + bytes(1 << 20)


def test_qemu_io_is_refused_without_tls(server: Exporting, place: Path) -> None:
    done = run("qemu-io", "-c", "read 0 512", "--image-opts", where(server, place))
    assert done.returncode != 0
    assert "TLS" in done.stdout


def test_qemu_io_is_refused_without_a_certificate(
    server: Exporting, place: Path, alike: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = io(where(server, place), alike, "read 0 512")
    assert done.returncode != 0
    server.stop()
    assert "turned away: TLS with the client failed: peer did not return a certificate" in (
        caplog.text
    )


def test_qemu_io_does_not_believe_a_server_of_another_authority(
    server: Exporting, place: Path, other_pki: Path
) -> None:
    done = io(where(server, place), other_pki, "read 0 512")
    assert done.returncode != 0
    assert "certificate" in done.stdout or "TLS handshake failed" in done.stdout


@pytest.mark.skipif(
    shutil.which("qemu-storage-daemon") is None, reason="qemu-storage-daemon is not installed"
)
def test_disk_is_the_target_of_a_mirror_job(place: Path, pki: Path) -> None:
    source = make_image(place / "source.qcow2", SIZE, "qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 3M 10M", str(source)).check_returncode()
    image = RawImage.create(place / "target.raw", SIZE)
    disk = Disk("drive", image)
    exports = {"drive": Export(LoadView(disk.start_load()))}
    try:
        with Exporting(exports, f"{place}/socket", of_server(pki)):
            daemon = StorageDaemon(
                *("--object", f"tls-creds-x509,id=tls0,endpoint=client,dir={pki}"),
                *("--blockdev", f"file,node-name=file,filename={source}"),
                *("--blockdev", "qcow2,node-name=source,file=file"),
                *("--blockdev", "nbd,node-name=target,export=drive,server.type=unix,"
                  f"server.path={place}/socket,tls-creds=tls0,tls-hostname={SERVER}"),
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
    assert "identical" in same.stdout
