"""Multifd between us and real QEMUs, in both directions: memory arrives as it was.

As in the tests of XBZRLE, our side of the second direction is a checkpoint whose memory goes on
changing while it is sent, so pages are sent again, over other channels, and become zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
from qemu_peer.boot import assert_consecutive
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import RAM_BLOCK, QemuProcess
from support.passages import EAGER, SLOW, guest, listen, ram_of, take, waiting_guest
from test_xbzrle_with_qemu import RAM_BYTES, STEPS, changing_guest

from transship.abc import Parameters
from transship.assembly import migrate, receive
from transship.guests.scratch import ScratchGuest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.qemu

NO_PARAMETERS: Final[Mapping[str, object]] = {}
MULTIFD: Final = frozenset({"multifd"})

each_qemu = pytest.mark.parametrize("qemu", qemu_binaries(), ids=lambda qemu: qemu.label)
each_machine = pytest.mark.parametrize("machine", ["pc", "pc-i440fx-7.2"])
each_scheme = pytest.mark.parametrize("scheme", ["tcp", "unix"])
each_count = pytest.mark.parametrize("channels", [1, 3])


def parameters_of(channels: int, **others: float) -> Parameters:
    return Parameters(
        max_bandwidth_bytes_per_s=0,
        multifd_channels=channels,
        **others,  # type: ignore[arg-type]
    )


async def set_up(
    qemu: QemuProcess, channels: int, parameters: Mapping[str, object] = NO_PARAMETERS
) -> None:
    await qemu.set_migration(
        {"multifd": True},
        {"multifd-channels": channels, **parameters},
    )


def uri_of(scheme: str, place: Path) -> str:
    return f"unix:{place / 'ours.sock'}" if scheme == "unix" else "tcp:127.0.0.1:0"


@each_qemu
@each_machine
@each_scheme
@each_count
async def test_live_guest_of_a_qemu_arrives_over_several_channels(
    qemu: QemuBinary, machine: str, scheme: str, channels: int, place: Path
) -> None:
    listening = trio.Event()
    uri = uri_of(scheme, place)

    def on_listening(address: str) -> None:
        nonlocal uri
        uri = address
        listening.set()

    ours = ScratchGuest()
    async with guest(qemu, place, "source", machine, ram_bytes=RAM_BYTES) as source:
        await source.wait_sweeps(3)
        incoming = receive(
            ours,
            uri,
            parameters=parameters_of(channels),
            capabilities=MULTIFD,
            on_listening=on_listening,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(incoming.run)
            await listening.wait()
            await set_up(source, channels, SLOW)
            await source.migrate(uri, {"return-path": True}, {})
            with trio.move_on_after(1):
                await source.wait_migration()
            await source.set_migration({}, EAGER)
            await source.wait_migration()
        assert source.ram() == ram_of(ours)
    counters = incoming.statistics.sections["ram"]
    assert counters["normal"] > 0
    ours.close()


@each_qemu
@each_machine
@each_scheme
@each_count
async def test_qemu_loads_many_rounds_over_several_channels(
    qemu: QemuBinary, machine: str, scheme: str, channels: int, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", machine, ram_bytes=RAM_BYTES) as source:
        await source.wait_sweeps(3)
        await source.stop()
        await take(source, place, folder)
        life = source.serial_bytes()

    ours = changing_guest(folder)
    async with waiting_guest(qemu, place, "destination", machine, ram_bytes=RAM_BYTES) as waiting:
        await set_up(waiting, channels)
        uri = await listen(waiting, place, scheme)
        migration = migrate(
            ours,
            uri,
            parameters=parameters_of(channels, downtime_limit_s=0.0),
            capabilities=MULTIFD,
        )
        await migration.run()
        await waiting.wait_migration()
        await waiting.wait_run_state("paused")
        assert waiting.ram() == bytes(ours.block(RAM_BLOCK).view)

        await waiting.cont()
        await waiting.wait_sweeps(3)
        assert_consecutive(life + waiting.serial_bytes())
    counters = migration.statistics.sections["ram"]
    assert counters["dirty_sync_count"] >= STEPS + 2
    assert counters["multifd_bytes"] > counters["normal_bytes"]
