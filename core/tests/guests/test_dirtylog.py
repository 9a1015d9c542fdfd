from __future__ import annotations

import threading

import pytest

from transship.errors import LocalError
from transship.guests.dirtylog import MarkedDirtyLog
from transship.memory.bitmap import DirtyBitmap
from transship.memory.ramblock import RAMBlock

PAGE = 4096


@pytest.fixture
def block() -> RAMBlock:
    return RAMBlock.anonymous("pc.ram", 64 * PAGE)


def test_marks_move_to_the_bitmap_once(block: RAMBlock) -> None:
    log, bitmap = MarkedDirtyLog([block]), DirtyBitmap(64)
    log.start()
    log.mark(block, 3, 2)
    log.mark(block, 4)
    assert log.sync(block, bitmap) == 2
    assert list(bitmap.runs()) == [(3, 2)]
    bitmap.clear(0, 64)
    assert log.sync(block, bitmap) == 0
    assert bitmap.count() == 0


def test_sync_counts_only_pages_that_were_clean(block: RAMBlock) -> None:
    log, bitmap = MarkedDirtyLog([block]), DirtyBitmap(64)
    log.start()
    bitmap.mark(0, 10)
    log.mark(block, 5, 10)
    assert log.sync(block, bitmap) == 5


def test_marks_before_start_and_after_stop_are_forgotten(block: RAMBlock) -> None:
    log, bitmap = MarkedDirtyLog([block]), DirtyBitmap(64)
    log.mark(block, 0)
    log.start()
    assert log.sync(block, bitmap) == 0
    log.mark(block, 1)
    log.stop()
    log.stop()
    log.mark(block, 999)
    log.start()
    assert log.sync(block, bitmap) == 0


def test_mark_refuses_pages_and_blocks_that_are_not_the_guests(block: RAMBlock) -> None:
    log = MarkedDirtyLog([block])
    log.start()
    with pytest.raises(IndexError):
        log.mark(block, 64)
    with pytest.raises(KeyError):
        log.mark(RAMBlock.anonymous("other", PAGE), 0)


def test_no_mark_of_many_threads_is_lost(block: RAMBlock) -> None:
    log, seen = MarkedDirtyLog([block]), DirtyBitmap(64)
    log.start()
    done = threading.Event()
    values = block.view
    copy = bytearray(len(values))

    def write(thread: int) -> None:
        for step in range(3000):
            page = (step * 7 + thread) % 64
            values[page * PAGE + thread] = step % 251
            log.mark(block, page)

    def copy_dirty() -> None:
        log.sync(block, seen)
        for first, count in list(seen.runs()):
            seen.clear(first, count)
            part = slice(first * PAGE, (first + count) * PAGE)
            copy[part] = values[part]

    def follow() -> None:
        while not done.is_set():
            copy_dirty()

    writers = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    follower = threading.Thread(target=follow)
    for thread in (*writers, follower):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    follower.join()
    copy_dirty()
    assert copy == values


def test_log_says_whether_it_logs(block: RAMBlock) -> None:
    log = MarkedDirtyLog([block])
    states = [log.is_logging]
    for step in (log.start, log.stop):
        step()
        states.append(log.is_logging)
    assert states == [False, True, False]


def test_log_that_logs_cannot_be_started_and_goes_on(block: RAMBlock) -> None:
    log, bitmap = MarkedDirtyLog([block]), DirtyBitmap(64)
    log.start()
    log.mark(block, 3)
    with pytest.raises(LocalError, match="dirty log is in use"):
        log.start()
    assert log.sync(block, bitmap) == 1
    log.stop()
    log.start()


def test_log_of_a_guest_without_ram_cannot_be_started_twice_either() -> None:
    log = MarkedDirtyLog([])
    log.start()
    assert log.is_logging
    with pytest.raises(LocalError):
        log.start()


def test_log_that_does_not_log_cannot_be_asked(block: RAMBlock) -> None:
    with pytest.raises(LocalError):
        MarkedDirtyLog([block]).sync(block, DirtyBitmap(64))
