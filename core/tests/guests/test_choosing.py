from __future__ import annotations

import errno
import mmap
from typing import TYPE_CHECKING, cast, get_args

import pytest

from transship.errors import LocalError
from transship.guests.choosing import DirtyLogKind, dirty_log_for
from transship.guests.nolog import NoDirtyLog
from transship.guests.writeprotect import MappingElsewhere
from transship.memory import pagemap, protection, userfault
from transship.memory.bitmap import DirtyBitmap
from transship.memory.protection import WriteProtection, check_write_protection
from transship.memory.ramblock import RAMBlock

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = mmap.PAGESIZE


@pytest.fixture
def block() -> RAMBlock:
    return RAMBlock.anonymous("pc.ram", 64 * PAGE, page_size=PAGE)


@pytest.fixture
def _write_protection() -> None:
    try:
        check_write_protection()
    except LocalError as error:
        pytest.skip(str(error))


def _refused(*arguments: object) -> int:
    raise OSError(errno.EPERM, "Operation not permitted")


def _no_system_call(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(userfault, "_by_system_call", _refused)
    patch.setattr(userfault, "_by_device", _refused)


def _older_kernel(patch: pytest.MonkeyPatch) -> None:
    """Has userfaultfd, and does not know this feature."""
    patch.setattr(userfault, "_FEATURES", 1 << 60)


def _no_scan(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pagemap, "_PAGEMAP_SCAN", 0xC0606611)


def _no_pagemap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(protection, "open_pagemap", _refused)


def _blind(patch: pytest.MonkeyPatch) -> None:
    """It works, and tells something else than what was written."""
    patch.setattr(pagemap.WrittenPages, "take", lambda *arguments: iter(()))


LACKS = [_no_system_call, _older_kernel, _no_scan, _no_pagemap, _blind]


@pytest.mark.usefixtures("_write_protection")
def test_kernel_that_protects_is_the_first_choice(block: RAMBlock) -> None:
    assert dirty_log_for([block]).name == "write-protect"


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: lack.__name__)
def test_comparing_takes_its_place_where_the_kernel_does_not(
    monkeypatch: pytest.MonkeyPatch, block: RAMBlock, lack: Callable[[pytest.MonkeyPatch], None]
) -> None:
    lack(monkeypatch)
    assert dirty_log_for([block]).name == "comparing"


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: lack.__name__)
def test_what_was_asked_for_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, block: RAMBlock, lack: Callable[[pytest.MonkeyPatch], None]
) -> None:
    lack(monkeypatch)
    with pytest.raises(LocalError):
        dirty_log_for([block], "write-protect")
    assert dirty_log_for([block], "marked").name == "marked"


@pytest.mark.usefixtures("_write_protection")
def test_device_is_the_other_way_to_the_kernel(
    monkeypatch: pytest.MonkeyPatch, block: RAMBlock
) -> None:
    monkeypatch.setattr(userfault, "_SYSCALL", {})
    try:
        check_write_protection()
    except LocalError as error:
        pytest.skip(f"/dev/userfaultfd is not for us: {error}")
    assert dirty_log_for([block]).name == "write-protect"


@pytest.mark.usefixtures("_write_protection")
def test_block_that_ends_within_a_page_of_the_host_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = RAMBlock.anonymous("pc.ram", 3 * PAGE)
    monkeypatch.setattr(mmap, "PAGESIZE", 2 * PAGE)
    assert dirty_log_for([block]).name == "comparing"
    with pytest.raises(LocalError, match=r"end of RAM block 'pc\.ram'"):
        dirty_log_for([block], "write-protect")


@pytest.mark.usefixtures("_write_protection")
@pytest.mark.parametrize("kind", get_args(DirtyLogKind))
def test_all_of_them_take_marks_and_say_what_they_are(block: RAMBlock, kind: DirtyLogKind) -> None:
    log, bitmap = dirty_log_for([block], kind), DirtyBitmap(64)
    log.start()
    log.readable(block)
    block.view[3 * PAGE] = 1
    log.mark(block, 3)
    assert log.sync(block, bitmap) == 1
    assert bitmap.is_dirty(3)
    with pytest.raises(LocalError, match="in use"):
        log.start()
    log.stop()
    assert log.name == ("write-protect" if kind == "auto" else kind)


def test_guest_that_never_writes_says_so(block: RAMBlock) -> None:
    log = NoDirtyLog()
    assert log.name == "none"
    assert log.readable(block) is block


@pytest.mark.usefixtures("_write_protection")
def test_mappings_elsewhere_are_told_to_write_protection(block: RAMBlock) -> None:
    """The mapping is one of this process, so it is protected as the block's own is."""
    other = RAMBlock.anonymous("the same memory elsewhere", 64 * PAGE, page_size=PAGE)
    protection = WriteProtection.of_this_process()
    mapping = MappingElsewhere(block, other.address, protection)
    log, bitmap = dirty_log_for([block], elsewhere=[mapping]), DirtyBitmap(64)
    log.start()
    other.view[5 * PAGE] = 1
    block.view[6 * PAGE] = 1
    assert log.sync(block, bitmap) == 2
    assert bitmap.is_dirty(5)
    log.stop()
    protection.close()


@pytest.mark.parametrize("kind", ["marked", "comparing"])
def test_mappings_elsewhere_are_no_matter_to_other_logs(
    block: RAMBlock, kind: DirtyLogKind
) -> None:
    mapping = MappingElsewhere(block, 0, cast("WriteProtection", None))
    log = dirty_log_for([block], kind, [mapping])
    log.start()
    log.stop()
