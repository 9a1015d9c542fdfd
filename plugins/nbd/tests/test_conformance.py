"""Exports do what every block device must do, whoever serves them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from nbd_peers import QEMU_NBD_MISSING, Exporting, QemuNbd, make_image

from transship.abc import BlockDevice, Extent
from transship.disks import RawImage
from transship.testing.pytest_plugin import BlockDeviceConformance
from transship_nbd.client import connect
from transship_nbd.server import Export

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transship.buffers import Buffer
    from transship.testing import OpenDevice

SIZE = 4 << 20


@pytest.mark.skipif(QEMU_NBD_MISSING, reason="qemu-nbd or qemu-img is not installed")
class TestExportOfQemuNbd(BlockDeviceConformance):
    @pytest.fixture(params=["raw", "qcow2"])
    def open_device(self, request: pytest.FixtureRequest, place: Path) -> Iterator[OpenDevice]:
        image = make_image(place / "disk", SIZE, request.param)
        with QemuNbd(image, request.param, place / "socket") as server:
            yield lambda: connect(server.uri)


class TestExportOfOurs(BlockDeviceConformance):
    @pytest.fixture(params=["unix", "tcp"])
    def open_device(self, request: pytest.FixtureRequest, place: Path) -> Iterator[OpenDevice]:
        image = RawImage.create(place / "disk.raw", SIZE)
        image.acquire()
        listen = "nbd://127.0.0.1:0" if request.param == "tcp" else f"{place}/socket"
        try:
            with Exporting({"disk": Export(image)}, listen) as server:
                yield lambda: connect(server.uri)
        finally:
            image.close()


class WholeBlocks(BlockDevice):
    """A device that is read and written in blocks, and takes nothing else."""

    BLOCK = 4096

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.look(offset, len(target))
        target[:] = self.data[offset : offset + len(target)]

    def write(self, offset: int, data: Buffer) -> None:
        self.look(offset, len(data))
        self.data[offset : offset + len(data)] = data

    def write_zeroes(self, offset: int, length: int) -> None:
        self.write(offset, bytes(length))

    def discard(self, offset: int, length: int) -> None:
        self.write(offset, b"?" * length)

    def flush(self) -> None: ...

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        self.look(offset, length)
        for place in range(offset, offset + length, self.BLOCK):
            is_zero = not any(self.data[place : place + self.BLOCK])
            yield Extent(place, self.BLOCK, reads_as_zero=is_zero)

    def look(self, offset: int, length: int) -> None:
        if offset % self.BLOCK or length % self.BLOCK:
            raise OSError(errno.EINVAL, f"{length} bytes at {offset} are no whole blocks")


class TestExportOfWholeBlocks(BlockDeviceConformance):
    @pytest.fixture
    def open_device(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenDevice]:
        monkeypatch.setattr("transship_nbd._offer.SMALLEST_BLOCK", WholeBlocks.BLOCK)
        monkeypatch.setattr("transship_nbd._offer.LONGEST_PAYLOAD_BYTES", 3 * WholeBlocks.BLOCK)
        with Exporting({"disk": Export(WholeBlocks(SIZE))}, f"{place}/socket") as server:
            yield lambda: connect(server.uri)
