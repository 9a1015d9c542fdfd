"""Disks beside a migration, over QMP: nodes, jobs, the server and its exports."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tls_certificates import make_folder

from transship import assembly
from transship.abc import BlockServer, Disk, DiskBitmap, DiskState
from transship.testing.memory_device import MemoryDevice
from transship.tls import X509Security

from .bench import Bench, Refused, Side, open_bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transship.abc import BlockDevice, ConnectionSecurity

SIZE = 1 << 20
TCP = {"type": "inet", "host": "::1", "port": "10809"}
UNIX = {"type": "unix", "path": "/run/a b.sock"}


class Server(BlockServer):
    """Serves nobody; knows what it exports."""

    def __init__(self) -> None:
        self.exports: dict[str, tuple[BlockDevice, bool]] = {}
        self.used: set[str] = set()

    def export(self, name: str, device: BlockDevice, *, is_writable: bool) -> None:
        self.exports[name] = device, is_writable

    def is_used(self, name: str) -> bool:
        return name in self.used

    async def withdraw(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.exports.pop(name, None)


class Network:
    """What block devices are opened and served at."""

    def __init__(self) -> None:
        self.devices: dict[str, MemoryDevice] = {}
        self.server: Server | None = None
        self.asked: dict[str, ConnectionSecurity | None] = {}

    def open(self, uri: str, options: Any, security: ConnectionSecurity | None) -> MemoryDevice:
        self.asked[uri] = security
        return self.devices.setdefault(uri, MemoryDevice(SIZE))

    @asynccontextmanager
    async def serve(
        self, uri: str, options: Any, security: ConnectionSecurity | None
    ) -> AsyncIterator[Server]:
        self.asked[uri] = security
        self.server = Server()
        try:
            yield self.server
        finally:
            self.server = None


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(assembly, "open_block_device", network.open)
    monkeypatch.setattr(assembly, "serve_block_devices", network.serve)
    return network


@pytest.fixture
def source(here: Side, network: Network) -> Side:
    """A guest that runs, and has a disk."""
    return with_disk(here)


@pytest.fixture
def destination(there: Side, network: Network) -> Side:
    """A guest that is to come, and will have a disk."""
    return with_disk(there)


def with_disk(side: Side) -> Side:
    bitmap = DiskBitmap("backup", SIZE, 65536, is_persistent=True)
    disk = Disk("drive0", MemoryDevice(SIZE), node_name="node0", bitmaps=[bitmap])
    if side.guest.is_running:
        disk.activate()
        disk.write(5 * 65536, b"written")
    side.guest.drives.append(disk)
    return side


def disk_of(side: Side) -> Disk:
    return side.guest.drives[0]


def contents(device: BlockDevice) -> bytes:
    data = bytearray(device.size_bytes)
    device.read_into(0, memoryview(data))
    return bytes(data)


async def add_node(side: Side, **options: Any) -> None:
    node = {"driver": "nbd", "node-name": "copy", "server": TCP, "export": "x y", **options}
    await side.execute("blockdev-add", **node)


async def mirror(side: Side, **options: Any) -> None:
    job = {"job-id": "job", "device": "node0", "target": "copy", "sync": "full", **options}
    await side.execute("blockdev-mirror", **job)


async def job_in(side: Side, status: str) -> dict[str, Any]:
    with trio.fail_after(5):
        while True:
            (job,) = await side.execute("query-jobs")
            if job["status"] == status:
                return dict(job)
            await trio.sleep(0.01)


# Disks and nodes


async def test_disks_are_told_with_their_sizes_nodes_and_bitmaps(source: Side) -> None:
    (block,) = await source.execute("query-block")
    inserted = block.pop("inserted")
    assert block == {"device": "drive0", "type": "unknown", "removable": False, "locked": False}
    assert inserted["node-name"] == "node0"
    assert inserted["ro"] is False
    assert inserted["image"]["virtual-size"] == SIZE
    assert inserted["dirty-bitmaps"] == [
        {
            "name": "backup",
            "count": 65536,
            "granularity": 65536,
            "recording": True,
            "persistent": True,
        }
    ]
    assert await source.execute("query-named-block-nodes", flat=True) == [inserted]


async def test_node_is_opened_at_its_address_and_closed(source: Side, network: Network) -> None:
    await add_node(source)
    assert list(network.devices) == ["nbd://[::1]:10809/x%20y"]
    names = [one["node-name"] for one in await source.execute("query-named-block-nodes")]
    assert names == ["node0", "copy"]
    assert "already" in await source.refusal(
        "blockdev-add", **{"driver": "nbd", "node-name": "node0", "server": UNIX}
    )
    await source.execute("blockdev-del", **{"node-name": "copy"})
    assert "no node 'copy'" in await source.refusal("blockdev-del", **{"node-name": "copy"})
    assert network.devices["nbd://[::1]:10809/x%20y"].calls[-1] == "flush"  # it was closed


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"type": "vsock", "cid": "1", "port": "2"}, "'inet' or a 'unix' address"),
        ({**TCP, "to": 5}, "'host' and 'port' alone"),
        ({**UNIX, "abstract": True}, "no abstract socket"),
    ],
)
async def test_addresses_that_nbd_has_not_are_refused(
    source: Side, server: dict[str, Any], said: str
) -> None:
    node = {"driver": "nbd", "node-name": "copy", "server": server}
    assert said in await source.refusal("blockdev-add", **node)


# Over TLS

NODE = {"driver": "nbd", "node-name": "copy", "server": TCP}
START = {"addr": {"type": "unix", "data": {"path": "/s"}}}


async def add_credentials(side: Side, folder: Path) -> None:
    for endpoint in ("client", "server"):
        made = {"qom-type": "tls-creds-x509", "id": endpoint, "dir": str(folder)}
        await side.execute("object-add", endpoint=endpoint, **made)
    await side.execute("object-add", **{"qom-type": "authz-list", "id": "rules"})


async def test_disks_go_in_plain_if_nobody_asks_for_tls(
    source: Side, destination: Side, network: Network
) -> None:
    await source.execute("blockdev-add", **NODE)
    await destination.execute("nbd-server-start", **START)
    assert network.asked == {"nbd://[::1]:10809/": None, "nbd+unix:///?socket=/s": None}


@pytest.mark.parametrize("is_folder", [False, True], ids=["object", "folder"])
async def test_disks_go_over_tls_with_the_credentials_of_each_side(
    source: Side, destination: Side, network: Network, tmp_path: Path, is_folder: bool
) -> None:
    folder = make_folder(tmp_path)
    for side in (source, destination):
        await add_credentials(side, tmp_path)
    client, server = (folder, folder) if is_folder else ("client", "server")
    given = {"tls-creds": client, "tls-hostname": "localhost"}
    await source.execute("blockdev-add", **NODE, **given)
    await destination.execute(
        "nbd-server-start", **START, **{"tls-creds": server, "tls-authz": "rules"}
    )
    assert list(network.asked) == ["nbds://[::1]:10809/", "nbds+unix:///?socket=/s"]
    assert all(isinstance(one, X509Security) for one in network.asked.values())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"tls-creds": "nosuch"}, "'tls-creds' names no such object"),
        ({"tls-creds": ""}, "'tls-creds' names no such object"),
        ({"tls-creds": "rules"}, "found 'rules', which is of another type"),
        ({"tls-creds": "/no/such/folder"}, "No such file or directory"),
    ],
)
async def test_credentials_that_are_none_are_refused(
    source: Side,
    destination: Side,
    network: Network,
    tmp_path: Path,
    given: dict[str, str],
    why: str,
) -> None:
    make_folder(tmp_path)
    for side in (source, destination):
        await add_credentials(side, tmp_path)
    assert why in await source.refusal("blockdev-add", **NODE, **given)
    assert why in await destination.refusal("nbd-server-start", **START, **given)
    assert network.asked == {}


async def test_credentials_of_the_other_side_are_refused(
    source: Side, destination: Side, network: Network, tmp_path: Path
) -> None:
    make_folder(tmp_path)
    for side in (source, destination):
        await add_credentials(side, tmp_path)
    text = await source.refusal("blockdev-add", **NODE, **{"tls-creds": "server"})
    assert "'server' are of the wrong side; expected endpoint 'client'" in text
    text = await destination.refusal("nbd-server-start", **START, **{"tls-creds": "client"})
    assert "'client' are of the wrong side; expected endpoint 'server'" in text
    assert network.asked == {}


async def test_what_has_an_effect_over_tls_alone_is_refused_without_it(
    source: Side, destination: Side, network: Network
) -> None:
    text = await source.refusal("blockdev-add", **NODE, **{"tls-hostname": "localhost"})
    assert "'tls-hostname' has no effect without 'tls-creds'" in text
    text = await destination.refusal("nbd-server-start", **START, **{"tls-authz": "rules"})
    assert "'tls-authz' has no effect without 'tls-creds'" in text
    assert network.asked == {}


async def test_rules_that_are_not_there_are_refused(
    destination: Side, network: Network, tmp_path: Path
) -> None:
    make_folder(tmp_path)
    await add_credentials(destination, tmp_path)
    given = {"tls-creds": "server", "tls-authz": "nosuch"}
    text = await destination.refusal("nbd-server-start", **START, **given)
    assert "'tls-authz' names no such object" in text
    assert network.asked == {}


# Jobs


async def test_job_copies_a_disk_and_is_ended_when_it_is_in_step(
    source: Side, network: Network
) -> None:
    await add_node(source)
    await mirror(source, **{"auto-dismiss": False})
    job = await job_in(source, "ready")
    assert job["type"] == "mirror"
    assert job["current-progress"] >= SIZE
    disk_of(source).write(100, b"later")
    await source.execute("block-job-cancel", device="job")
    assert "error" not in await job_in(source, "concluded")
    (target,) = network.devices.values()
    assert contents(target) == contents(disk_of(source).device)
    with pytest.raises(Refused) as caught:
        await source.execute("block-job-cancel", device="job")
    assert caught.value.error_class == "DeviceNotActive"
    await source.execute("job-dismiss", id="job")
    assert await source.execute("query-jobs") == []
    assert "no job 'job'" in await source.refusal("job-dismiss", id="job")


async def test_job_that_is_cancelled_by_force_says_so(source: Side) -> None:
    await add_node(source)
    await mirror(source, speed=1, **{"auto-dismiss": False})
    assert "is not over" in await source.refusal("job-dismiss", id="job")
    assert "is used by job" in await source.refusal("blockdev-del", **{"node-name": "copy"})
    await source.execute("block-job-cancel", device="job", force=True)
    assert "cancelled" in (await job_in(source, "concluded"))["error"]
    await source.execute("blockdev-del", **{"node-name": "copy"})
    disk_of(source).write(0, b"the guest goes on")


async def test_job_that_fails_says_why(source: Side, network: Network) -> None:
    await add_node(source)
    (target,) = network.devices.values()
    target.failing = {"write"}
    await mirror(source, **{"auto-dismiss": False})
    assert (await job_in(source, "concluded"))["error"] == "Input/output error"


async def test_job_goes_by_itself_unless_it_is_to_stay(source: Side) -> None:
    await add_node(source)
    await mirror(source)
    await job_in(source, "ready")
    await source.execute("block-job-cancel", device="job")
    with trio.fail_after(5):
        while await source.execute("query-jobs"):  # noqa: ASYNC110 - there is no event of it
            await trio.sleep(0.01)


async def test_speed_can_be_changed(source: Side) -> None:
    await add_node(source)
    await mirror(source, speed=1)
    await source.execute("block-job-set-speed", device="job", speed=0)
    await job_in(source, "ready")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "sda"}, "no disk 'sda'"),
        ({"target": "nowhere"}, "no node 'nowhere'"),
        ({"sync": "incremental"}, "sync"),
        ({"speed": -1}, "not below 0"),
        ({"on-source-error": "stop"}, "on-source-error"),
    ],
)
async def test_job_that_cannot_be_is_refused(
    source: Side, options: dict[str, object], said: str
) -> None:
    await add_node(source)
    job = {"job-id": "job", "device": "node0", "target": "copy", "sync": "full"}
    assert said in await source.refusal("blockdev-mirror", **(job | options))
    assert await source.execute("query-jobs") == []


async def test_disk_or_node_is_in_one_job_alone(source: Side) -> None:
    await add_node(source)
    await mirror(source)
    job = {"device": "node0", "target": "copy", "sync": "full"}
    assert "already" in await source.refusal("blockdev-mirror", **{"job-id": "job"}, **job)
    assert "copies disk" in await source.refusal("blockdev-mirror", **{"job-id": "two"}, **job)


# The server


async def start_server(side: Side) -> None:
    await side.execute(
        "nbd-server-start", addr={"type": "inet", "data": {"host": "h", "port": "1"}}
    )


async def export(side: Side, **options: Any) -> None:
    await side.execute("block-export-add", **EXPORT, **options)


EXPORT = {"type": "nbd", "id": "id0", "node-name": "node0"}


async def test_disk_of_a_guest_that_is_to_come_can_be_filled(
    destination: Side, network: Network
) -> None:
    await start_server(destination)
    await export(destination, name="there", writable=True)
    assert await destination.execute("query-block-exports") == [
        {"id": "id0", "type": "nbd", "node-name": "node0", "shutting-down": False}
    ]
    assert network.server is not None
    again = {**EXPORT, "id": "id1", "name": "again", "writable": True}
    assert "is being loaded already" in await destination.refusal("block-export-add", **again)
    device, is_writable = network.server.exports["there"]
    assert is_writable
    device.write(0, b"filled")
    disk = disk_of(destination)
    states = [disk.state]
    await destination.execute("block-export-del", id="id0")
    states.append(disk.state)
    assert states == [DiskState.LOADING, DiskState.INACTIVE]
    assert network.server.exports == {}
    assert await destination.execute("query-block-exports") == []
    disk.activate()
    with pytest.raises(Exception, match="nothing can be loaded"):
        device.write(0, b"late")


async def test_export_that_somebody_has_is_removed_by_force_alone(
    destination: Side, network: Network
) -> None:
    await start_server(destination)
    await export(destination, name="there", writable=True)
    assert network.server is not None
    network.server.used = {"there"}
    assert "is in use" in await destination.refusal("block-export-del", id="id0")
    assert network.server.exports
    await destination.execute("block-export-del", id="id0", mode="hard")
    assert not network.server.exports


async def test_guest_is_not_let_go_while_its_disk_is_copied(source: Side) -> None:
    await add_node(source)
    await mirror(source, speed=1, **{"auto-dismiss": False})
    text = await source.refusal("migrate", uri="unix:/run/there.sock")
    assert "job 'job' still copies disk 'drive0'" in text
    await source.execute("block-job-cancel", device="job", force=True)
    await job_in(source, "concluded")
    source.host.mirroring.check_over()


async def test_copy_of_a_disk_does_not_begin_when_the_guest_would_not_wait_for_it(
    bench: Bench, network: Network
) -> None:
    here, there = with_disk(bench.here), with_disk(bench.there)
    job = {"job-id": "job", "device": "node0", "target": "copy", "sync": "full"}
    await add_node(there)
    assert "the guest is not here" in await there.refusal("blockdev-mirror", **job)
    await add_node(here)
    await bench.begin()
    with pytest.raises(Refused, match="is on its way"):
        await here.execute("blockdev-mirror", **job)
    await bench.finish()
    assert "the guest is not here" in await here.refusal("blockdev-mirror", **job)


async def test_server_whose_disk_cannot_be_flushed_can_be_stopped_again(
    destination: Side, network: Network
) -> None:
    await start_server(destination)
    await export(destination, writable=True)
    disk = disk_of(destination)
    device = disk.device
    assert isinstance(device, MemoryDevice)
    device.failing = {"flush"}
    assert "could not be flushed" in await destination.refusal("nbd-server-stop")
    assert network.server is None
    assert len(await destination.execute("query-block-exports")) == 1
    device.failing = set()
    await destination.execute("nbd-server-stop")
    assert disk.state is DiskState.INACTIVE
    assert await destination.execute("query-block-exports") == []


async def test_migration_that_waits_does_not_go_on_while_a_disk_is_copied(
    bench: Bench, network: Network
) -> None:
    here = with_disk(bench.here)
    with_disk(bench.there)
    await add_node(here)
    await mirror(here, **{"auto-dismiss": False})
    await job_in(here, "ready")
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    text = await here.refusal("migrate-continue", state="pre-switchover")
    assert "still copies disk" in text
    await here.execute("block-job-cancel", device="job")
    await job_in(here, "concluded")
    await here.execute("migrate-continue", state="pre-switchover")
    await bench.finish()


async def test_disk_of_a_guest_that_runs_can_only_be_read(source: Side, network: Network) -> None:
    await start_server(source)
    text = await source.refusal("block-export-add", **EXPORT, writable=True)
    assert "nobody else may write it" in text
    await export(source)
    assert network.server is not None
    device, is_writable = network.server.exports["node0"]
    assert not is_writable
    assert contents(device) == contents(disk_of(source).device)


async def test_server_is_there_once_and_takes_its_exports_with_it(
    destination: Side, network: Network
) -> None:
    assert "no server" in await destination.refusal("nbd-server-stop")
    assert "no server" in await destination.refusal("block-export-add", **EXPORT)
    await start_server(destination)
    addr = {"type": "unix", "data": {"path": "/run/s"}}
    assert "running already" in await destination.refusal("nbd-server-start", addr=addr)
    await export(destination)
    assert "already" in await destination.refusal("block-export-add", **EXPORT)
    await destination.execute("nbd-server-stop")
    assert network.server is None
    assert await destination.execute("query-block-exports") == []
    assert "no export 'id0'" in await destination.refusal("block-export-del", id="id0")


async def test_jobs_nodes_and_servers_end_with_their_host(network: Network) -> None:
    async with open_bench() as bench:
        side = with_disk(bench.here)
        await add_node(side)
        await mirror(side, speed=1)
        await start_server(side)
        await export(side)
    assert network.server is None
    (target,) = network.devices.values()
    assert "release" in target.calls
