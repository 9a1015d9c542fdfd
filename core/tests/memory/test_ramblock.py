from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from transship.errors import RemoteError
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 4096


def over_file(path: Path, pages: int) -> RAMBlock:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, pages * PAGE)
    return RAMBlock("m0", mmap.mmap(descriptor, pages * PAGE), descriptor=descriptor)


def is_hole(block: RAMBlock, first: int, count: int) -> bool:
    """Whether all of the pages are holes."""
    return 0 not in block.find_holes(first, count)


@pytest.fixture
def block(tmp_path: Path) -> Iterator[RAMBlock]:
    """64 pages over a file with nothing in it."""
    block = over_file(tmp_path / "m0", 64)
    if not is_hole(block, 0, 64):
        block.close()
        pytest.skip("the file system does not tell where a file has holes")
    yield block
    block.close()


def test_anonymous_block_is_zero_and_has_no_known_holes() -> None:
    block = RAMBlock.anonymous("pc.ram", 4 * PAGE)
    assert (block.pages, block.used_length, block.max_length) == (4, 4 * PAGE, 4 * PAGE)
    assert block.view == bytes(4 * PAGE)
    assert not is_hole(block, 0, 4)
    assert block.find_holes(1, 3) == bytes(3)
    block.reserve(0, 4)
    block.close()


def test_view_shows_only_what_is_in_use() -> None:
    block = RAMBlock("rom", mmap.mmap(-1, 4 * PAGE), 2 * PAGE)
    assert len(block.view) == 2 * PAGE
    block.resize(3 * PAGE)
    assert (len(block.view), block.pages) == (3 * PAGE, 3)


@pytest.mark.parametrize("length", [0, -PAGE, PAGE + 1, 5 * PAGE])
def test_resize_refuses_what_does_not_fit(length: int) -> None:
    block = RAMBlock.anonymous("rom", 4 * PAGE)
    with pytest.raises(RemoteError) as raised:
        block.resize(length)
    assert raised.value.found == f"{length} bytes"
    assert block.used_length == 4 * PAGE


@pytest.mark.parametrize("used_length", [0, PAGE + 1, 3 * PAGE])
def test_block_refuses_a_used_length_that_does_not_fit(used_length: int) -> None:
    with pytest.raises(ValueError):
        RAMBlock("rom", mmap.mmap(-1, 2 * PAGE), used_length)


def test_block_refuses_a_mapping_that_is_not_whole_pages() -> None:
    with pytest.raises(ValueError, match="whole pages"):
        RAMBlock("rom", mmap.mmap(-1, 3 * PAGE), page_size=2 * PAGE)


def test_written_pages_are_no_holes(block: RAMBlock) -> None:
    block.reserve(8, 2)
    block.view[8 * PAGE] = 1
    assert block.find_holes(7, 4) == bytes([1, 0, 0, 1])
    assert is_hole(block, 0, 8)
    assert not is_hole(block, 9, 20)


def test_pages_that_the_guest_wrote_by_itself_are_no_holes(block: RAMBlock) -> None:
    block.view[20 * PAGE + 5] = 1
    assert block.find_holes(19, 3) == bytes([1, 0, 1])
    assert not is_hole(block, 20, 1)


def test_a_page_written_after_it_was_found_to_be_a_hole_is_none(block: RAMBlock) -> None:
    assert is_hole(block, 3, 1)
    block.view[3 * PAGE] = 1
    assert not is_hole(block, 3, 1)


def test_file_that_had_content_before_is_no_hole(tmp_path: Path, block: RAMBlock) -> None:
    with (tmp_path / "old").open("wb") as file:
        file.seek(32 * PAGE)
        file.write(b"\1" * PAGE)
        file.truncate(64 * PAGE)
    old = over_file(tmp_path / "old", 64)
    assert old.find_holes(0, 64).count(0) >= 1
    assert not is_hole(old, 32, 1)
    assert is_hole(old, 0, 1)
    old.close()


def test_looking_for_holes_writes_nothing(tmp_path: Path, block: RAMBlock) -> None:
    block.find_holes(0, 64)
    assert os.stat(tmp_path / "m0").st_blocks == 0


def test_reserve_gives_storage(tmp_path: Path, block: RAMBlock) -> None:
    block.reserve(4, 3)
    assert os.stat(tmp_path / "m0").st_blocks * 512 >= 3 * PAGE
    assert not is_hole(block, 4, 3)


def test_data_found_is_reserved_all_the_same(
    monkeypatch: pytest.MonkeyPatch, block: RAMBlock
) -> None:
    """Not every file system tells data from holes, and then a hole counts as data."""
    monkeypatch.setattr(
        os, "lseek", lambda descriptor, at, how: at if how == os.SEEK_DATA else 1 << 40
    )
    reserved = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *arguments: reserved.append(arguments[1:]))
    assert not is_hole(block, 0, 64)
    block.reserve(4, 2)
    block.reserve(5, 1)
    assert reserved == [(4 * PAGE, 2 * PAGE)]


def test_file_system_without_holes_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    block = over_file(tmp_path / "m1", 4)

    def refuse(descriptor: int, at: int, how: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "lseek", refuse)
    assert block.find_holes(0, 4) == bytes(4)
    block.close()


def test_reserve_tells_of_a_full_disk() -> None:
    """A read-only descriptor stands in for it: the error comes the same way."""
    descriptor = os.memfd_create("full", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 4 * PAGE)
    reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    block = RAMBlock("m0", mmap.mmap(descriptor, 4 * PAGE), descriptor=reader)
    os.close(descriptor)
    with pytest.raises(OSError, match="descriptor"):
        block.reserve(0, 1)
    block.close()


def test_flush_writes_to_the_file(tmp_path: Path, block: RAMBlock) -> None:
    block.view[:4] = b"data"
    block.flush()
    assert (tmp_path / "m0").read_bytes()[:4] == b"data"


def test_close_waits_for_views_and_may_be_repeated() -> None:
    block = RAMBlock.anonymous("pc.ram", PAGE)
    view = block.view
    with pytest.raises(BufferError):
        block.close()
    view.release()
    block.close()
    block.close()


def test_close_closes_the_file_although_somebody_holds_a_view(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "m0", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, PAGE)
    block = RAMBlock("m0", mmap.mmap(descriptor, PAGE), descriptor=descriptor)
    with block.view, pytest.raises(BufferError):
        block.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    block.close()
