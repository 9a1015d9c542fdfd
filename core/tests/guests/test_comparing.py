from __future__ import annotations

import ctypes
import mmap
import threading
from random import Random
from typing import TYPE_CHECKING

import pytest

from transship.errors import LocalError
from transship.guests import comparing
from transship.guests.comparing import ComparingDirtyLog
from transship.memory.bitmap import DirtyBitmap
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
PAGES = 200


@pytest.fixture
def block() -> Iterator[RAMBlock]:
    """Not a whole number of what is compared at once."""
    block = RAMBlock.anonymous("pc.ram", PAGES * PAGE)
    block.view[: 50 * PAGE] = b"x" * (50 * PAGE)
    yield block
    block.close()


@pytest.fixture
def log(block: RAMBlock) -> Iterator[ComparingDirtyLog]:
    log = ComparingDirtyLog([block])
    log.start()
    yield log
    log.stop()


def taken(log: ComparingDirtyLog, block: RAMBlock) -> set[int]:
    bitmap = DirtyBitmap(block.pages)
    count = log.sync(block, bitmap)
    pages = {page for run in bitmap.runs() for page in range(run.first, run.end)}
    assert count == len(pages)
    return pages


def test_every_page_that_has_changed_is_found_once_and_no_other(
    log: ComparingDirtyLog, block: RAMBlock
) -> None:
    random = Random(6)
    copy = log.readable(block)
    assert copy.view == block.view
    for value in range(1, 20):
        changed = set(random.sample(range(PAGES), random.randrange(PAGES)))
        for page in changed:
            block.view[page * PAGE + random.randrange(PAGE)] = value
        block.view[PAGE] = block.view[PAGE]  # written, and not changed
        assert taken(log, block) == changed
        assert copy.view == block.view
    assert taken(log, block) == set()


def test_last_page_of_a_block_that_ends_anywhere_is_compared(block: RAMBlock) -> None:
    block.resize(131 * PAGE)
    log = ComparingDirtyLog([block])
    log.start()
    log.readable(block)
    block.view[130 * PAGE + PAGE - 1] = 1
    assert taken(log, block) == {130}
    log.stop()


def test_pages_larger_than_what_is_compared_at_once_are_compared_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparing, "_COMPARED_BYTES", PAGE)
    block = RAMBlock.allocate("pc.ram", 8 * PAGE, page_size=2 * PAGE)
    log = ComparingDirtyLog([block])
    log.start()
    log.readable(block)
    block.view[3 * PAGE] = 1
    assert taken(log, block) == {1}
    log.stop()


def test_what_a_page_was_in_between_is_never_read(log: ComparingDirtyLog, block: RAMBlock) -> None:
    """It looks unchanged afterwards, so nobody would send it again."""
    copy = log.readable(block)
    block.view[3 * PAGE] = ord("?")
    sent = bytes(copy.view[3 * PAGE : 4 * PAGE])
    block.view[3 * PAGE] = ord("x")
    assert taken(log, block) == set()
    assert sent == block.view[3 * PAGE : 4 * PAGE]


def test_reader_of_memory_that_changes_is_refused(log: ComparingDirtyLog, block: RAMBlock) -> None:
    with pytest.raises(LocalError, match="does not read its copy"):
        log.sync(block, DirtyBitmap(PAGES))


def test_marks_and_discards_are_found_as_well(log: ComparingDirtyLog, block: RAMBlock) -> None:
    log.readable(block)
    block.discard(10, 2)
    log.mark(block, 60)
    assert taken(log, block) == {10, 11, 60}


def test_copy_made_while_native_code_writes_is_alike_in_the_end(
    log: ComparingDirtyLog, block: RAMBlock
) -> None:
    source, address, done = log.readable(block), block.address, threading.Event()
    copy = bytearray(source.view)

    def write() -> None:
        random = Random(6)
        while not done.is_set():
            start = random.randrange(PAGES * PAGE - 100)
            ctypes.memset(address + start, random.randrange(3), random.randrange(100))

    def copy_dirty() -> None:
        bitmap = DirtyBitmap(PAGES)
        log.sync(block, bitmap)
        for first, count in bitmap.runs():
            part = slice(first * PAGE, (first + count) * PAGE)
            copy[part] = source.view[part]

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(50):
        copy_dirty()
    done.set()
    writer.join()
    copy_dirty()
    assert copy == block.view


def test_pages_that_are_zero_are_not_copied() -> None:
    """An empty guest costs no memory."""
    block = RAMBlock.anonymous("pc.ram", PAGES * PAGE)
    block.view[7 * PAGE] = 1
    copy = comparing._empty_copy(block)
    assert list(comparing._update(copy, block)) == [7]


def test_copy_outlives_the_log_while_somebody_reads_it(block: RAMBlock) -> None:
    log = ComparingDirtyLog([block])
    log.start()
    copy = log.readable(block)
    log.stop()
    log.stop()
    assert copy.view == block.view
    with pytest.raises(KeyError):
        log.readable(block)


def test_lack_of_memory_is_told_and_leaves_the_log_as_it_was(
    monkeypatch: pytest.MonkeyPatch, block: RAMBlock
) -> None:
    def refuse(*arguments: object, **options: object) -> mmap.mmap:
        raise OSError(12, "Cannot allocate memory")

    log = ComparingDirtyLog([block])
    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refuse)
        with pytest.raises(LocalError, match=f"{PAGES * PAGE} bytes; found Cannot allocate"):
            log.start()
    assert not log.is_logging
    log.start()
    log.stop()
