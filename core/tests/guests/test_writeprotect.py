"""Write protection by the kernel: what it sees, what it does not, and that nothing is lost."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from transship.errors import LocalError
from transship.guests.writeprotect import MappingElsewhere, WriteProtectDirtyLog
from transship.memory.bitmap import DirtyBitmap
from transship.memory.protection import WriteProtection, check_write_protection
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.memory.ramblock import Backing

PAGE: Final = 4096
PAGES: Final = 256
RELEASE: Final = "write-protection-release"


@pytest.fixture(autouse=True)
def _write_protection() -> None:
    try:
        check_write_protection()
    except LocalError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["memfd", "anonymous"])
def block(request: pytest.FixtureRequest) -> Iterator[RAMBlock]:
    """The first half of its pages has content, the second was never touched."""
    block = RAMBlock.allocate("pc.ram", PAGES * PAGE, backing=request.param, huge_pages=False)
    block.view[: PAGES // 2 * PAGE] = b"x" * (PAGES // 2 * PAGE)
    yield block
    block.close()


@pytest.fixture
def shared() -> Iterator[RAMBlock]:
    block = RAMBlock.allocate("pc.ram", PAGES * PAGE)
    block.view[:] = b"x" * (PAGES * PAGE)
    yield block
    block.close()


@contextmanager
def logging(log: WriteProtectDirtyLog) -> Iterator[WriteProtectDirtyLog]:
    log.start()
    try:
        yield log
    finally:
        log.stop()


def taken(log: WriteProtectDirtyLog, block: RAMBlock) -> set[int]:
    """The pages that the log knows of, which it then forgets."""
    bitmap = DirtyBitmap(block.pages)
    count = log.sync(block, bitmap)
    pages = {page for run in bitmap.runs() for page in range(run.first, run.end)}
    assert count == len(pages)
    return pages


def userfault_descriptors() -> int:
    """How many this process has open; other descriptors may come and go in other threads."""
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[userfaultfd]"
    return count


def wait_for_releases() -> None:
    for thread in threading.enumerate():
        if thread.name == RELEASE:
            thread.join()


# --- what is seen ---------------------------------------------------------------------------------


def test_nothing_is_dirty_at_first(block: RAMBlock) -> None:
    block.view[0] = 1
    with logging(WriteProtectDirtyLog([block])) as log:
        assert taken(log, block) == set()


def test_every_page_written_is_seen_once_and_no_other(block: RAMBlock) -> None:
    random = Random(6)
    with logging(WriteProtectDirtyLog([block])) as log:
        for _ in range(50):
            written = set(random.sample(range(PAGES), random.randrange(PAGES)))
            for page in written:
                block.view[page * PAGE + random.randrange(PAGE)] = 7
            assert taken(log, block) == written
        assert taken(log, block) == set()


def test_blocks_are_told_apart() -> None:
    blocks = [RAMBlock.anonymous(name, 8 * PAGE) for name in ("a", "b")]
    with logging(WriteProtectDirtyLog(blocks)) as log:
        blocks[1].view[3 * PAGE] = 1
        assert taken(log, blocks[0]) == set()
        assert taken(log, blocks[1]) == {3}


def test_pages_larger_than_those_of_the_host_are_marked_as_a_whole() -> None:
    block = RAMBlock.allocate("pc.ram", 16 * PAGE, page_size=4 * PAGE)
    with logging(WriteProtectDirtyLog([block])) as log:
        block.view[7 * PAGE] = 1
        assert taken(log, block) == {1}


def test_only_what_is_in_use_is_looked_at() -> None:
    block = RAMBlock.anonymous("rom", 8 * PAGE)
    block.resize(4 * PAGE)
    with logging(WriteProtectDirtyLog([block])) as log:
        ctypes.memset(block.address, 1, 8 * PAGE)
        assert taken(log, block) == {0, 1, 2, 3}


def test_many_scattered_pages_are_more_than_one_answer_holds() -> None:
    pages = 150_000
    block = RAMBlock.anonymous("pc.ram", pages * PAGE)
    with logging(WriteProtectDirtyLog([block])) as log:
        for page in range(0, pages, 2):
            block.view[page * PAGE] = 1
        assert taken(log, block) == set(range(0, pages, 2))
    block.close()


def test_huge_pages_are_seen_page_by_page() -> None:
    block = RAMBlock.allocate("pc.ram", 8 << 20, backing="anonymous", prefault=True)
    with logging(WriteProtectDirtyLog([block])) as log:
        block.view[700 * PAGE] = 1
        assert taken(log, block) == {700}
    block.close()


def test_writes_of_the_kernel_are_seen(block: RAMBlock) -> None:
    near, far = socket.socketpair()
    reading, writing = os.pipe()
    with near, far, block.view as view, logging(WriteProtectDirtyLog([block])) as log:
        far.send(b"hello")
        near.recv_into(view[3 * PAGE : 3 * PAGE + 5])
        os.write(writing, b"hello")
        os.readv(reading, [view[200 * PAGE : 200 * PAGE + 5]])
        assert taken(log, block) == {3, 200}
    os.close(reading)
    os.close(writing)


def test_pages_that_are_read_for_the_first_time_are_not_dirty(block: RAMBlock) -> None:
    with logging(WriteProtectDirtyLog([block])) as log:
        assert block.view[200 * PAGE] == 0
        assert taken(log, block) == set()
        block.view[200 * PAGE] = 1
        assert taken(log, block) == {200}


def test_marks_count_as_well_and_once(block: RAMBlock) -> None:
    with logging(WriteProtectDirtyLog([block])) as log:
        block.view[5 * PAGE] = 1
        log.mark(block, 5, 2)
        assert taken(log, block) == {5, 6}
        assert taken(log, block) == set()


def _memory_of(block: RAMBlock) -> mmap.mmap:
    """Its mapping, for advice that no block gives by itself."""
    return block._mapping


def test_contents_that_vanish_from_private_memory_are_seen() -> None:
    block = RAMBlock.anonymous("pc.ram", 8 * PAGE)
    block.view[:] = b"x" * (8 * PAGE)
    with logging(WriteProtectDirtyLog([block])) as log:
        _memory_of(block).madvise(mmap.MADV_DONTNEED, 2 * PAGE, PAGE)
        assert block.view[2 * PAGE] == 0
        assert taken(log, block) == {2}
        block.discard(4, 2)
        assert taken(log, block) == {4, 5}


def test_shared_memory_that_is_only_let_go_of_is_not_dirty(shared: RAMBlock) -> None:
    with logging(WriteProtectDirtyLog([shared])) as log:
        _memory_of(shared).madvise(mmap.MADV_DONTNEED, 2 * PAGE, PAGE)
        assert bytes(shared.view[2 * PAGE : 2 * PAGE + 1]) == b"x"
        assert taken(log, shared) == set()
        shared.view[2 * PAGE] = 1
        assert taken(log, shared) == {2}


# --- what is not seen, and has to be marked -------------------------------------------------------


def test_writes_to_the_file_are_not_seen_and_are_marked(shared: RAMBlock) -> None:
    assert shared.memfd is not None
    with logging(WriteProtectDirtyLog([shared])) as log:
        os.pwrite(shared.memfd, b"hello", 3 * PAGE)
        assert bytes(shared.view[3 * PAGE : 3 * PAGE + 5]) == b"hello"
        assert taken(log, shared) == set()
        log.mark(shared, 3)
        assert taken(log, shared) == {3}


def test_discarded_pages_are_not_seen_and_are_marked(shared: RAMBlock) -> None:
    with logging(WriteProtectDirtyLog([shared])) as log:
        shared.discard(8, 4)
        assert shared.view[8 * PAGE : 12 * PAGE] == bytes(4 * PAGE)
        assert taken(log, shared) == set()
        log.mark(shared, 8, 4)
        assert taken(log, shared) == {8, 9, 10, 11}
        shared.view[9 * PAGE] = 1
        assert taken(log, shared) == {9}


_FORKING = """
import os
from transship.guests.writeprotect import WriteProtectDirtyLog
from transship.memory.bitmap import DirtyBitmap
from transship.memory.ramblock import RAMBlock

block, bitmap = RAMBlock.allocate("pc.ram", 64 * 4096), DirtyBitmap(64)
log = WriteProtectDirtyLog([block])
log.start()
if not (child := os.fork()):
    block.view[5 * 4096] = 1
    os._exit(0)
os.waitpid(child, 0)
assert block.view[5 * 4096] == 1
print(log.sync(block, bitmap))
log.mark(block, 5)
block.view[6 * 4096] = 1
print(log.sync(block, bitmap), list(map(tuple, bitmap.runs())))
"""


def test_writes_of_a_forked_child_are_not_seen_and_are_marked() -> None:
    forking = subprocess.run(
        [sys.executable, "-c", _FORKING], check=True, capture_output=True, text=True
    )
    assert forking.stdout.splitlines() == ["0", "2 [(5, 2)]"]


# --- another process ------------------------------------------------------------------------------

_WRITER = """
import mmap, os, socket, sys
from transship.memory.mappings import address_of
from transship.memory.protection import WriteProtection

lead = socket.socket(fileno=int(sys.argv[1]))
memory = mmap.mmap(int(sys.argv[2]), 0)
protection = WriteProtection.of_this_process()
address = address_of(memory).to_bytes(8, "little")
socket.send_fds(lead, [address], protection.descriptors)
while page := lead.recv(4):
    memory[int.from_bytes(page, "little") * mmap.PAGESIZE] = 7
    lead.send(page)
"""


class Writer:
    """A process that has mapped a block, and writes to the pages that it is told."""

    def __init__(self, block: RAMBlock) -> None:
        assert block.memfd is not None
        self.lead, far = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(far.fileno()), str(block.memfd)],
            pass_fds=(far.fileno(), block.memfd),
        )
        far.close()
        address, descriptors, _, _ = socket.recv_fds(self.lead, 8, 2)
        self.protection = WriteProtection(*descriptors)
        self.mapping = MappingElsewhere(block, int.from_bytes(address, "little"), self.protection)

    def write(self, page: int) -> None:
        self.lead.send(page.to_bytes(4, "little"))
        assert self.lead.recv(4)

    def end(self) -> None:
        self.lead.close()
        assert self.process.wait(20) == 0


@pytest.fixture
def writer(shared: RAMBlock) -> Iterator[Writer]:
    writer = Writer(shared)
    yield writer
    writer.end()
    writer.protection.close()


def test_writes_of_another_process_are_not_seen_and_are_marked(
    shared: RAMBlock, writer: Writer
) -> None:
    with logging(WriteProtectDirtyLog([shared])) as log:
        writer.write(5)
        assert shared.view[5 * PAGE] == 7
        assert taken(log, shared) == set()
        log.mark(shared, 5)
        assert taken(log, shared) == {5}


def test_writes_of_another_process_are_seen_where_its_mapping_is_named(
    shared: RAMBlock, writer: Writer
) -> None:
    for _ in range(2):  # the second time what the first has left must not be in the way
        with logging(WriteProtectDirtyLog([shared], [writer.mapping])) as log:
            for page in (5, 5, 77):
                writer.write(page)
            shared.view[9 * PAGE] = shared.view[77 * PAGE] = 1
            assert taken(log, shared) == {5, 9, 77}
            writer.write(77)
            assert taken(log, shared) == {77}
            assert taken(log, shared) == set()


def test_another_process_that_has_gone_is_told_and_not_taken_for_idle(shared: RAMBlock) -> None:
    writer = Writer(shared)
    with logging(WriteProtectDirtyLog([shared], [writer.mapping])) as log:
        writer.write(5)
        writer.end()
        with pytest.raises(LocalError, match="No such process"):
            taken(log, shared)
    with pytest.raises(LocalError, match="cannot be tracked"):
        WriteProtectDirtyLog([shared], [writer.mapping]).start()
    writer.protection.close()


# --- nothing is lost ------------------------------------------------------------------------------


def test_copy_made_while_native_code_writes_is_alike_in_the_end(block: RAMBlock) -> None:
    """Writes that come between the look at the log and the copy are seen the next time."""
    address, done = block.address, threading.Event()
    copy = bytearray(block.view)

    def write(seed: int) -> None:
        random = Random(seed)
        while not done.is_set():
            start = random.randrange(PAGES * PAGE - 5000)
            ctypes.memset(address + start, random.randrange(256), random.randrange(1, 5000))

    def copy_dirty(log: WriteProtectDirtyLog) -> None:
        bitmap = DirtyBitmap(PAGES)
        log.sync(block, bitmap)
        for first, count in bitmap.runs():
            part = slice(first * PAGE, (first + count) * PAGE)
            copy[part] = block.view[part]

    with logging(WriteProtectDirtyLog([block])) as log:
        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(2)]
        for thread in writers:
            thread.start()
        for _ in range(150):
            copy_dirty(log)
        done.set()
        for thread in writers:
            thread.join()
        copy_dirty(log)
    assert copy == block.view


# --- beginning and end ----------------------------------------------------------------------------


def test_log_leaves_no_descriptor_and_can_be_started_again(block: RAMBlock) -> None:
    wait_for_releases()
    before = userfault_descriptors()
    log = WriteProtectDirtyLog([block])
    for _ in range(3):
        log.start()
        block.view[PAGE] = 1
        assert taken(log, block) == {1}
        log.stop()
        log.stop()
    wait_for_releases()
    assert userfault_descriptors() == before


def test_log_that_logs_cannot_be_started_and_goes_on(block: RAMBlock) -> None:
    with logging(WriteProtectDirtyLog([block])) as log:
        block.view[PAGE] = 1
        with pytest.raises(LocalError, match="dirty log is in use"):
            log.start()
        assert taken(log, block) == {1}


def test_memory_that_somebody_else_watches_is_refused_and_nothing_stays(block: RAMBlock) -> None:
    other = WriteProtection.of_this_process()
    other.track(block.address, block.used_length)
    log = WriteProtectDirtyLog([block])
    with pytest.raises(LocalError, match="watched by nobody else"):
        log.start()
    assert not log.is_logging
    other.close()
    with logging(log):
        block.view[PAGE] = 1
        assert taken(log, block) == {1}


def test_log_that_has_stopped_keeps_nobody_from_closing_the_memory() -> None:
    block = RAMBlock.anonymous("pc.ram", 64 * PAGE)
    log = WriteProtectDirtyLog([block])
    log.start()
    log.stop()
    block.close()
    wait_for_releases()


def test_log_that_has_stopped_cannot_be_asked(block: RAMBlock) -> None:
    log = WriteProtectDirtyLog([block])
    with pytest.raises(LocalError, match="does not keep"):
        log.sync(block, DirtyBitmap(PAGES))


@pytest.mark.parametrize("backing", ["memfd", "anonymous"])
def test_protection_that_was_closed_says_so(backing: Backing) -> None:
    block = RAMBlock.allocate("pc.ram", PAGE, backing=backing)
    protection = WriteProtection.of_this_process()
    protection.close()
    protection.close()
    protection.untrack(block.address, PAGE)
    with pytest.raises(LocalError, match="has been closed"):
        protection.track(block.address, PAGE)


def test_memory_that_is_not_tracked_has_nothing_to_tell(block: RAMBlock) -> None:
    protection = WriteProtection.of_this_process()
    with pytest.raises(LocalError, match="cannot be tracked"):
        protection.take(block.address, block.used_length, PAGE, bytearray(PAGES))
    protection.close()
