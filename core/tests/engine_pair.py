"""Both sides of a migration in one process, for tests of what drives them.

Everything happens in one thread and on a virtual clock, so that a test can interfere at every
single step of the event loop, and hours of waiting cost nothing. A test that uses this sets
``trio.to_thread.run_sync`` to :func:`in_place`: a virtual clock does not wait for threads.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from itertools import chain, count, cycle, repeat
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio
from trio.testing import MockClock

from transship.abc import (
    Channel,
    Disk,
    Listener,
    LiveCounters,
    Pending,
    ReturnPath,
    Section,
    Segments,
)
from transship.abc.settings import Parameters, Settings
from transship.engine.globalstate import GlobalState
from transship.engine.incoming import IncomingMigration
from transship.engine.migration import Migration
from transship.engine.notifiers import Notice, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import (
    HandoverError,
    MigrationError,
    NotStartedError,
    UnknownOutcomeError,
)
from transship.memory.bitmap import DirtyBitmap
from transship.plugin.markers import hookimpl
from transship.plugin.registry import SectionRegistry
from transship.testing import ChannelWrapper, memory_channel_pair
from transship.testing.guests import FakeGuest, GuestWrite
from transship.testing.memory_device import Medium, MemoryDevice
from transship.wire import encoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from transship.buffers import Buffer
    from transship.engine.blockers import Blockers
    from transship.engine.limiter import BandwidthLimiter
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader

PAGE: Final = 4096
PAGES: Final = 8
LAST_WORDS: Final = b"the last thing that the guest did"
PARAMETERS: Final = Parameters(max_bandwidth_bytes_per_s=0, downtime_limit_s=0)

PATIENT: Final = Parameters(stall_timeout_s=1000.0)


def settings() -> Settings:
    return Settings(parameters=PARAMETERS)


async def in_place(function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
    """What takes the place of ``trio.to_thread.run_sync``."""
    await trio.lowlevel.checkpoint_if_cancelled()
    result = function(*arguments)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


# A guest with RAM and a register, and the sections that carry them.


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


# The two sides, and what is between them.


class OneWay(ChannelWrapper):
    """A channel without a return path, like a file or a pipe."""

    def capability(self, kind: type[Any]) -> Any:
        return None if kind is ReturnPath else super().capability(kind)


class Returning(ChannelWrapper):
    """Changes what the destination says, or keeps it back.

    Args:
        inner: The destination's channel.
        change: Gets a message's number, from 0 on, and the message; gives what is sent instead.
    """

    def __init__(self, inner: Channel, change: Callable[[int, bytes], bytes]) -> None:
        super().__init__(inner)
        self._change = change
        self._number = count()

    async def send_return(self, message: Buffer) -> None:
        if changed := self._change(next(self._number), bytes(message)):
            await super().send_return(changed)


class Watched(ChannelWrapper):
    """Notes when how much was sent, either way."""

    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.sent: list[tuple[float, int]] = []

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        self.sent.append((trio.current_time(), sum(map(len, segments))))
        await super().send_segments(segments)


class Deaf(ChannelWrapper):
    """Never comes to an end of being closed."""

    async def aclose(self) -> None:
        await super().aclose()
        await trio.sleep_forever()


Wrap: TypeAlias = "Callable[[Channel], Channel]"


def unchanged(channel: Channel) -> Channel:
    return channel


def saying(change: Callable[[int, bytes], bytes]) -> Wrap:
    return lambda channel: Returning(channel, change)


class _OneChannel(Listener):
    def __init__(self, channel: Channel) -> None:
        self._channels = [channel]

    @property
    def uri(self) -> str:
        return "memory:"

    async def accept(self) -> Channel:
        if not self._channels:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return self._channels.pop()


@asynccontextmanager
async def connected(channel: Channel) -> AsyncIterator[Channel]:
    await trio.lowlevel.checkpoint()
    try:
        yield channel
    finally:
        await channel.aclose()


@asynccontextmanager
async def listening(channel: Channel) -> AsyncIterator[Listener]:
    yield _OneChannel(channel)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; the clock is virtual, so this costs nothing."""
    while True:
        if condition():
            return
        await trio.sleep(0.01)


def statuses_in(notices: Iterable[Notice]) -> list[MigrationStatus]:
    return [notice.status for notice in notices if isinstance(notice, StatusReached)]


class Pair:
    """A guest that moves, the machine to which it moves, and a channel that holds little.

    Args:
        near: What is put around the source's end of the channel.
        far: What is put around the destination's end.
        source_fails_in: Methods of the source's guest that raise.
        destination_fails_in: Methods of the destination's guest that raise.
        source_lacks: A section that is missing there.
        destination_lacks: A section that is missing there.
        parameters: Of both sides.
        destination_parameters: Of the destination, if they are others.
        capabilities: Of the source.
        blockers: Of the source.
        limiter: Of the source.
        pages: Of RAM.
        storage_is_shared: Whether the disks of the two are one, as on shared storage.

    Attributes:
        source_notices: What the source has told so far.
        destination_notices: What the destination has told so far.
    """

    def __init__(
        self,
        *,
        near: Wrap = unchanged,
        far: Wrap = unchanged,
        source_fails_in: Sequence[str] = (),
        destination_fails_in: Sequence[str] = (),
        source_lacks: str = "",
        destination_lacks: str = "",
        parameters: Parameters = PARAMETERS,
        destination_parameters: Parameters | None = None,
        capabilities: Iterable[str] = (),
        blockers: Blockers | None = None,
        limiter: BandwidthLimiter | None = None,
        pages: int = PAGES,
        storage_is_shared: bool = True,
    ) -> None:
        medium = Medium(PAGE) if storage_is_shared else None
        self.source = Machine(is_running=True, fails_in=source_fails_in, pages=pages, medium=medium)
        self.destination = Machine(
            is_running=False, fails_in=destination_fails_in, pages=pages, medium=medium
        )
        self.source.other, self.destination.other = self.destination, self.source
        self.source_sections = sections_of(self.source, without=source_lacks)
        self.destination_sections = sections_of(self.destination, without=destination_lacks)
        near_end, far_end = memory_channel_pair(2 * PAGE)
        self.near, self.far = near(near_end), far(far_end)
        self.migration = Migration(
            self.source,
            self.source_sections,
            connected(self.near),
            Settings(frozenset(capabilities), parameters),
            blockers=blockers,
            limiter=limiter,
        )
        self.incoming = IncomingMigration(
            self.destination,
            self.destination_sections,
            listening(self.far),
            Settings(parameters=destination_parameters or parameters),
        )
        self.source_notices: list[Notice] = []
        self.destination_notices: list[Notice] = []
        self.migration.notifiers.add(self.source_notices.append)
        self.incoming.notifiers.add(self.destination_notices.append)
        self.source_scope, self.destination_scope = trio.CancelScope(), trio.CancelScope()
        self.source_took_s = self.destination_took_s = 0.0

    @property
    def source_error(self) -> MigrationError | None:
        return self.migration.error

    @property
    def destination_error(self) -> MigrationError | None:
        return self.incoming.error

    @property
    def ram(self) -> PlainRAM:
        section = self.source_sections.find("ram", 0)
        assert isinstance(section, PlainRAM)
        return section

    @property
    def statuses(self) -> list[MigrationStatus]:
        """Of the source, so far."""
        return statuses_in(self.source_notices)

    async def run(self) -> None:
        """Run both sides to their ends, and check what must hold whatever happened."""
        await self.run_unchecked()
        self.check()

    async def run_source_alone(self) -> None:
        await self._run_source()
        self.check()

    async def run_unchecked(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_source)
            nursery.start_soon(self._run_destination)

    async def _run_source(self) -> None:
        started_s = trio.current_time()
        with self.source_scope, suppress(MigrationError):
            await self.migration.run()
        self.source_took_s = trio.current_time() - started_s

    async def _run_destination(self) -> None:
        started_s = trio.current_time()
        with self.destination_scope, suppress(MigrationError):
            await self.incoming.run()
        self.destination_took_s = trio.current_time() - started_s

    def check(self) -> None:
        """Exactly one side may run the guest; if nobody does, somebody has been told why."""
        assert not self.source.has_run_twice, "both guests ran"
        assert not self.destination.has_run_twice, "both guests ran"
        assert not (self.source.is_running and self.destination.is_running)
        assert not self.source.has_run_without_disk
        assert not self.destination.has_run_without_disk
        assert not (self.source.disk.is_active and self.destination.disk.is_active)
        if self.source.is_running:
            assert self.source_error is not None
            assert self.source_error.source_may_resume is True
            assert not isinstance(self.source_error, HandoverError)
            assert not self.source.log.is_logging
            assert self.source.disk.is_active
            self.source.disk.write(0, b"still there")
        elif self.destination.is_running:
            assert isinstance(self.source_error, UnknownOutcomeError | None)
            self.check_arrived_whole()
            self.destination.disk.write(0, b"arrived")
        else:
            errors = (self.source_error, self.destination_error)
            assert self.migration.status is not MigrationStatus.COMPLETED or any(
                isinstance(error, NotStartedError) for error in errors
            ), "the source lost its guest, and does not know"
            assert any(isinstance(error, HandoverError) for error in errors), errors
        for error, side in ((self.source_error, "source"), (self.destination_error, "destination")):
            if error is not None:
                assert (error.side, bool(error.phase)) == (side, True)

    def check_arrived_whole(self) -> None:
        assert self.destination.contents() == self.source.contents()
        assert LAST_WORDS in self.destination.contents()["ram"]
        assert self.destination.register == 0x1234


class AtStep(trio.abc.Instrument):
    """Does something once, after so many steps of all tasks."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self._steps_left = step
        self._act = act

    @property
    def has_acted(self) -> bool:
        return self._steps_left < 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self._steps_left:
            self._act()
        self._steps_left -= 1


def at_every_step(
    make: Callable[[], Pair], act: Callable[[Pair], None], times: int
) -> Iterator[Pair]:
    """Run a pair again and again, and interfere one step later each time; yields each at its end.

    Ends with the first that was through before its turn. Trio takes tasks that are ready in
    random order, so more ``times`` see more.
    """
    for step in chain.from_iterable(repeat(step, times) for step in count()):
        pair = make()
        instrument = AtStep(step, lambda pair=pair: act(pair))  # type: ignore[misc]
        trio.run(pair.run, clock=MockClock(autojump_threshold=0), instruments=[instrument])
        if not instrument.has_acted:
            return
        yield pair
