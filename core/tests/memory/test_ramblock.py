from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from random import Random
from typing import TYPE_CHECKING

import pytest

from transship.errors import LocalError, RemoteError
from transship.memory import mappings, overlay
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transship.memory.ramblock import Backing

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


# --- allocated, and exchanged ---------------------------------------------------------------------


def memfd_of(size: int, *, sealed: bool = True, flags: int = 0) -> int:
    descriptor = os.memfd_create("elsewhere", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    if sealed or flags:
        seals = flags | (fcntl.F_SEAL_SHRINK if sealed else 0)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def resident_pages(descriptor: int) -> int:
    return os.fstat(descriptor).st_blocks * 512 // PAGE


@pytest.mark.parametrize("huge_pages", [False, True])
@pytest.mark.parametrize("prefault", [False, True])
@pytest.mark.parametrize("backing", ["memfd", "anonymous"])
def test_allocated_block_is_zero_and_writable(
    backing: Backing, prefault: bool, huge_pages: bool
) -> None:
    block = RAMBlock.allocate(
        "pc.ram", 64 * PAGE, backing=backing, prefault=prefault, huge_pages=huge_pages
    )
    assert (block.pages, block.is_plain) == (64, backing == "anonymous")
    assert block.view == bytes(64 * PAGE)
    block.view[-4:] = b"last"
    block.reserve(63, 1)
    assert ctypes.string_at(block.address + 64 * PAGE - 4, 4) == b"last"
    if block.memfd is not None:
        assert os.pread(block.memfd, 4, 64 * PAGE - 4) == b"last"
    block.close()


def test_prefaulted_memory_is_there_before_it_is_written() -> None:
    block = RAMBlock.allocate("pc.ram", 64 * PAGE, prefault=True)
    assert block.memfd is not None
    assert resident_pages(block.memfd) == 64
    assert not is_hole(block, 0, 1)
    block.close()


def test_memory_is_prefaulted_by_hand_where_the_kernel_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mappings, "_MADV_POPULATE_WRITE", 10**6)
    block = RAMBlock.allocate("pc.ram", 300 * PAGE, prefault=True)
    assert block.memfd is not None
    assert resident_pages(block.memfd) == 300
    assert block.view == bytes(300 * PAGE)
    block.close()


def test_system_without_huge_pages_gives_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 10**6)
    RAMBlock.allocate("pc.ram", PAGE, huge_pages=True).close()


def test_allocated_memfd_cannot_be_shrunk_and_is_closed_with_the_block() -> None:
    block = RAMBlock.allocate("pc.ram/" + "é" * 200, 4 * PAGE)
    memfd = block.memfd
    assert memfd is not None
    with pytest.raises(PermissionError):
        os.ftruncate(memfd, PAGE)
    assert not os.get_inheritable(memfd)
    block.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(memfd)
    block.close()


def test_allocation_that_fails_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="whole pages"):
        RAMBlock.allocate("pc.ram", PAGE + 1)
    assert os.listdir("/proc/self/fd") == before


def test_holes_of_a_memfd_are_what_nobody_has_written() -> None:
    block = RAMBlock.allocate("pc.ram", 512 * PAGE, huge_pages=False)
    random = Random(6)
    written: set[int] = set()
    for _ in range(20):
        for page in random.sample(range(512), 10):
            block.view[page * PAGE + 1] = 1
            written.add(page)
        first = random.randrange(500)
        count = random.randrange(1, 512 - first)
        holes = block.find_holes(first, count)
        assert {first + page for page in range(count) if not holes[page]} == {
            page for page in written if first <= page < first + count
        }
    assert block.memfd is not None
    assert resident_pages(block.memfd) == len(written)
    block.close()


def test_file_is_not_walked_through_again_for_every_part_of_a_hole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = RAMBlock.allocate("pc.ram", 512 * PAGE)
    block.view[256 * PAGE :] = b"\1" * (256 * PAGE)
    walks = []
    lseek = os.lseek

    def counting(descriptor: int, at: int, how: int) -> int:
        walks.append(how)
        return lseek(descriptor, at, how)

    monkeypatch.setattr(os, "lseek", counting)
    for first in range(0, 512, 16):
        assert is_hole(block, first, 16) == (first < 256)
    assert walks.count(os.SEEK_HOLE) == 1
    block.close()


@pytest.mark.parametrize("backing", ["memfd", "anonymous"])
def test_discarded_pages_are_zero_and_use_no_memory(backing: Backing) -> None:
    block = RAMBlock.allocate("pc.ram", 16 * PAGE, backing=backing, huge_pages=False)
    block.view[:] = b"x" * (16 * PAGE)
    assert not is_hole(block, 4, 1)
    block.discard(4, 8)
    if block.memfd is not None:
        assert resident_pages(block.memfd) == 8
        assert is_hole(block, 4, 8)
    assert block.view == b"x" * (4 * PAGE) + bytes(8 * PAGE) + b"x" * (4 * PAGE)
    with pytest.raises(IndexError):
        block.discard(12, 5)
    block.close()


def test_discarded_pages_of_a_file_are_reserved_again(block: RAMBlock, tmp_path: Path) -> None:
    block.reserve(0, 8)
    block.view[: 8 * PAGE] = b"x" * (8 * PAGE)
    block.discard(0, 8)
    block.reserve(0, 8)
    assert os.stat(tmp_path / "m0").st_blocks * 512 >= 8 * PAGE
    assert block.view[: 8 * PAGE] == bytes(8 * PAGE)


def test_memory_that_cannot_be_given_back_is_made_zero(tmp_path: Path) -> None:
    """A private mapping of a file: without its pages, the file would show."""
    (tmp_path / "rom").write_bytes(b"f" * (4 * PAGE))
    with (tmp_path / "rom").open("r+b") as file:
        block = RAMBlock("rom", mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE))
    block.view[PAGE] = 1
    block.discard(1, 2)
    assert block.view == b"f" * PAGE + bytes(2 * PAGE) + b"f" * PAGE
    block.close()


def _lender() -> RAMBlock:
    there = RAMBlock.allocate("pc.ram", 8 * PAGE)
    there.view[:5] = b"there"
    return there


@pytest.mark.parametrize("backing", ["memfd", "anonymous"])
def test_block_becomes_the_memory_of_a_memfd(backing: Backing) -> None:
    """Both then share one memory, and each has a descriptor of its own; no address changes."""
    there = _lender()
    here = RAMBlock.allocate("pc.ram", 8 * PAGE, backing=backing)
    here.view[:4] = b"here"
    address, view = here.address, here.view
    assert here.can_adopt
    here.adopt(os.dup(there.lend()))
    here.own()
    assert bytes(view[:5]) == b"there"
    assert is_hole(here, 1, 7)
    view[PAGE] = 7
    assert there.view[PAGE] == 7
    assert not is_hole(here, 1, 1)
    assert here.address == address
    assert ctypes.string_at(address + PAGE, 1) == b"\7"
    there.close()
    assert here.view[PAGE] == 7
    view.release()
    here.close()


def test_block_that_was_given_away_keeps_its_writes_from_the_owner() -> None:
    there, here = _lender(), RAMBlock.anonymous("pc.ram", 8 * PAGE)
    here.adopt(os.dup(there.lend()))
    here.own()
    there.give_away()
    there.view[:5] = b"alone"
    here.view[PAGE] = 1
    assert bytes(here.view[:5]) == b"there"
    assert (there.memfd, there.is_lent) == (None, False)
    with pytest.raises(LocalError, match="no memory that can be handed over"):
        there.lend()
    there.close()
    assert bytes(here.view[:5]) == b"there"
    here.close()


@pytest.mark.parametrize("backing", ["memfd", "anonymous"])
def test_block_that_is_abandoned_is_fresh_memory_again(backing: Backing) -> None:
    there, here = _lender(), RAMBlock.allocate("pc.ram", 16 * PAGE, backing=backing)
    before = os.listdir("/proc/self/fd")
    here.resize(8 * PAGE)
    here.adopt(os.dup(there.lend()))
    here.view[0] = 1
    here.abandon()
    here.abandon()
    there.take_back()
    assert bytes(there.view[:5]) == b"there"
    assert (here.max_length, here.memfd, here.can_adopt) == (16 * PAGE, None, True)
    here.resize(16 * PAGE)
    assert not any(here.view)
    here.view[15 * PAGE] = 1
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    for block in (there, here):
        block.close()


def test_what_is_written_before_the_block_is_owned_never_reaches_its_owner() -> None:
    there, here = _lender(), RAMBlock.anonymous("pc.ram", 8 * PAGE)
    here.adopt(os.dup(there.lend()))
    here.view[3 * PAGE] = 1
    with pytest.raises(LocalError, match="was written while it was still"):
        here.own()
    assert there.view[3 * PAGE] == 0
    here.abandon()
    for block in (there, here):
        block.close()


def test_older_kernels_are_asked_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(pagemap: int, start: int, length: int) -> bool:
        raise OSError(errno.ENOTTY, "no such question")

    monkeypatch.setattr(overlay, "has_own_pages", unknown)
    there, here = _lender(), RAMBlock.anonymous("pc.ram", 8 * PAGE)
    here.adopt(os.dup(there.lend()))
    here.check_unwritten()
    here.view[3 * PAGE] = 1
    with pytest.raises(LocalError, match="was written while it was still"):
        here.check_unwritten()
    here.abandon()
    for block in (there, here):
        block.close()


def test_memory_that_a_block_had_before_is_given_back() -> None:
    here = RAMBlock.allocate("pc.ram", 8 * PAGE, prefault=True)
    assert here.memfd is not None
    before = os.dup(here.memfd)
    here.adopt(memfd_of(8 * PAGE))
    assert os.fstat(before).st_blocks == 0
    os.close(before)
    here.close()


def test_block_keeps_what_it_uses_of_a_memfd_of_another_size() -> None:
    block = RAMBlock.anonymous("pc.ram", 8 * PAGE)
    block.resize(4 * PAGE)
    block.adopt(memfd_of(6 * PAGE))
    assert (block.used_length, block.max_length) == (4 * PAGE, 6 * PAGE)
    block.own()
    block.adopt(memfd_of(64 * PAGE))
    assert (block.used_length, block.max_length) == (4 * PAGE, 6 * PAGE)
    block.close()


def _pipe_end() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: memfd_of(8 * PAGE, sealed=False), "sealed against shrinking"),
        (_pipe_end, "sealed against shrinking"),
        (lambda: os.open("/dev/zero", os.O_RDWR), "sealed against shrinking"),
        (lambda: memfd_of(7 * PAGE), f"{8 * PAGE} bytes or more"),
        (lambda: memfd_of(0), f"{8 * PAGE} bytes or more"),
        (lambda: memfd_of(9 * PAGE + 1), "whole pages"),
        (lambda: memfd_of(8 * PAGE, flags=fcntl.F_SEAL_WRITE), "can be written"),
    ],
)
def test_block_refuses_what_is_no_safe_memory(make: Callable[[], int], expected: str) -> None:
    block = RAMBlock.allocate("pc.ram", 8 * PAGE)
    block.view[:4] = b"mine"
    memfd, offered = block.memfd, make()
    with pytest.raises(RemoteError) as raised:
        block.adopt(offered)
    assert expected in (raised.value.expected or "")
    assert raised.value.found
    os.close(offered)  # it stayed the caller's
    assert (bytes(block.view[:4]), block.memfd, block.max_length) == (b"mine", memfd, 8 * PAGE)
    block.close()


def test_block_over_a_file_stays_with_its_file(block: RAMBlock) -> None:
    offered = memfd_of(64 * PAGE)
    assert not block.can_adopt
    with pytest.raises(LocalError, match="cannot become"):
        block.adopt(offered)
    os.close(offered)


def test_address_is_asked_for_without_holding_the_memory() -> None:
    block = RAMBlock.anonymous("pc.ram", PAGE)
    assert block.address % mmap.PAGESIZE == 0
    block.close()


@pytest.mark.parametrize("look", ["view", "address", "memfd"])
def test_block_is_untouched_until_somebody_may_write_to_it(look: str) -> None:
    block = RAMBlock.allocate("pc.ram", PAGE)
    block.resize(PAGE)
    before = block.is_untouched
    getattr(block, look)
    assert (before, block.is_untouched) == (True, False)
    block.close()


def test_only_memory_made_here_is_untouched(block: RAMBlock) -> None:
    """A file may hold anything."""
    assert not block.is_untouched
