"""QEMU to QEMU: the same binary on both sides, at its best setting for the work."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio
from qemu_peer.find import NO_QEMU, QemuBinary
from qemu_peer.process import MigrationFailed, QemuProcess

from bench import certificates, images
from bench.contestants.base import Contestant
from bench.load import write_load_image
from bench.measuring import Meter, Move
from bench.place import DESTINATION, SOURCE, TLS
from bench.stamps import is_later, last_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.place import Place
    from bench.workloads import Workload

MACHINE: Final = "pc"

_MOVE_TIMEOUT_S: Final = 120.0
_ROUND_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02


@dataclass(frozen=True)
class Qemus(Contestant):
    """QEMU to QEMU.

    Args:
        binary: Which; None where there is none.
    """

    binary: QemuBinary | None = None

    def own_bytes(self, work: Workload) -> int:
        return 0

    @property
    def sides(self) -> str:
        return "QEMU to QEMU"

    def obstacle(self, work: Workload, scheme: str) -> str | None:
        if self.channels and work.is_xbzrle:
            return "multifd and xbzrle exclude each other"
        return NO_QEMU if self.binary is None else None

    async def move(self, work: Workload, scheme: str, place: Place) -> Move:
        assert self.binary is not None
        await trio.to_thread.run_sync(prepare_source, work, place)
        await trio.to_thread.run_sync(place.clear_destination, work)
        async with (
            qemu_source(self.binary, work, place) as source,
            qemu_destination(self.binary, work, place) as destination,
        ):
            if scheme == TLS:
                await secure(destination, "server", place)
                await secure(source, "client", place)
            uri = await listen(destination, place.uri(scheme), work, self.channels)
            await start(source, work, self.channels)
            meters = [Meter(one.pid, work.ram_bytes) for one in (source, destination)]
            began = time.perf_counter()
            await source.execute("migrate", uri=uri)
            await moved(destination)
            await moved(source)
            total_s = time.perf_counter() - began
            used = [meter.read() for meter in meters]
            info = await source.migration()
            seen_downtime_s = await stood_still_s(source, destination) if work.is_running else None
            is_right = await has_arrived(destination, work, place.image(SOURCE))
        return Move(
            total_s,
            work.data_bytes,
            source=used[0],
            destination=used[1],
            seen_downtime_s=seen_downtime_s,
            is_right=is_right,
            **figures(info),
        )


def prepare_source(work: Workload, place: Place) -> None:
    """Have the source's memory and its disk lie where its QEMU will look for them."""
    place.fill_source(work)
    disk = place.folder / "boot.img"
    if work.is_running:
        write_load_image(disk, work.working_set_bytes, work.dirty_bytes_per_s)
    else:
        disk.write_bytes(bytes(1 << 20))


def qemu_source(binary: QemuBinary, work: Workload, place: Place) -> QemuProcess:
    """A QEMU whose guest is to be moved; it does not run yet."""
    return QemuProcess(
        binary,
        place.folder,
        name=SOURCE,
        machine=MACHINE,
        ram_bytes=work.ram_bytes,
        paused=True,
        prefault=True,
    )


def qemu_destination(binary: QemuBinary, work: Workload, place: Place) -> QemuProcess:
    """A QEMU that is to get the guest."""
    return QemuProcess(
        binary,
        place.folder,
        name=DESTINATION,
        machine=MACHINE,
        ram_bytes=work.ram_bytes,
        incoming="defer",
        prefault=True,
    )


async def set_up(qemu: QemuProcess, work: Workload, channels: int) -> None:
    """Set what both sides must be told; nothing is throttled."""
    parameters: dict[str, object] = {"max-bandwidth": 0}
    if channels:
        parameters["multifd-channels"] = channels
    await qemu.set_migration(
        {"events": True, "multifd": channels > 0, "xbzrle": work.is_xbzrle}, parameters
    )


async def secure(qemu: QemuProcess, endpoint: str, place: Place) -> None:
    """Give a QEMU its certificates, before anything else is set."""
    await qemu.execute(
        "object-add",
        **{"qom-type": "tls-creds-x509", "id": "tls0", "endpoint": endpoint},
        dir=str(place.certificates()),
    )
    parameters = {"tls-creds": "tls0", "tls-hostname": certificates.HOST}
    await qemu.set_migration({}, parameters)


async def listen(destination: QemuProcess, uri: str, work: Workload, channels: int) -> str:
    """Have a QEMU listen. Returns where a source connects to."""
    await set_up(destination, work, channels)
    await destination.migrate_incoming(uri)
    if uri.startswith("unix:"):
        return uri
    (address,) = (await destination.migration())["socket-address"]
    return f"tcp:{address['host']}:{address['port']}"


async def start(source: QemuProcess, work: Workload, channels: int) -> None:
    """Have a guest do what it does until it is moved.

    Raises:
        trio.TooSlowError: It does not.
    """
    await set_up(source, work, channels)
    if not work.is_running:
        await trio.sleep(0.1)
        return
    before = last_stamp(source.ram_path, work)
    await source.cont()
    with trio.fail_after(_ROUND_TIMEOUT_S):
        while last_stamp(source.ram_path, work) == before:  # noqa: ASYNC110, nobody tells us
            await trio.sleep(_POLL_S)


async def moved(qemu: QemuProcess) -> None:
    """Wait until a QEMU says that a migration is through.

    Raises:
        MigrationFailed: It failed.
    """
    event = await qemu.qmp.wait_event(
        "MIGRATION", timeout_s=_MOVE_TIMEOUT_S, matches=lambda data: data["status"] in _ENDS
    )
    if event["data"]["status"] != "completed":
        raise MigrationFailed(qemu.name, "completed", await qemu.migration())


_ENDS: Final = ("completed", "failed", "cancelled")


def figures(info: Mapping[str, Any]) -> dict[str, Any]:
    """What a source's ``query-migrate`` says."""
    return {
        "reported_s": info["total-time"] / 1e3,
        "downtime_s": info["downtime"] / 1e3,
        "sent_bytes": info["ram"]["transferred"],
    }


async def stood_still_s(source: QemuProcess, destination: QemuProcess) -> float:
    """How long neither of two QEMUs ran a guest that has moved, by their events' own times.

    Raises:
        trio.TooSlowError: It still does not run.
    """
    stop = await source.qmp.wait_event("STOP", timeout_s=_MOVE_TIMEOUT_S)
    resume = await destination.qmp.wait_event("RESUME", timeout_s=_MOVE_TIMEOUT_S)
    return _time_s(resume) - _time_s(stop)


def _time_s(event: Mapping[str, Any]) -> float:
    stamp = event["timestamp"]
    return float(stamp["seconds"] + stamp["microseconds"] / 1e6)


async def has_arrived(destination: QemuProcess, work: Workload, expected: Path) -> bool:
    """Whether a QEMU's memory is as it must be; stops its guest."""
    if work.is_running:
        await destination.stop()
        return await trio.to_thread.run_sync(is_later, expected, destination.ram_path, work)
    wrong = await trio.to_thread.run_sync(
        images.differing_pages, expected, destination.ram_path, work.ram_bytes
    )
    return not len(wrong)
