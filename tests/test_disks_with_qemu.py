"""Disks and dirty bitmaps from a real QEMU to us, and from us to a real QEMU."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import MIB, QemuProcess
from support.commands import transship
from support.disk_boot import (
    SECTOR_BYTES,
    SECTORS,
    assert_of_one_moment,
    write_disk_boot_image,
    writes_begun,
)
from support.passages import receiving as taking_in

from transship import migrate, receive
from transship.abc import Capability, Disk, Extent, Parameters
from transship.disks import RawImage
from transship.guests.stored.guest import StoredGuest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from transship.abc import BlockDevice, DiskBitmap

pytestmark = pytest.mark.qemu

QEMUS = qemu_binaries()
WITH_BLOCK = [qemu for qemu in QEMUS if qemu.version < (9, 1)]
WITHOUT_BLOCK = [qemu for qemu in QEMUS if qemu.version >= (9, 1)]

with_block = pytest.mark.parametrize("qemu", WITH_BLOCK, ids=lambda qemu: qemu.label)
without_block = pytest.mark.parametrize("qemu", WITHOUT_BLOCK, ids=lambda qemu: qemu.label)

DISK = "disk0"
BOOT_DISK = "ide0-hd0"
SIZE = SECTORS * SECTOR_BYTES
FAST = {"max-bandwidth": 1_000_000_000, "downtime-limit": 2000}
"""Not without a cap: with max-bandwidth 0 QEMU 7.2 sends no disks, and never ends."""


class WithDisks(StoredGuest):
    """A checkpoint that has been given disks."""

    given: Sequence[Disk] = ()

    def disks(self) -> Sequence[Disk]:
        return self.given

    def attach_disk(self, name: str) -> Disk:
        return super(StoredGuest, self).attach_disk(name)


def qemu_with_disk(
    qemu: QemuBinary, place: Path, name: str, disk: Path, *, form: str = "raw", **options: Any
) -> QemuProcess:
    """Describe a QEMU whose guest writes to that disk."""
    if not (place / "boot.img").exists():
        write_disk_boot_image(place / "boot.img")
    drive = f"file={disk},format={form},if=ide,index=1,id={DISK}"
    return QemuProcess(qemu, place, name=name, arguments=["-drive", drive], **options)


def raw_image(path: Path, size: int = SIZE, filling: bytes = b"\0") -> Path:
    path.write_bytes(filling * size)
    return path


def disks_of(place: Path, name: str, size: int = SIZE) -> list[Disk]:
    """Disks to receive into, with something in them that is to be gone."""
    images = {
        BOOT_DISK: raw_image(place / f"{name}.boot.raw", MIB, b"\7"),
        DISK: raw_image(place / f"{name}.disk.raw", size, b"\7"),
    }
    return [Disk(disk, RawImage.open(path)) for disk, path in images.items()]


@asynccontextmanager
async def receiving(guest: WithDisks, uri: str) -> AsyncIterator[None]:
    """Wait for a source, and take in all that it has."""
    is_listening = trio.Event()
    incoming = receive(
        guest,
        uri,
        capabilities=(),
        parameters=Parameters(max_bandwidth_bytes_per_s=0),
        on_listening=lambda _: is_listening.set(),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(incoming.run)
        await is_listening.wait()
        yield


async def written(qemu: QemuProcess, more: int = 200) -> None:
    """Wait until the guest has written to its disk."""
    wanted = writes_begun(qemu.ram()) + more
    with trio.fail_after(60):
        while writes_begun(qemu.ram()) < wanted:
            qemu.check_alive()
            await trio.sleep(0.05)


def close(disks: Iterable[Disk]) -> None:
    for disk in disks:
        disk.device.close()


@with_block
@pytest.mark.parametrize("zero_blocks", [False, True], ids=["full", "zero-blocks"])
async def test_disk_that_its_guest_writes_moves_through_us_and_is_written_on(
    qemu: QemuBinary, zero_blocks: bool, place: Path
) -> None:
    here = raw_image(place / "here.raw")
    guest = WithDisks.create(place / "vm")
    guest.given = disks_of(place, "between")
    uri = f"unix:{place / 'in.sock'}"
    capabilities = {"zero-blocks": zero_blocks, "return-path": True}
    async with qemu_with_disk(qemu, place, "source", here) as source:
        await written(source)
        async with receiving(guest, uri):
            await source.set_migration(capabilities, FAST)
            await source.execute("migrate", uri=uri, blk=True)
            await source.wait_migration(timeout_s=120)
        ram, stopped = source.ram(), here.read_bytes()
    assert_of_one_moment(stopped, ram)
    contents = [disk.device for disk in guest.disks()]
    assert _content(contents[1]) == stopped
    assert _content(contents[0]) == (place / "boot.img").read_bytes()

    there = raw_image(place / "there.raw", filling=b"\5")
    sent = WithDisks.open(place / "vm")
    sent.given = guest.given
    uri = f"unix:{place / 'out.sock'}"
    async with qemu_with_disk(
        qemu, place, "destination", there, incoming=uri, paused=True
    ) as destination:
        migration = migrate(
            sent,
            uri,
            capabilities={Capability.BLOCK} | ({Capability.ZERO_BLOCKS} if zero_blocks else set()),
            parameters=Parameters(max_bandwidth_bytes_per_s=0),
        )
        await migration.run()
        await destination.wait_run_state("paused")
        assert there.read_bytes() == stopped
        await destination.cont()
        await written(destination)
        await destination.stop()
        assert writes_begun(destination.ram()) > writes_begun(ram)
        assert_of_one_moment(there.read_bytes(), destination.ram())
    statistics = migration.statistics.sections["block"]
    assert statistics["chunks"] + statistics["zero_chunks"] == (SIZE + MIB) // MIB
    close(guest.given)


def _content(device: BlockDevice) -> bytes:
    content = bytearray(device.size_bytes)
    device.read_into(0, memoryview(content))
    return bytes(content)


@with_block
async def test_disks_stay_in_a_checkpoint_and_are_played_back(
    qemu: QemuBinary, place: Path
) -> None:
    here, there = raw_image(place / "here.raw"), raw_image(place / "there.raw", filling=b"\5")
    folder = place / "vm"
    async with qemu_with_disk(qemu, place, "source", here) as source:
        await written(source)
        async with taking_in(place, folder) as (receive, uri):
            await source.set_migration({"return-path": True}, FAST)
            await source.execute("migrate", uri=uri, blk=True)
            await source.wait_migration(timeout_s=60)
            (await receive.outcome()).expect(0)
        ram, stopped = source.ram(), here.read_bytes()
    assert (folder / "disks" / f"{DISK}.raw").read_bytes() == stopped
    listed = (await transship("inspect", folder, "--json")).facts["disks"]
    assert {one["name"]: one["size"] for one in listed} == {DISK: SIZE, BOOT_DISK: MIB}

    uri = f"unix:{place / 'out.sock'}"
    async with qemu_with_disk(qemu, place, "destination", there, incoming=uri) as destination:
        (await transship("send", folder, uri)).expect(0)
        await destination.wait_run_state("running")
        await written(destination)
        await destination.stop()
        assert writes_begun(destination.ram()) > writes_begun(ram)
        assert_of_one_moment(there.read_bytes(), destination.ram())


# --- incremental ----------------------------------------------------------------------------------

LARGE = 4 * SIZE
"""Of which the guest writes to the first quarter alone."""


@with_block
async def test_what_is_only_in_the_base_is_not_sent_to_us(qemu: QemuBinary, place: Path) -> None:
    overlay = await overlay_on(raw_image(place / "base.raw", LARGE, b"\3"), place / "here.qcow2")
    guest = WithDisks.create(place / "vm")
    guest.given = disks_of(place, "there", size=LARGE)
    uri = f"unix:{place / 'in.sock'}"
    async with qemu_with_disk(qemu, place, "source", overlay, form="qcow2") as source:
        await written(source)
        async with receiving(guest, uri):
            await source.set_migration({}, FAST)
            await source.execute("migrate", uri=uri, inc=True)
            await source.wait_migration(timeout_s=60)
        ram = source.ram()
    whole = await content_of_image(overlay, place)
    arrived = _content(guest.given[1].device)
    assert_of_one_moment(whole[:SIZE], ram, untouched=b"\3")
    assert arrived[:SIZE] == whole[:SIZE]
    assert arrived[SIZE:] == b"\7" * (LARGE - SIZE)
    close(guest.given)


class Overlay(RawImage):
    """An image of which the first quarter alone is its own."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        ours = max(0, min(SIZE - offset, length))
        if ours:
            yield Extent(offset, ours)
        if length > ours:
            yield Extent(offset + ours, length - ours, is_allocated=False)


@with_block
async def test_what_we_have_from_a_base_is_not_sent_to_qemu(qemu: QemuBinary, place: Path) -> None:
    guest = WithDisks.create(place / "vm")
    guest.given = disks_of(place, "between", size=LARGE)
    uri = f"unix:{place / 'in.sock'}"
    here = raw_image(place / "here.raw", LARGE)
    async with qemu_with_disk(qemu, place, "source", here) as source:
        await written(source)
        async with receiving(guest, uri):
            await source.set_migration({}, FAST)
            await source.execute("migrate", uri=uri, blk=True)
            await source.wait_migration(timeout_s=60)
    expected = here.read_bytes()[:SIZE]

    base = raw_image(place / "base.raw", LARGE, b"\3")
    overlay = await overlay_on(base, place / "there.qcow2")
    sent = WithDisks.open(place / "vm")
    boot, disk = guest.given
    close([disk])
    sent.given = [boot, Disk(DISK, Overlay.open(place / "between.disk.raw"))]
    uri = f"unix:{place / 'out.sock'}"
    async with qemu_with_disk(
        qemu, place, "destination", overlay, form="qcow2", incoming=uri, paused=True
    ) as destination:
        migration = migrate(
            sent,
            uri,
            capabilities={Capability.BLOCK},
            parameters=Parameters(max_bandwidth_bytes_per_s=0, block_incremental=True),
        )
        await migration.run()
        await destination.wait_run_state("paused")
        await destination.execute("quit")  # which writes what qcow2 keeps in memory
        await destination.wait_exit()
    whole = await content_of_image(overlay, place)
    assert whole == expected + b"\3" * (LARGE - SIZE)
    skipped = (LARGE - SIZE) // MIB
    assert migration.statistics.sections["block"]["skipped_chunks"] == skipped
    close(sent.given)


async def overlay_on(base: Path, overlay: Path) -> Path:
    await qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(overlay))
    return overlay


async def content_of_image(image: Path, place: Path) -> bytes:
    plain = place / "plain.raw"
    await qemu_img("convert", "-f", "qcow2", "-O", "raw", str(image), str(plain))
    return plain.read_bytes()


async def qemu_img(*arguments: str) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("no qemu-img here: install qemu-utils")
    await trio.run_process(["qemu-img", *arguments])


# --- dirty bitmaps --------------------------------------------------------------------------------


@without_block
async def test_dirty_bitmaps_come_from_qemu_and_go_to_qemu(qemu: QemuBinary, place: Path) -> None:
    image = raw_image(place / "here.raw")
    guest = WithDisks.create(place / "vm")
    guest.given = disks_of(place, "unused")
    on = {"dirty-bitmaps": True}
    uri = f"unix:{place / 'in.sock'}"
    async with qemu_with_disk(qemu, place, "source", image) as source:
        for name, granularity, persistent in (("bm0", 65536, False), ("bm1", 4096, False)):
            await source.execute(
                "block-dirty-bitmap-add",
                node=DISK,
                name=name,
                granularity=granularity,
                persistent=persistent,
            )
        await written(source, 50)
        await source.stop()
        before = await bitmaps_of(source)
        async with receiving(guest, uri):
            await source.set_migration(on, FAST)
            await source.execute("migrate", uri=uri)
            await source.wait_migration(timeout_s=60)
    ours = guest.given[1].bitmaps
    assert {name: _figures(bitmap) for name, bitmap in ours.items()} == before
    assert all(count for count, _, _ in before.values())

    sent = WithDisks.open(place / "vm")
    sent.given = guest.given
    there = raw_image(place / "there.raw")
    async with qemu_with_disk(
        qemu, place, "destination", there, incoming="defer", paused=True
    ) as destination:
        uri = f"unix:{place / 'out.sock'}"
        await destination.migrate_incoming(uri, on)
        migration = migrate(
            sent,
            uri,
            capabilities={Capability.DIRTY_BITMAPS},
            parameters=Parameters(max_bandwidth_bytes_per_s=0),
        )
        await migration.run()
        await destination.wait_run_state("paused")
        assert await bitmaps_of(destination) == before
    close(guest.given)


async def bitmaps_of(qemu: QemuProcess) -> dict[str, tuple[int, int, bool]]:
    """Of each bitmap how much is dirty, its granularity, and whether it records."""
    blocks = await qemu.execute("query-block")
    (inserted,) = (block["inserted"] for block in blocks if block["device"] == DISK)
    return {
        one["name"]: (one["count"], one["granularity"], one["recording"])
        for one in inserted["dirty-bitmaps"]
    }


def _figures(bitmap: DiskBitmap) -> tuple[int, int, bool]:
    dirty_bytes = bitmap.bits.count() * bitmap.granularity_bytes
    return dirty_bytes, bitmap.granularity_bytes, bitmap.is_enabled
