"""A guest with RAM and a register, and the sections that carry them."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Final

import trio

from transship.abc import Disk, LiveCounters, Pending, Section, Segments
from transship.engine.globalstate import GlobalState
from transship.memory.bitmap import DirtyBitmap
from transship.plugin.markers import hookimpl
from transship.plugin.registry import SectionRegistry
from transship.testing.guests import FakeGuest, GuestWrite
from transship.testing.memory_device import Medium, MemoryDevice
from transship.wire import encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader

PAGE: Final = 4096
PAGES: Final = 8
LAST_WORDS: Final = b"the last thing that the guest did"


class Machine(FakeGuest):
    """A guest of a pair, of which at most one may run at any time.

    Args:
        is_running: Whether it is the source's.
        fails_in: Names of its methods that raise.
        pages: Of RAM.
        medium: What its disk is on; shared with the other, or of its own.

    Attributes:
        has_run_twice: Whether it was started while the other ran.
        has_run_without_disk: Whether it was started when its disk was not active.
        withheld: The throttle percentages that it was given, in order.
    """

    can_throttle = True

    def __init__(
        self,
        *,
        is_running: bool,
        fails_in: Sequence[str] = (),
        pages: int = PAGES,
        medium: Medium | None = None,
    ) -> None:
        script = [
            [GuestWrite("ram", 0, b"first"), GuestWrite("ram", 3 * PAGE, b"second")],
            [GuestWrite("ram", 3 * PAGE + 17, LAST_WORDS)],
        ]
        super().__init__({"ram": pages * PAGE}, is_running=is_running, script=script)
        self.register = 0x1234 if is_running else 0
        self.other: Machine | None = None
        self.has_run_twice = self.has_run_without_disk = False
        self.device = MemoryDevice(medium or Medium(PAGE))
        self.disk = Disk("disk0", self.device)
        self.withheld: list[int] = []
        self.fails_in = fails_in
        if is_running:
            self.disk.activate()
            for page in range(pages):
                self.write("ram", page * PAGE, bytes([page % 255 + 1]) * (PAGE // 2))

    def _fail(self, name: str) -> None:
        if name in self.fails_in:
            raise OSError(f"{name} does not work here")

    def disks(self) -> Sequence[Disk]:
        return (self.disk,)

    async def pause(self) -> None:
        self._fail("pause")
        await super().pause()

    async def resume(self) -> None:
        self._fail("resume")
        self.has_run_twice |= self.other is not None and self.other.is_running
        self.has_run_without_disk |= not self.disk.is_active
        await super().resume()

    def throttle(self, percent: int) -> None:
        self.withheld.append(percent)
        self._fail("throttle")

    async def work(self, pages_per_s: float, working_set: int) -> None:
        """Write page after page of a working set, as fast as the throttle lets; never returns."""
        for page in cycle(range(working_set)):
            withheld = self.withheld[-1] if self.withheld else 0
            await trio.sleep(100 / (100 - withheld) / pages_per_s)
            if self.is_running:
                self.write("ram", page * PAGE + PAGE // 2, b"at work")

    async def prepare(self) -> None:
        self._fail("prepare")
        await super().prepare()

    async def commit(self) -> None:
        self._fail("commit")
        await super().commit()

    async def discard(self) -> None:
        self._fail("discard")
        await super().discard()

    async def keep_unconfirmed(self) -> str:
        self.history.append("keep_unconfirmed")
        self._fail("keep_unconfirmed")
        return "it is in this test, paused"


class _Broken(Section):
    """A section of which one hook may fail, half-way through."""

    fails_in: str | None = None

    def _fail(self, hook: str) -> None:
        if self.fails_in == hook:
            raise ZeroDivisionError(f"{hook} of the section is broken")


class PlainRAM(_Broken):
    """Carries RAM as page number plus one and page, ended by zero; the guest writes meanwhile."""

    idstr = "ram"
    is_live = True

    def __init__(self, guest: Machine) -> None:
        self._guest = guest
        self._block = guest.block("ram")
        self._bitmap = DirtyBitmap(self._block.pages)
        self._sent_pages = self._syncs = self._dirtied_pages = 0

    def statistics(self) -> dict[str, int]:
        return {
            "remaining": self._bitmap.count() * PAGE,
            "transferred": self._sent_pages * (PAGE + 4),
            "normal": self._sent_pages,
        }

    def live_counters(self) -> LiveCounters:
        return LiveCounters(
            sent_bytes=self._sent_pages * (PAGE + 4),
            handled_pages=self._sent_pages,
            dirtied_pages=self._dirtied_pages,
            remaining_bytes=self._bitmap.count() * PAGE,
            page_size=PAGE,
            dirty_syncs=self._syncs,
        )

    def _sync(self) -> None:
        self._syncs += 1
        self._dirtied_pages += self._guest.log.sync(self._block, self._bitmap)

    @hookimpl
    def begin(self) -> Segments:
        self._guest.log.start()
        self._bitmap.mark_all()
        self._syncs = 1
        yield encoder.be32(0)
        self._fail("begin")
        return True

    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        self._guest.play()
        yield from self._pages(budget_bytes)
        self._fail("iterate")
        return not self._bitmap.count()

    @hookimpl
    def pending(self, exact: bool) -> Pending:
        self._fail("pending")
        if exact:
            self._sync()
        return Pending(must_precopy=self._bitmap.count() * PAGE)

    @hookimpl
    def complete(self) -> Segments:
        self._sync()
        yield from self._pages(1 << 30)
        self._guest.log.stop()
        self._fail("complete")
        return True

    @hookimpl
    def cancel(self) -> None:
        self._guest.log.stop()
        self._fail("cancel")

    def _pages(self, budget_bytes: int) -> Segments:
        while budget_bytes > 0 and (run := self._bitmap.next_run(0, 1)):
            self._bitmap.clear(run.first)
            start = run.first * PAGE
            self._sent_pages += 1
            yield encoder.be32(run.first + 1) + bytes(self._block.view[start : start + PAGE])
            budget_bytes -= PAGE
        yield encoder.be32(0)
        return True

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        while number := (yield from reader.be32()):
            start = (number - 1) * PAGE
            yield from reader.fill(self._block.view[start : start + PAGE])
            self._fail("load")


class Register(_Broken):
    """Carries the machine's register."""

    idstr = "register"
    version_id = 2
    minimum_version_id = 2

    def __init__(self, guest: Machine) -> None:
        self._guest = guest

    @hookimpl
    def complete(self) -> Segments:
        yield encoder.be32(self._guest.register)
        self._fail("complete")
        return True

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        self._guest.register = yield from reader.be32()
        self._fail("load")


def sections_of(guest: Machine, *, without: str = "") -> SectionRegistry:
    sections = (PlainRAM(guest), Register(guest), GlobalState())
    return SectionRegistry(section for section in sections if section.idstr != without)
