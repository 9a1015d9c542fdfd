"""What real QEMUs compress we decompress, and what we compress they load."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest
import trio
from qemu_peer.boot import assert_consecutive
from qemu_peer.find import QemuBinary, qemu_binaries
from qemu_peer.process import RAM_BLOCK
from support.commands import transship
from support.passages import EAGER, guest, listen, receiving, waiting_guest

from transship.plugin.discovery import find_compression
from transship.wire.constants import MULTIFD_MAGIC
from transship.wire.multifd import (
    HEADER_BYTES,
    INITIAL_BYTES,
    METHOD_BITS,
    packet_bytes,
    parse_packet_header,
)

if TYPE_CHECKING:
    from pathlib import Path

    from transship.abc import Compression

pytest.importorskip("transship_zlib")
pytest.importorskip("transship_zstd")
pytestmark = pytest.mark.qemu

PAGE: Final = 4096
CHANNELS: Final = 3

each_qemu = pytest.mark.parametrize("qemu", qemu_binaries(), ids=lambda qemu: qemu.label)
each_method = pytest.mark.parametrize("method", ["zlib", "zstd"])


@dataclass
class Recorder:
    """Takes whatever is sent to a socket.

    Attributes:
        channels: What came over each connection of multifd.
        wanted: How many of those there are.
        is_over: When all of them, and the stream itself, have ended.
    """

    wanted: int
    channels: list[bytes] = field(default_factory=list)
    is_over: trio.Event = field(default_factory=trio.Event)
    _ended: int = 0

    async def take(self, connection: trio.SocketStream) -> None:
        data = b"".join([part async for part in connection])
        if data.startswith(MULTIFD_MAGIC):
            self.channels.append(data)
        self._ended += 1
        if self._ended == 1 + self.wanted:
            self.is_over.set()


def load(channel: bytes, compression: Compression, ram: bytearray) -> None:
    """Load the pages of a recorded channel into the guest's main memory."""
    decompressor = compression.decompressor()
    rest = memoryview(channel)[INITIAL_BYTES:]
    while rest:
        header = parse_packet_header(rest[:HEADER_BYTES])
        count = header.normal_pages
        starts = struct.unpack_from(f">{count}Q", rest, HEADER_BYTES)
        rest = rest[packet_bytes(PAGE) :]
        if not count:
            continue
        assert header.flags & METHOD_BITS == compression.wire_flag
        data, rest = rest[: header.data_bytes], rest[header.data_bytes :]
        block = ram if header.idstr == RAM_BLOCK.encode() else bytearray(max(starts) + PAGE)
        decompressor.decompress(data, [memoryview(block)[at : at + PAGE] for at in starts])


@each_qemu
@each_method
@pytest.mark.parametrize("level", [1, 9])
async def test_memory_that_a_qemu_compressed_is_what_it_was(
    qemu: QemuBinary, method: str, level: int, place: Path
) -> None:
    recorder = Recorder(CHANNELS)
    path = place / "recorder.sock"
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(path))
    listening.listen()
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(2)
        await source.stop()
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(listening)
            nursery.start_soon(trio.serve_listeners, recorder.take, [listener])
            await source.set_migration(
                {"multifd": True},
                {
                    "multifd-channels": CHANNELS,
                    "multifd-compression": method,
                    f"multifd-{method}-level": level,
                    **EAGER,
                },
            )
            await source.migrate(f"unix:{path}")
            await source.wait_migration()
            with trio.fail_after(10):
                await recorder.is_over.wait()
            nursery.cancel_scope.cancel()
        ram = bytearray(len(source.ram()))
        compression = find_compression(method)
        assert len(recorder.channels) == CHANNELS
        for channel in recorder.channels:
            load(channel, compression, ram)
        assert ram == source.ram()


@each_qemu
@each_method
async def test_guest_moves_through_a_checkpoint_over_compressed_channels_and_counts_on(
    qemu: QemuBinary, method: str, place: Path
) -> None:
    folder = place / "vm"
    settings = {"multifd-channels": 2, "multifd-compression": method}
    options = ["--cap", "multifd"]
    for name, value in settings.items():
        options += ["--set", f"{name}={value}"]

    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(2)
        async with receiving(place, folder, "unix", *options) as (receive, uri):
            await source.migrate(uri, {"multifd": True}, {**settings, **EAGER})
            await source.wait_migration()
            (await receive.outcome()).expect(0)
        assert (folder / "ram" / RAM_BLOCK).read_bytes() == source.ram()
        life = source.serial_bytes()

    async with waiting_guest(qemu, place, "destination", "pc") as destination:
        await destination.set_migration({"multifd": True}, settings)
        uri = await listen(destination, place)
        (await transship("send", folder, uri, *options)).expect(0)
        await destination.wait_migration()
        await destination.wait_sweeps(2)
        assert_consecutive(life + destination.serial_bytes())
