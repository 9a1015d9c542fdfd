"""What the README shows works, at another place than /run/vm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from nbd_peers import QEMU_NBD_MISSING, QemuNbd, make_image

from transship.disks import RawImage
from transship_nbd.client import connect

README = Path(__file__).parents[1] / "README.md"


def example(number: int, place: Path) -> dict[str, Any]:
    """What one of the Python examples defines."""
    found = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(found[number].replace("/run/vm", str(place)), names)
    return names


@pytest.mark.skipif(QEMU_NBD_MISSING, reason="qemu-nbd or qemu-img is not installed")
def test_example_of_the_client_reads_a_sector(place: Path) -> None:
    image = make_image(place / "disk.qcow2", 1 << 20, "qcow2")
    with QemuNbd(image, "qcow2", place / "disk.sock", "-x", ""):
        assert example(0, place)["first"] == bytes(512)


async def test_example_of_the_server_exports_an_image(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = RawImage.create(place / "disk.raw", 1 << 20)
    image.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(example(1, place)["export"], image)
        await trio.testing.wait_all_tasks_blocked(0.1)
        uri = capsys.readouterr().out.strip()
        device = await trio.to_thread.run_sync(connect, uri)
        await trio.to_thread.run_sync(device.acquire)
        await trio.to_thread.run_sync(device.write, 0, b"exported")
        device.close()
        nursery.cancel_scope.cancel()
    image.close()
    assert (place / "disk.raw").read_bytes()[:8] == b"exported"
