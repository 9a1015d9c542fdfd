"""Both sides of a migration in one process, for tests of what drives them.

Everything happens in one thread and on a virtual clock, so that a test can interfere at every
single step of the event loop, and hours of waiting cost nothing. A test that uses this sets
``trio.to_thread.run_sync`` to :func:`in_place`: a virtual clock does not wait for threads.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import chain, count, repeat
from typing import TYPE_CHECKING, Any, Final

import trio
from engine_channels import Wrap, connected, listening, unchanged
from engine_machine import LAST_WORDS, PAGE, PAGES, Machine, PlainRAM, sections_of
from trio.testing import MockClock

from transship.abc.settings import Parameters, Settings
from transship.engine.incoming import IncomingMigration
from transship.engine.migration import Migration
from transship.engine.notifiers import Notice, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import HandoverError, MigrationError, NotStartedError, UnknownOutcomeError
from transship.testing import memory_channel_pair
from transship.testing.memory_device import Medium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from transship.engine.blockers import Blockers
    from transship.engine.limiter import BandwidthLimiter

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
