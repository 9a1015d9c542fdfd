"""Every check of sections fails on a section that breaks its rule, and passes good ones."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from transship import hookimpl
from transship.abc import Pending, Section
from transship.errors import StreamError
from transship.memory.bitmap import DirtyBitmap
from transship.testing import (
    LIVE_SECTION_CHECKS,
    SECTION_CHECKS,
    FakeGuest,
    GoldenSection,
    GuestWrite,
    SavedRecord,
    SectionCase,
    carrying,
    check_section,
    hostile_section_checks as hostile,
    live_section_checks as live,
    section_checks as checks,
)
from transship.testing.pytest_plugin import LiveSectionConformance
from transship.testing.section_case import ram_and_devices
from transship.wire.constants import RecordType

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc import Guest, Segments
    from transship.abc.section import Body
    from transship.memory.ramblock import RAMBlock
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader

PAGE = 4096
BLOCK_BYTES = 8 * PAGE
LENGTH = BLOCK_BYTES.to_bytes(4, "big")


class Whole(Section):
    """A good section: one block, as a length and its bytes."""

    idstr = "whole"

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.block: RAMBlock = guest.ram_blocks()[0]

    @hookimpl
    def complete(self) -> Body:
        yield len(self.block.view).to_bytes(4, "big")
        for start in range(0, BLOCK_BYTES, PAGE):
            yield self.block.view[start : start + PAGE]
        return True

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        length = yield from reader.be32()
        if length != BLOCK_BYTES:
            raise reader.error("another length", expected=str(BLOCK_BYTES), found=str(length))
        with self.block.view as view:
            yield from reader.fill(view)


class Pages(Section):
    """A good live section: one block, page by page, each behind its number; 0xffff ends a body."""

    idstr = "pages"
    is_live = True

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.block: RAMBlock = guest.ram_blocks()[0]
        self.dirty = DirtyBitmap(self.block.pages)
        self.is_logging = False

    @hookimpl
    def begin(self) -> Segments:
        self.guest.dirty_log().start()
        self.is_logging = True
        self.dirty.mark_all()
        yield b"\xff\xff"
        return True

    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        while budget_bytes > 0 and (run := self.dirty.next_run(0, 1)):
            self.dirty.clear(*run)
            yield from self.page(run.first)
            budget_bytes -= PAGE
        yield b"\xff\xff"
        return self.dirty.is_clean

    def page(self, number: int) -> Segments:
        yield number.to_bytes(2, "big")
        yield self.block.view[number * PAGE : (number + 1) * PAGE]
        return True

    @hookimpl
    def pending(self, exact: bool) -> Pending:
        if exact:
            self.guest.dirty_log().sync(self.block, self.dirty)
        return Pending(self.dirty.count() * PAGE)

    @hookimpl
    def complete(self) -> Segments:
        self.guest.dirty_log().sync(self.block, self.dirty)
        yield from self.iterate(1 << 40)
        self.cancel()
        return True

    @hookimpl
    def cancel(self) -> None:
        if self.is_logging:
            self.is_logging = False
            self.guest.dirty_log().stop()

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        while (number := (yield from reader.be16())) != 0xFFFF:
            if number >= self.block.pages:
                raise reader.error("no such page", found=str(number))
            with self.block.view as view, view[number * PAGE : (number + 1) * PAGE] as page:
                yield from reader.fill(page)


# What breaks a rule


class HasNoJson(Whole):
    def description(self) -> str:
        return "whole"


class LosesAByte(Whole):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        yield from Whole.load(self, header, reader)
        with self.block.view as view:
            view[-1] = 0


class WantsAllAtOnce(Whole):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        yield 1
        if len(reader.buffered()) < 4:
            raise reader.error("too little")
        yield from Whole.load(self, header, reader)


class KnowsItsThread(Whole):
    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.home = threading.local()
        self.home.block = self.block

    @hookimpl
    def complete(self) -> Body:
        self.home.block.view.release()
        return (yield from Whole.complete(self))


class ClearsWhatItSent(Whole):
    @hookimpl
    def complete(self) -> Body:
        yield from Whole.complete(self)
        with self.block.view as view:
            view[:] = bytes(BLOCK_BYTES)
        return True


class HasOneBuffer(Whole):
    @hookimpl
    def complete(self) -> Body:
        yield LENGTH
        buffer = bytearray(PAGE)
        for start in range(0, BLOCK_BYTES, PAGE):
            buffer[:] = self.block.view[start : start + PAGE]
            yield buffer
        return True


class TakesBackWhatItLent(Whole):
    @hookimpl
    def complete(self) -> Body:
        yield LENGTH
        for start in range(0, BLOCK_BYTES, PAGE):
            with self.block.view as view, view[start : start + PAGE] as page:
                yield page
        return True


class KeepsViewsWhenSaved(Whole):
    @hookimpl
    def complete(self) -> Body:
        self.kept = self.block.view
        return (yield from Whole.complete(self))


class KeepsViewsWhenLoaded(Whole):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        self.kept = self.block.view
        yield from Whole.load(self, header, reader)


class PadsWhatIsCut(Whole):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        yield from reader.be32()
        for start in range(0, BLOCK_BYTES, PAGE):
            page = bytes(PAGE)
            with suppress(StreamError):
                page = yield from reader.take(PAGE)
            with self.block.view as view:
                view[start : start + PAGE] = page


class HasItsOwnErrors(Whole):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        length = yield from reader.be32()
        assert length == BLOCK_BYTES, "another length"
        with self.block.view as view:
            yield from reader.fill(view)


class WritesBeyondItsBlock(Pages):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        while (number := (yield from reader.be16())) != 0xFFFF:
            page = yield from reader.take(PAGE)
            if number > self.block.pages:
                raise reader.error("no such page", found=str(number))
            self.block.max_length += PAGE
            self.block.resize(BLOCK_BYTES + PAGE)
            with self.block.view as view:
                view[number * PAGE : (number + 1) * PAGE] = page
            self.block.resize(BLOCK_BYTES)
            self.block.max_length -= PAGE


class Loops(Whole):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        length = yield from reader.be32()
        while length != BLOCK_BYTES:
            time.sleep(0.1)
        with self.block.view as view:
            yield from reader.fill(view)


class BelievesLengths(Whole):
    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        length = yield from reader.be32()
        room = bytearray(min(length, 1 << 28))
        yield from reader.fill(memoryview(room))
        if length != BLOCK_BYTES:
            raise reader.error("another length", found=str(length))
        with self.block.view as view:
            view[:] = room


class ForgetsItsOldVersion(Whole):
    """Puts a byte before the length, since version 2, and claims to load version 1."""

    version_id = 2

    @hookimpl
    def complete(self) -> Body:
        yield b"\0"
        return (yield from Whole.complete(self))

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        yield from reader.u8()
        yield from Whole.load(self, header, reader)


class Miscounts(Pages):
    @hookimpl
    def pending(self, exact: bool) -> Pending:
        return Pending(Pages.pending(self, exact).must_precopy - PAGE)


class NeverThrough(Pages):
    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        yield from Pages.iterate(self, budget_bytes)
        return False


class HasNoMeasure(Pages):
    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        return (yield from Pages.iterate(self, 1 << 40))


class SendsNothingForLittle(Pages):
    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        return (yield from Pages.iterate(self, budget_bytes if budget_bytes > PAGE else 0))


class LogsOnWhenCancelled(Pages):
    @hookimpl
    def cancel(self) -> None:
        pass


class LogsOnWhenItLeftBegin(Pages):
    """Knows that it logs only once the record is out."""

    @hookimpl
    def begin(self) -> Segments:
        yield from Pages.begin(self)
        self.begun = True
        return True

    @hookimpl
    def cancel(self) -> None:
        if hasattr(self, "begun"):
            Pages.cancel(self)


def filled() -> FakeGuest:
    guest = FakeGuest({"a": BLOCK_BYTES}, script=[[GuestWrite("a", PAGE, b"x")]] * 3)
    for number in range(8):
        guest.write("a", number * PAGE, bytes([number + 1]) * PAGE)
    return guest


def empty() -> FakeGuest:
    return FakeGuest({"a": BLOCK_BYTES})


def case_of(kind: Callable[[Guest], Section]) -> SectionCase:
    return SectionCase(kind, filled, empty)


OLD_BYTES = LENGTH + b"\7" * BLOCK_BYTES
BROKEN: list[tuple[Callable[[SectionCase], None], SectionCase]] = [
    (checks.check_says_what_it_is, case_of(HasNoJson)),
    (checks.check_loads_what_it_saved, case_of(LosesAByte)),
    (checks.check_loads_what_it_saved, replace(case_of(Whole), make_destination=filled)),
    (checks.check_loads_byte_by_byte, case_of(WantsAllAtOnce)),
    (checks.check_works_in_any_thread, case_of(KnowsItsThread)),
    (checks.check_leaves_the_guest_as_it_was, case_of(ClearsWhatItSent)),
    (checks.check_lends_its_buffers, case_of(HasOneBuffer)),
    (checks.check_lends_its_buffers, case_of(TakesBackWhatItLent)),
    (checks.check_holds_no_views_when_saved, case_of(KeepsViewsWhenSaved)),
    (checks.check_holds_no_views_when_loaded, case_of(KeepsViewsWhenLoaded)),
    (hostile.check_refuses_cut_streams, case_of(PadsWhatIsCut)),
    (hostile.check_refuses_damage, case_of(HasItsOwnErrors)),
    (hostile.check_refuses_damage, case_of(WritesBeyondItsBlock)),
    (hostile.check_refuses_damage, case_of(Loops)),
    (hostile.check_bounds_its_memory, case_of(BelievesLengths)),
    (checks.check_loads_old_versions, case_of(ForgetsItsOldVersion)),
    (
        checks.check_loads_old_versions,
        replace(
            case_of(ForgetsItsOldVersion),
            golden=[GoldenSection(1, [SavedRecord(RecordType.SECTION_FULL, OLD_BYTES)], None)],
        ),
    ),
    (live.check_counts_down_to_nothing, case_of(Miscounts)),
    (live.check_counts_down_to_nothing, case_of(NeverThrough)),
    (live.check_keeps_its_budget, replace(case_of(HasNoMeasure), most_beyond_budget_bytes=PAGE)),
    (live.check_keeps_its_budget, case_of(SendsNothingForLittle)),
    (live.check_undoes_what_it_began, case_of(LogsOnWhenCancelled)),
    (live.check_undoes_what_it_began, case_of(LogsOnWhenItLeftBegin)),
]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "in_time", partial(carrying.in_time, seconds=1.0))


@pytest.mark.parametrize(("check", "case"), BROKEN)
def test_check_fails_on_a_section_that_breaks_its_rule(
    check: Callable[[SectionCase], None], case: SectionCase
) -> None:
    with pytest.raises((AssertionError, AttributeError)):
        check(case)


@pytest.mark.parametrize("kind", [Whole, Pages])
def test_good_section_passes_all(kind: type[Section]) -> None:
    check_section(kind, filled, empty)


def test_kept_stream_of_an_old_version_passes() -> None:
    loaded = empty()
    loaded.write("a", 0, b"\7" * BLOCK_BYTES)
    kept = GoldenSection(
        1, [SavedRecord(RecordType.SECTION_FULL, OLD_BYTES)], ram_and_devices(loaded)
    )
    check_section(Whole, filled, empty, golden=[kept])


def test_failure_names_its_check() -> None:
    with pytest.raises(AssertionError) as caught:
        check_section(HasNoJson, filled, empty)
    assert caught.value.__notes__ == ["in check_says_what_it_is"]


def test_every_check_has_a_section_that_it_fails_on() -> None:
    assert {check for check, _ in BROKEN} == {*SECTION_CHECKS, *LIVE_SECTION_CHECKS}


def test_every_check_is_a_test_of_the_inheritable_classes() -> None:
    tests = dir(LiveSectionConformance)
    for check in (*SECTION_CHECKS, *LIVE_SECTION_CHECKS):
        assert check.__name__.replace("check_", "test_section_") in tests
