"""Raw images: sparse, of one size, and locked while somebody owns them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from transship.abc import Extent
from transship.disks import RawImage
from transship.disks.holes import stretches
from transship.errors import BlockedError, LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk.raw"


@pytest.fixture
def image(path: Path) -> Iterator[RawImage]:
    image = RawImage.create(path, 4 * MIB)
    image.acquire()
    yield image
    image.close()


def has_holes(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [is_data for _, _, is_data in stretches(descriptor, 0, path.stat().st_size)] != [
            True
        ]
    finally:
        os.close(descriptor)


def test_new_image_is_zero_and_takes_no_room(image: RawImage, path: Path) -> None:
    assert image.size_bytes == image.max_size_bytes == path.stat().st_size == 4 * MIB
    assert path.stat().st_blocks == 0
    target = bytearray(b"x" * 4 * MIB)
    image.read_into(0, memoryview(target))
    assert not any(target)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_what_was_written_is_read_and_in_the_file(
    image: RawImage, path: Path, wrap: type[bytes]
) -> None:
    image.write(MIB + 1, wrap(b"written"))
    image.flush()
    target = bytearray(9)
    image.read_into(MIB, memoryview(target))
    assert target == b"\0written\0"
    assert path.read_bytes()[MIB + 1 : MIB + 8] == b"written"
    assert path.stat().st_size == 4 * MIB


def test_zeroes_are_holes_and_zero_at_their_edges(image: RawImage, path: Path) -> None:
    image.write(0, b"x" * 4 * MIB)
    full = path.stat().st_blocks
    image.write_zeroes(1000, 2 * MIB)
    data = path.read_bytes()
    assert data == b"x" * 1000 + bytes(2 * MIB) + b"x" * (2 * MIB - 1000)
    if not has_holes(path):
        pytest.skip("the file system of the temporary folder makes no holes")
    assert path.stat().st_blocks < full
    image.discard(3 * MIB, MIB)
    assert path.stat().st_size == 4 * MIB


def test_zeroes_are_written_where_no_holes_can_be_made(
    image: RawImage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship.disks.raw.punch_hole", lambda *_: False)
    image.write(0, b"x" * 2 * MIB)
    image.write_zeroes(1, 2 * MIB - 2)
    image.discard(0, MIB)
    assert path.read_bytes()[: 2 * MIB] == b"x" + bytes(2 * MIB - 2) + b"x"


def test_extents_tell_holes_from_data(image: RawImage, path: Path) -> None:
    image.write(MIB, b"x" * MIB)
    if not has_holes(path):
        pytest.skip("the file system of the temporary folder tells of no holes")
    assert list(image.extents(0, 4 * MIB)) == [
        Extent(0, MIB, reads_as_zero=True),
        Extent(MIB, MIB),
        Extent(2 * MIB, 2 * MIB, reads_as_zero=True),
    ]
    assert list(image.extents(MIB + 512, 512)) == [Extent(MIB + 512, 512)]
    assert list(image.extents(4 * MIB, 0)) == []


@pytest.mark.parametrize("place", [(4 * MIB, 1), (-1, 1), (4 * MIB - 1, 2), (1 << 70, 1)])
def test_nothing_is_read_or_written_outside(
    image: RawImage, path: Path, place: tuple[int, int]
) -> None:
    offset, length = place
    with pytest.raises(ValueError, match="not within"):
        image.write(offset, bytes(length))
    with pytest.raises(ValueError, match="not within"):
        image.write_zeroes(offset, length)
    with pytest.raises(ValueError, match="not within"):
        image.discard(offset, length)
    with pytest.raises(ValueError, match="not within"):
        image.read_into(offset, memoryview(bytearray(length)))
    with pytest.raises(ValueError, match="not within"):
        list(image.extents(offset, length))
    assert path.stat().st_size == 4 * MIB


@pytest.mark.parametrize("size", [0, 1, 513, 4 * MIB - 1])
def test_size_that_is_no_number_of_sectors_is_refused(path: Path, size: int) -> None:
    path.write_bytes(bytes(size))
    with pytest.raises(BlockedError, match=f"whole sectors of 512 bytes.*found {size} bytes"):
        RawImage.open(path)
    other = path.with_name("other.raw")
    with pytest.raises(BlockedError, match=f"found {size} bytes"):
        RawImage.create(other, size)
    assert not other.exists()


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlockedError, match="cannot be opened"):
        RawImage.open(tmp_path)
    with pytest.raises(BlockedError, match="no image"):
        RawImage.open(tmp_path, read_only=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BlockedError, match="no image"):
        RawImage.open(tmp_path / "pipe")
    with pytest.raises(BlockedError, match="No such file"):
        RawImage.open(tmp_path / "missing")
    with pytest.raises(BlockedError, match="nothing there"):
        RawImage.create(tmp_path / "pipe", 512)


def test_image_of_an_impossible_size_is_not_made(path: Path) -> None:
    with pytest.raises(BlockedError, match="room for"):
        RawImage.create(path, 1 << 63)
    assert not path.exists()


def test_growing_image_has_what_was_written_and_no_more(path: Path) -> None:
    image = RawImage.create(path, 512, max_size_bytes=8 * MIB)
    image.acquire()
    assert image.size_bytes == 512
    image.write(MIB, b"x")
    assert image.size_bytes == path.stat().st_size == MIB + 512
    image.write_zeroes(2 * MIB, MIB)
    assert image.size_bytes == path.stat().st_size == 3 * MIB
    with pytest.raises(ValueError, match="not within"):
        image.write(8 * MIB, b"x")
    image.close()


def test_image_that_is_read_only_is_not_written(image: RawImage, path: Path) -> None:
    image.write(0, b"x")
    image.release()
    reading = RawImage.open(path, read_only=True)
    another = RawImage.open(path, read_only=True)
    reading.acquire()
    another.acquire()
    with pytest.raises(OSError, match="Read-only"):
        reading.write(0, b"y")
    with pytest.raises(LocalError, match="somebody else uses"):
        image.acquire()
    reading.close()
    another.close()
    image.acquire()


def test_image_is_written_only_by_whoever_owns_it(image: RawImage, path: Path) -> None:
    other = RawImage.open(path)
    with pytest.raises(OSError, match="not acquired"):
        other.write(0, b"x")
    with pytest.raises(LocalError, match=rf"lock held by process {os.getpid()}"):
        other.acquire()
    image.acquire()
    image.release()
    image.release()
    other.acquire()
    with pytest.raises(OSError, match="not acquired"):
        image.write_zeroes(0, 512)
    other.write(0, b"x")
    other.close()
    other.close()
    image.acquire()


def test_owner_sees_the_size_that_an_image_has_now(image: RawImage, path: Path) -> None:
    image.release()
    os.truncate(path, 2 * MIB)
    image.acquire()
    assert image.size_bytes == 2 * MIB
    image.release()
    os.truncate(path, 1000)
    with pytest.raises(BlockedError, match="found 1000 bytes"):
        image.acquire()
    os.truncate(path, 512)
    RawImage.open(path).acquire()


def test_image_that_became_shorter_is_an_error_to_read(image: RawImage, path: Path) -> None:
    os.truncate(path, MIB)
    with pytest.raises(OSError, match="become shorter"):
        image.read_into(MIB - 1, memoryview(bytearray(2)))


def test_lock_ends_with_the_process_that_had_it(path: Path) -> None:
    RawImage.create(path, 512).close()
    text = (
        "import sys, time; from pathlib import Path; from transship.disks import RawImage\n"
        "image = RawImage.open(Path(sys.argv[1])); image.acquire()\n"
        "print('owned', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", text, path], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    image = RawImage.open(path)
    try:
        assert owner.stdout.readline() == "owned\n"
        with pytest.raises(LocalError, match=rf"process {owner.pid} \(python"):
            image.acquire()
    finally:
        owner.kill()
        owner.communicate()
    image.acquire()
    image.close()
