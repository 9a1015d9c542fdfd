"""XBZRLE between us and real QEMUs, in both directions: memory arrives as it was.

Our side of the first direction is a checkpoint of a QEMU's guest whose memory goes on changing
while it is sent, above all that the guest and its firmware use; so the guest itself lives on.
"""

from __future__ import annotations

import json
import random
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
import trio
from qemu_peer.boot import assert_consecutive, assert_memory_consistent
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import MIB, RAM_BLOCK
from support.passages import EAGER, SLOW, guest, listen, receiving, take, waiting_guest

from transship.abc import Parameters
from transship.assembly import migrate
from transship.guests.stored.guest import StoredGuest
from transship.memory.ramblock import RAMBlock
from transship.testing.guests import ExplicitDirtyLog, FakeGuest, GuestWrite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transship.memory.bitmap import DirtyBitmap

pytestmark = pytest.mark.qemu

PAGE: Final = 4096
RAM_BYTES: Final = 32 * MIB
UNUSED: Final = range(4 * MIB, RAM_BYTES - 8 * MIB, PAGE)
"""Where nobody else writes: pages of the main memory."""
EDITED: Final = UNUSED[:512]
STEPS: Final = 5

each_qemu = pytest.mark.parametrize("qemu", qemu_binaries(), ids=lambda qemu: qemu.label)


class PlayingLog(ExplicitDirtyLog):
    """Lets its guest take a step of its script whenever it is asked for the first block."""

    def __init__(self, guest: FakeGuest) -> None:
        self._guest = guest
        super().__init__(guest.ram_blocks())

    def sync(self, block: RAMBlock, bitmap: DirtyBitmap) -> int:
        if block.idstr == RAM_BLOCK:
            self._guest.play()
        return super().sync(block, bitmap)


def edits(seed: int) -> Iterator[list[GuestWrite]]:
    """In every step 64 bytes of each page change; of a few pages all does, or they become zero."""
    source = random.Random(seed)
    for step in range(STEPS):
        writes = [
            GuestWrite(RAM_BLOCK, page + source.randrange(PAGE - 64), source.randbytes(64))
            for page in EDITED
        ]
        writes += [GuestWrite(RAM_BLOCK, EDITED[step], source.randbytes(PAGE))]
        writes += [GuestWrite(RAM_BLOCK, EDITED[100 + step], bytes(PAGE))]
        yield writes


def changing_guest(folder: Path) -> FakeGuest:
    """The guest of a checkpoint; its memory changes from round to round."""
    stored = StoredGuest.open(folder)
    blocks = []
    with closing(stored):
        for image in stored.ram_blocks():
            block = RAMBlock.anonymous(image.idstr, image.used_length)
            block.view[:] = image.view
            blocks.append(block)
    result = FakeGuest(blocks, sections=stored.sections(), script=edits(1))
    result.machine = stored.machine
    result.log = PlayingLog(result)
    return result


@each_qemu
@pytest.mark.parametrize("is_set", [True, False], ids=["with-capability", "without"])
@pytest.mark.parametrize("cache_bytes", [64 * MIB, 1 * MIB], ids=["64-MiB", "1-MiB"])
async def test_qemu_loads_many_rounds_of_our_changes(
    qemu: QemuBinary, is_set: bool, cache_bytes: int, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc", ram_bytes=RAM_BYTES) as source:
        await source.wait_sweeps(3)
        await source.stop()
        await take(source, place, folder)
        life = source.serial_bytes()

    ours = changing_guest(folder)
    async with waiting_guest(qemu, place, "destination", "pc", ram_bytes=RAM_BYTES) as destination:
        uri = await listen(destination, place, capabilities={"xbzrle": is_set})
        parameters = Parameters(
            max_bandwidth_bytes_per_s=0, downtime_limit_s=0.0, xbzrle_cache_bytes=cache_bytes
        )
        migration = migrate(ours, uri, parameters=parameters, capabilities=frozenset({"xbzrle"}))
        await migration.run()
        await destination.wait_migration()
        await destination.wait_run_state("paused")
        assert destination.ram() == bytes(ours.block(RAM_BLOCK).view)

        await destination.cont()
        await destination.wait_sweeps(3)
        assert_consecutive(life + destination.serial_bytes())

    counters = migration.statistics.sections["ram"]
    changes = counters["xbzrle_raw_bytes"] // PAGE
    cached = min(len(EDITED), cache_bytes // PAGE)
    assert counters["dirty_sync_count"] >= STEPS + 2
    assert changes >= (STEPS - 1) * (cached - 10)
    assert counters["xbzrle_overflow"] > 0
    assert counters["xbzrle_encoded_bytes"] < 100 * changes


@each_qemu
@pytest.mark.parametrize("cache_bytes", [64 * MIB, 256 << 10], ids=["64-MiB", "256-KiB"])
async def test_live_guest_of_a_qemu_that_sends_changes_arrives(
    qemu: QemuBinary, cache_bytes: int, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, folder) as (receive, uri):
            capabilities = {"return-path": True, "xbzrle": True}
            slow = {**SLOW, "xbzrle-cache-size": cache_bytes, "max-bandwidth": 1 << 20}
            await source.migrate(uri, capabilities, slow)
            with trio.move_on_after(5):  # with luck it is through before: changes are short
                await source.wait_migration()
            await source.set_migration({}, EAGER)
            cache = (await source.wait_migration())["xbzrle-cache"]
            received = (await receive.outcome()).expect(0)
        image = (folder / "ram" / RAM_BLOCK).read_bytes()
        assert image == source.ram()
        assert_memory_consistent(image)
    assert json.loads((folder / "machine.json").read_text())["machine"] == source.machine
    loaded = received.facts["statistics"]["sections"]["ram"]["xbzrle"]
    assert 0 < loaded <= cache["pages"] - cache["overflow"]
