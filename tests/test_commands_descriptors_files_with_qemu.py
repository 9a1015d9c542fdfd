"""Commands, open descriptors and files between us and real QEMUs, in both directions.

Each way leads a guest out of a QEMU into one of our checkpoints, or out of a checkpoint into a
QEMU, where it counts on. What has no answer is stored first, and loaded when the source is through.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from qemu_peer.boot import assert_consecutive
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import RAM_BLOCK, QemuProcess
from support.commands import VerbProcess, transship
from support.passages import EAGER, NO_OPTIONS, guest, ram_of, receiving, take, waiting_guest

from transship.assembly import migrate, receive
from transship.guests.scratch import ScratchGuest
from transship.guests.stored import StoredGuest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.qemu

QEMUS = qemu_binaries()
FILE_SINCE = (8, 2)
OFFSET = 0x1000


def ways() -> list[Any]:
    """How each QEMU names what we call ``file:``; with its own scheme where it has that."""
    result = []
    for qemu in QEMUS:
        result.append(pytest.param(qemu, "command", id=f"{qemu.label}-exec"))
        if qemu.version >= FILE_SINCE:
            result.append(pytest.param(qemu, "file", id=f"{qemu.label}-file"))
            result.append(pytest.param(qemu, "offset", id=f"{qemu.label}-file-offset"))
    return result


each_way = pytest.mark.parametrize(("qemu", "way"), ways())
each_qemu = pytest.mark.parametrize("qemu", QEMUS, ids=lambda qemu: qemu.label)
each_kind = pytest.mark.parametrize("kind", ["socket", "pipe"])


def addresses(way: str, path: Path) -> tuple[str, str, str]:
    """What a QEMU writes to, what a QEMU reads from, and what we call both."""
    match way:
        case "command":
            return f"exec:cat > {path}", f"exec:cat {path}", f"file:{path}"
        case "offset":
            uri = f"file:{path},offset={OFFSET:#x}"
            return uri, uri, uri
    return f"file:{path}", f"file:{path}", f"file:{path}"


async def store(source: QemuProcess, place: Path, folder: Path) -> bytes:
    """Move a stopped guest into a checkpoint; returns what it said."""
    await source.wait_sweeps(3)
    await source.stop()
    await take(source, place, folder)
    return source.serial_bytes()


async def counts_on(qemu: QemuProcess, life: bytes) -> None:
    await qemu.wait_migration()
    await qemu.wait_run_state("paused")
    await qemu.cont()
    await qemu.wait_sweeps(3)
    assert_consecutive(life + qemu.serial_bytes())


# Files.


@each_way
async def test_guest_that_a_qemu_wrote_to_a_file_is_received(
    qemu: QemuBinary, way: str, place: Path
) -> None:
    path, folder = place / "stream", place / "vm"
    written, _, ours = addresses(way, path)
    if way == "offset":
        path.write_bytes(b"h" * OFFSET)
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        await source.migrate(written, NO_OPTIONS, EAGER)
        await source.wait_migration()
        (await transship("receive", ours, "--to", folder)).expect(0)
        assert (folder / "ram" / RAM_BLOCK).read_bytes() == source.ram()
    if way == "offset":
        assert path.read_bytes()[:OFFSET] == b"h" * OFFSET


@each_way
async def test_qemu_loads_what_we_wrote_to_a_file(qemu: QemuBinary, way: str, place: Path) -> None:
    path, folder = place / "stream", place / "vm"
    _, read, ours = addresses(way, path)
    async with guest(qemu, place, "source", "pc") as source:
        life = await store(source, place, folder)
    (await transship("send", folder, ours)).expect(0)
    async with waiting_guest(qemu, place, "destination", "pc") as destination:
        await destination.migrate_incoming(read)
        await counts_on(destination, life)


# Commands.


@each_qemu
async def test_guest_moves_from_a_qemu_through_commands_into_a_checkpoint(
    qemu: QemuBinary, place: Path
) -> None:
    fifo, folder = place / "fifo", place / "vm"
    os.mkfifo(fifo)
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with VerbProcess("receive", f"exec:cat {fifo}", "--to", folder) as ours:
            await ours.reading()
            await source.migrate(f"exec:cat > {fifo}", NO_OPTIONS, EAGER)
            await source.wait_migration()
            (await ours.outcome()).expect(0)
        assert (folder / "ram" / RAM_BLOCK).read_bytes() == source.ram()


@each_qemu
async def test_guest_moves_from_a_checkpoint_through_commands_into_a_qemu(
    qemu: QemuBinary, place: Path
) -> None:
    fifo, folder = place / "fifo", place / "vm"
    os.mkfifo(fifo)
    async with guest(qemu, place, "source", "pc") as source:
        life = await store(source, place, folder)
    async with waiting_guest(qemu, place, "destination", "pc") as destination:
        await destination.migrate_incoming(f"exec:cat {fifo}")
        (await transship("send", folder, f"exec:cat > {fifo}")).expect(0)
        await counts_on(destination, life)


# Descriptors.


def connected(kind: str) -> tuple[int, int]:
    """Where to write, and where to read; the caller's to close."""
    if kind == "socket":
        one, other = socket.socketpair()
        return one.detach(), other.detach()
    reads, writes = os.pipe()
    return writes, reads


async def getfd(qemu: QemuProcess, name: str, descriptor: int) -> None:
    """Hand a descriptor to a QEMU, over a monitor of its own, and close it here."""
    raw = qemu.qmp._stream.socket
    with memoryview(b" ") as blank:
        sent = await raw.sendmsg(
            [blank], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.to_bytes(4, "little"))]
        )
    assert sent == 1
    await qemu.execute("getfd", fdname=name)
    os.close(descriptor)


@each_qemu
@each_kind
async def test_guest_moves_from_a_qemu_over_a_descriptor_that_it_was_given(
    qemu: QemuBinary, kind: str, place: Path
) -> None:
    writes, reads = connected(kind)
    ours, listening = ScratchGuest(), trio.Event()
    os.set_inheritable(reads, True)
    incoming = receive(ours, f"fd:{reads}", on_listening=lambda _: listening.set())
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(incoming.run)
            await listening.wait()
            await getfd(source, "out", writes)
            await source.migrate("fd:out", {"return-path": kind == "socket"}, EAGER)
            await source.wait_migration()
        assert source.ram() == ram_of(ours)
    ours.close()


@each_qemu
@each_kind
async def test_guest_moves_into_a_qemu_over_a_descriptor_that_it_was_given(
    qemu: QemuBinary, kind: str, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        life = await store(source, place, folder)
    writes, reads = connected(kind)
    async with waiting_guest(qemu, place, "destination", "pc") as destination:
        await getfd(destination, "in", reads)
        await destination.migrate_incoming("fd:in")
        await send(folder, writes)
        await counts_on(destination, life)


async def send(folder: Path, descriptor: int) -> None:
    """Play a checkpoint to a descriptor, as if it had been inherited."""
    os.set_inheritable(descriptor, True)
    stored = StoredGuest.open(folder)
    await migrate(stored, f"fd:{descriptor}").run()
    stored.close()


@each_qemu
@each_kind
async def test_guest_moves_over_inherited_descriptors_into_ours_and_into_a_qemu(
    qemu: QemuBinary, kind: str, place: Path
) -> None:
    """A QEMU sends to no inherited one: `migrate` knows those alone that `getfd` has named."""
    folder = place / "vm"
    writes, reads = connected(kind)
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        await source.stop()
        life = source.serial_bytes()
        await getfd(source, "out", writes)
        receive = VerbProcess("receive", f"fd:{reads}", "--to", folder, descriptors=[reads])
        async with receive as ours:
            os.close(reads)
            await ours.reading()
            await source.migrate("fd:out", {"return-path": kind == "socket"}, EAGER)
            await source.wait_migration()
            (await ours.outcome()).expect(0)
    writes, reads = connected(kind)
    async with guest(
        qemu, place, "destination", "pc", incoming=f"fd:{reads}", descriptors=[reads]
    ) as destination:
        os.close(reads)
        await send(folder, writes)
        await counts_on(destination, life)


@each_qemu
async def test_qemu_reaches_a_listening_receiver_over_a_connection_that_it_was_given(
    qemu: QemuBinary, place: Path
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        async with receiving(place, folder) as (ours, uri):
            path = uri.removeprefix("unix:")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                await getfd(source, "out", connection.detach())
            await source.migrate("fd:out", {"return-path": True}, EAGER)
            await source.wait_migration()
            (await ours.outcome()).expect(0)
        assert (folder / "ram" / RAM_BLOCK).read_bytes() == source.ram()
