"""Files in the mapped-ram layout: written by QEMU and read by us, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from qemu_peer.boot import assert_consecutive
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import RAM_BLOCK
from support.passages import EAGER, guest, ram_of, take, waiting_guest

from transship.abc import Parameters
from transship.assembly import migrate, receive, sections_for
from transship.guests.scratch import ScratchGuest
from transship.guests.stored import StoredGuest
from transship.inspection.ram import sha256
from transship.inspection.stream import read_stream

if TYPE_CHECKING:
    from pathlib import Path

    from transship.memory.ramblock import RAMBlock

pytestmark = pytest.mark.qemu

RAM_BYTES: Final = 64 << 20

each_qemu = pytest.mark.parametrize(
    "qemu",
    [one for one in qemu_binaries() if not one.label.startswith("7.")],
    ids=lambda qemu: qemu.label,
)
each_way = pytest.mark.parametrize(
    ("threads", "offset"), [(0, 0), (3, 0x1234)], ids=["one-thread", "multifd-at-offset"]
)


def capabilities_of(threads: int) -> frozenset[str]:
    return frozenset({"mapped-ram", "multifd"} if threads else {"mapped-ram"})


def parameters_of(threads: int) -> Parameters:
    return Parameters(max_bandwidth_bytes_per_s=0, multifd_channels=threads or 2)


@each_qemu
@each_way
async def test_we_read_what_a_qemu_has_written(
    qemu: QemuBinary, threads: int, offset: int, place: Path
) -> None:
    uri = f"file:{place / 'vm.mapped'},offset={offset}"
    async with guest(qemu, place, "source", "pc-i440fx-7.2", ram_bytes=RAM_BYTES) as source:
        await source.wait_sweeps(3)
        on = dict.fromkeys(capabilities_of(threads), True)
        await source.set_migration({**on, "events": True}, {"multifd-channels": threads or 2})
        await source.migrate(uri, {}, EAGER)
        await source.wait_migration()
        ours = ScratchGuest()
        incoming = receive(
            ours, uri, parameters=parameters_of(threads), capabilities=capabilities_of(threads)
        )
        await incoming.run()
        block = next(one for one in ours.ram_blocks() if one.idstr == RAM_BLOCK)
        assert source.ram() == bytes(block.view)
    if not offset:
        _assert_inspect_agrees(place / "vm.mapped", block)
    assert 0 < incoming.statistics.transferred_bytes < RAM_BYTES
    ours.close()


def _assert_inspect_agrees(path: Path, block: RAMBlock) -> None:
    report = read_stream(path, sections_for)
    assert report.complete
    assert report.ram is not None
    entry = next(one for one in report.ram.blocks if one.idstr == RAM_BLOCK)
    assert entry.sha256 == sha256(block)
    last = report.sections[-1]
    assert last.offset is not None
    assert last.length is not None
    assert block.used_length < last.offset + last.length < path.stat().st_size


@each_qemu
@each_way
async def test_qemu_reads_what_we_have_written(
    qemu: QemuBinary, threads: int, offset: int, place: Path
) -> None:
    checkpoint = place / "vm"
    async with guest(qemu, place, "source", "pc-i440fx-7.2", ram_bytes=RAM_BYTES) as source:
        await source.wait_sweeps(3)
        await source.stop()
        await take(source, place, checkpoint)
        life = source.serial_bytes()
    uri = f"file:{place / 'vm.mapped'},offset={offset}"
    ours = StoredGuest.open(checkpoint)
    migration = migrate(
        ours, uri, parameters=parameters_of(threads), capabilities=capabilities_of(threads)
    )
    await migration.run()
    async with waiting_guest(
        qemu, place, "destination", "pc-i440fx-7.2", ram_bytes=RAM_BYTES
    ) as waiting:
        on = dict.fromkeys(capabilities_of(threads), True)
        await waiting.set_migration(on, {"multifd-channels": threads or 2})
        await waiting.migrate_incoming(uri, {})
        await waiting.wait_migration()
        assert waiting.ram() == ram_of(ours)
        await waiting.cont()
        await waiting.wait_sweeps(3)
        assert_consecutive(life + waiting.serial_bytes())
