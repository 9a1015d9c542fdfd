"""A disk that is full while a checkpoint is received: an error, nothing left, no crash."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from faults_support import Host, Hosts

from transship.guests.synthetic import SyntheticGuest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE: Final = 4096
_RAM_BYTES: Final = 4 << 20
_ALONE: Final = ("unshare", "--user", "--map-root-user", "--mount")

_ON_SMALL_DISK: Final = """\
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99
shift
folder="$1"
shift
"$@"
code=$?
ls -A "$folder" > "$folder.left"
exit $code
"""
"""Arguments: size of the disk, its folder, the command. What is on it at the end is listed."""


def why_not() -> str:
    """Why no small disk can be had here; empty if one can."""
    try:
        tried = subprocess.run(
            [*_ALONE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except FileNotFoundError:
        return "there is no unshare (util-linux)"
    return tried.stderr.strip() if tried.returncode else ""


_REASON: Final = why_not()
pytestmark = pytest.mark.skipif(
    bool(_REASON), reason=f"no private mount namespace with a small tmpfs: {_REASON}"
)


class SmallDisk:
    """A guest that runs, and a receiver whose disk has so many bytes."""

    def __init__(self, hosts: Hosts, size: int) -> None:
        self._hosts = hosts
        self._folder = hosts.folder / "disk"
        self._folder.mkdir()
        self._wrapper = (*_ALONE, "sh", "-c", _ON_SMALL_DISK, "sh", str(size), str(self._folder))
        self.source: Host
        self.receiver: Host

    async def receive(self) -> dict[str, Any]:
        """Let the guest come; returns what the receiver says at its end."""
        self.receiver = self._hosts.start(
            *("receiver", "receive", self._hosts.unix("receiver")),
            *("--to", str(self._folder / "vm")),
            wrapper=self._wrapper,
        )
        address = await self.receiver.listening()
        guest = f"synthetic:ram={_RAM_BYTES},dirty-rate=1MiB/s,journal={self._hosts.journal}"
        self.source = self._hosts.start("source", "run", guest, "--migrate-to", address)
        await self.receiver.ended()
        return self.receiver.events()[-1]

    @property
    def left(self) -> list[str]:
        """What was on the disk when the receiver had ended."""
        return self._folder.with_name("disk.left").read_text().split()

    async def check_guest_runs_on(self) -> None:
        """The source has its guest, whole, and knows that the other side failed."""
        failed = await self.source.event("left", "failed")
        assert failed["exit_code"] == 1, failed
        assert failed["error"]["kind"] == "PeerFailedError"
        await self._hosts.ticks_on(self.source)
        stopped = await self.source.stop()
        assert stopped["guest"]["consistent"] is True
        self._hosts.judge()


def _room_of(guest_bytes: int) -> Iterator[int]:
    with SyntheticGuest(guest_bytes) as guest:
        for block in guest.ram_blocks():
            yield block.used_length


async def test_disk_too_small_for_the_ram_names_the_block_and_the_guest_runs_on() -> None:
    with Hosts() as hosts:
        disk = SmallDisk(hosts, _RAM_BYTES // 2)
        said = await disk.receive()
        assert await disk.receiver.ended() == said["exit_code"] == 1
        error = said["error"]
        assert "RAM block 'synthetic.ram' has no room" in error["cause"]
        assert error["found"] == "No space left on device"
        assert (error["side"], error["phase"], error["section"]) == ("destination", "active", "ram")
        assert disk.left == []
        await disk.check_guest_runs_on()


async def whole_or_nothing(pages_beside_ram: int) -> bool:
    """Receive on a disk with room for RAM and a few pages; returns whether it was enough."""
    with Hosts() as hosts:
        disk = SmallDisk(hosts, sum(_room_of(_RAM_BYTES)) + pages_beside_ram * _PAGE)
        said = await disk.receive()
        if await disk.receiver.ended() == 0:
            assert disk.left == ["vm"]
            assert (await disk.source.event("left", "failed"))["event"] == "left"
            return True
        assert said["exit_code"] == 1, json.dumps(said)
        error = said["error"]
        assert error["side"] == "destination"
        assert "No space left" in error["found"], json.dumps(said)
        assert "RAM block" in error["cause"] or "the checkpoint at" in error["cause"]
        assert disk.left == []
        await disk.check_guest_runs_on()
        return False


@pytest.mark.parametrize("pages", [0, 2, 64])
async def test_disk_that_fills_up_late_leaves_a_whole_checkpoint_or_nothing(pages: int) -> None:
    assert await whole_or_nothing(pages) is (pages == 64)


# A source whose file is on it.

_MOUNTED: Final = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
"""Arguments: as above; here the command is the process that was started."""


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
async def test_disk_too_small_for_a_file_leaves_the_guest_where_it_is_and_the_disk_empty(
    share: float,
) -> None:
    with Hosts() as hosts:
        disk = hosts.folder / "disk"
        disk.mkdir()
        guest = f"synthetic:ram={_RAM_BYTES},dirty-rate=1MiB/s,journal={hosts.journal}"
        source = hosts.start(
            *("source", "run", guest, "--migrate-to", f"file:{disk}/stream"),
            wrapper=(
                *(*_ALONE, "sh", "-c", _MOUNTED, "sh"),
                *(str(int(share * _RAM_BYTES)), str(disk)),
            ),
        )
        failed = await source.event("left", "failed")
        assert failed["exit_code"] == 1, failed
        error = failed["error"]
        assert "No space left on device" in json.dumps(error)
        assert "stream" in error["cause"]
        assert (error["side"], error["phase"]) == ("source", "active")
        assert error["source_may_resume"] is True
        await hosts.ticks_on(source)
        seen_from_inside = Path(f"/proc/{source.pid}/root{disk}")
        assert [path.stat().st_size for path in seen_from_inside.iterdir()] == [0]
        assert (await source.stop())["guest"]["consistent"] is True
        hosts.judge()


@pytest.mark.soak
async def test_disk_that_fills_up_at_any_page_leaves_a_whole_checkpoint_or_nothing() -> None:
    results = [await whole_or_nothing(pages) for pages in range(-4, 20)]
    assert results == sorted(results)
    assert results[-1]
