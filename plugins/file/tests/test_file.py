"""What only files can do wrong: what else has their name, who else uses them, what was there."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Address
from transship.errors import ConnectError
from transship.testing.checking import receive_to_end
from transship_file import plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transship.abc import Incoming, Outgoing


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stream"


def outgoing(rest: object, **options: int) -> Outgoing:
    return plugin.start_outgoing(Address("file", str(rest)), options)


def incoming(rest: object, **options: int) -> Incoming:
    return plugin.start_incoming(Address("file", str(rest)), options)


async def write(rest: object, data: bytes, **options: int) -> None:
    async with outgoing(rest, **options) as channel:
        await channel.send_segments([data])
        await channel.send_eof()


async def read(rest: object, **options: int) -> bytes:
    async with incoming(rest, **options) as listener:
        channel = await listener.accept()
        try:
            return await receive_to_end(channel)
        finally:
            await channel.aclose()


async def refused(context: Outgoing | Incoming, match: str) -> None:
    with trio.fail_after(5):
        with pytest.raises(ConnectError, match=match):
            async with context:
                pass


async def test_new_file_is_its_users_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        await write(path, b"stream")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_is_before_the_offset_stays_and_what_is_behind_goes(path: Path) -> None:
    path.write_bytes(b"head" + b"old stream, and longer")
    path.chmod(0o640)
    await write(f"{path},offset=4", b"stream")
    assert path.read_bytes() == b"headstream"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert await read(f"{path},offset=0x4") == b"stream"


async def test_offset_behind_the_end_leaves_a_gap(path: Path) -> None:
    await write(f"{path},offset=1M", b"stream")
    assert path.read_bytes() == bytes(1 << 20) + b"stream"
    assert path.stat().st_blocks * 512 < 1 << 20


async def test_path_may_contain_what_an_offset_begins_with(tmp_path: Path) -> None:
    path = tmp_path / "a,offset=7"
    await write(path, b"stream", offset=2)
    assert path.read_bytes() == b"\0\0stream"
    assert await read(path, offset=2) == b"stream"


@pytest.mark.parametrize("way", [outgoing, incoming])
async def test_what_is_no_file_is_refused_without_opening_it(
    way: type, path: Path, tmp_path: Path
) -> None:
    os.mkfifo(path)
    for place in (path, tmp_path, "/dev/null", "/dev/zero"):
        await refused(way(place), "is neither a file nor a block device")


async def test_named_pipe_with_a_reader_is_not_disturbed(path: Path) -> None:
    os.mkfifo(path)
    reads = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    await refused(outgoing(path), "is neither a file nor a block device")
    os.close(reads)


async def test_file_that_cannot_be_opened_is_refused_with_the_reason(tmp_path: Path) -> None:
    await refused(incoming(tmp_path / "none"), "No such file or directory")
    await refused(outgoing(tmp_path / "no" / "folder"), "No such file or directory")
    await refused(outgoing(tmp_path / ("x" * 300)), "File name too long")


async def test_file_is_written_by_one_or_read_by_many(path: Path) -> None:
    async with outgoing(path) as channel:
        await channel.send_segments([b"stream"])
        await refused(outgoing(path), "in use by another migration")
        await refused(incoming(path), "in use by another migration")
    async with incoming(path), incoming(path):
        await refused(outgoing(path), "in use by another migration")
    assert path.read_bytes() == b"stream"


async def test_file_that_was_handed_over_is_used_and_stays_open_and_unlocked(path: Path) -> None:
    number = os.open(path, os.O_RDWR | os.O_CREAT)
    await write("/dev/fdset/1", b"stream", descriptor=number)
    await write(path, b"another", offset=6)
    assert await read("/dev/fdset/1", descriptor=number) == b"streamanother"
    os.close(number)


async def test_failed_migration_leaves_nothing_behind_the_offset(path: Path) -> None:
    path.write_bytes(b"head")
    with trio.CancelScope() as scope:
        async with outgoing(f"{path},offset=4") as channel:
            await channel.send_segments([b"stream"])
            scope.cancel()
            await channel.send_eof()
    assert scope.cancelled_caught
    assert path.read_bytes() == b"head"


@pytest.mark.parametrize("way", [outgoing, incoming])
async def test_entering_in_a_cancelled_scope_does_nothing(way: type, path: Path) -> None:
    path.write_bytes(b"stream")
    with trio.CancelScope() as scope:
        scope.cancel()
        async with way(path):
            pass
    assert scope.cancelled_caught
    assert path.read_bytes() == b"stream"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device over a file."""
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    try:
        made = subprocess.run(
            ["losetup", "--find", "--show", image], capture_output=True, text=True, timeout=20
        )
    except FileNotFoundError:
        pytest.skip("there is no losetup (util-linux)")
    if made.returncode:
        pytest.skip(f"no loop device to be had: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


async def test_block_device_is_written_and_blanked_on_failure(device: str) -> None:
    await write(f"{device},offset=4k", b"stream")
    assert (await read(f"{device},offset=4k"))[:6] == b"stream"
    with trio.CancelScope() as scope:
        async with outgoing(f"{device},offset=4k") as channel:
            await channel.send_segments([b"stream"])
            scope.cancel()
            await channel.send_eof()
    assert (await read(f"{device},offset=4k"))[:6] == bytes(6)
