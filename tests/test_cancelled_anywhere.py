"""A whole guest on its way, and a side that is cancelled at any step: one has the guest at most.

Real transports in one process. Steps are those of trio's loop, so a cancellation comes at every
point where somebody waits, in threads and at the kernel as well.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_pair import AtStep
from support.ways import Addresses, Way, all_ways

from transship.abc import Parameters
from transship.assembly import migrate, receive
from transship.errors import HandoverError, MigrationError
from transship.guests.synthetic import SyntheticGuest
from transship.testing import Belongings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from transship.engine.incoming import IncomingMigration
    from transship.engine.migration import Migration

RAM_BYTES: Final = 1 << 18
STREAM_OFFSET: Final = 64 << 10
LIMIT_S: Final = 30.0


class Crossing:
    """One guest that goes one way, and what became of it.

    Args:
        way: Which.
        place: An empty folder.

    Attributes:
        has_moved: Whether it runs at the destination.
    """

    outgoing: Migration
    incoming: IncomingMigration

    def __init__(self, way: Way, place: Path) -> None:
        self._way = way
        self._place = place
        self._parameters = way.parameters(place)
        self.scopes = [trio.CancelScope(), trio.CancelScope()]
        self.errors: list[MigrationError | None] = [None, None]
        self.has_moved = False
        self._listens = trio.Event()
        self._target = ""

    async def run(self) -> None:
        """Let it go; check what each side says, and that nothing is left."""
        there_were = Belongings.now()
        addresses = self._way.prepare(self._place)
        files = self._files()
        with (
            trio.fail_after(LIMIT_S),
            SyntheticGuest(RAM_BYTES, tick_s=0.001) as here,
            SyntheticGuest(RAM_BYTES, seed=99, tick_s=0.001) as there,
        ):
            await here.resume()
            self._prepare(addresses, here, there)
            await (self._one_after_the_other() if self._way.is_stored else self._both())
            await self._judge(here, there)
        addresses.close_untouched()
        there_are = await Belongings.settled(there_were)
        assert not there_are.beyond(there_were)
        assert self._files() == files

    def _prepare(self, addresses: Addresses, here: SyntheticGuest, there: SyntheticGuest) -> None:
        ours, theirs = (Parameters(max_bandwidth_bytes_per_s=0, **one) for one in self._parameters)
        self._target = addresses.target or ""
        self.incoming = receive(
            there,
            addresses.uri,
            parameters=theirs,
            capabilities=self._way.capabilities,
            on_listening=self._note,
        )
        self._make_outgoing: Callable[[], Migration] = lambda: migrate(
            here, self._target, parameters=ours, capabilities=self._way.capabilities
        )
        if self._target:
            self.outgoing = self._make_outgoing()

    def _note(self, uri: str) -> None:
        self._target = self._target or uri
        self._listens.set()

    async def _one_after_the_other(self) -> None:
        await self._run(0, self.outgoing)
        await self._run(1, self.incoming)

    async def _both(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_incoming)
            await self._listens.wait()
            if not hasattr(self, "outgoing"):
                self.outgoing = self._make_outgoing()
            await self._run(0, self.outgoing)
            while not self.incoming.is_over and self.outgoing.error is not None:
                if self.incoming.status.value in ("none", "setup"):
                    self.incoming.cancel()  # nobody will come
                await trio.sleep(0.01)

    async def _run_incoming(self) -> None:
        try:
            await self._run(1, self.incoming)
        finally:
            if not self._listens.is_set():
                self._target = self._target or "unix:/nowhere"
                self.scopes[0].cancel()  # nobody will read
            self._listens.set()

    async def _run(self, side: int, attempt: Migration | IncomingMigration) -> None:
        with self.scopes[side]:
            try:
                await attempt.run()
            except MigrationError as error:
                self.errors[side] = error

    async def _judge(self, here: SyntheticGuest, there: SyntheticGuest) -> None:
        assert not (here.is_running and there.is_running)
        if not (here.is_running or there.is_running):
            is_unconfirmed = self.outgoing.is_over and not self.outgoing.is_confirmed
            assert is_unconfirmed or any(isinstance(one, HandoverError) for one in self.errors), (
                self.errors
            )
        if self._way.is_stored and self.outgoing.error is not None:
            assert here.is_running
            assert not there.is_running
        self.has_moved = there.is_running
        for guest in (here, there):
            if guest.is_running:
                await guest.pause()
                assert (await trio.to_thread.run_sync(guest.verify)).ok

    def _files(self) -> set[Path]:
        """What there is, but for a file that has the guest, or nothing."""
        return {
            path
            for path in self._place.rglob("*")
            if not (path.name == "stream" and self._is_as_it_should_be(path))
        }

    def _is_as_it_should_be(self, path: Path) -> bool:
        has_guest = hasattr(self, "outgoing") and self.outgoing.error is None
        return has_guest or path.stat().st_size <= STREAM_OFFSET


def cancel_source(crossing: Crossing) -> None:
    if hasattr(crossing, "outgoing"):
        crossing.outgoing.cancel()
    else:
        crossing.scopes[0].cancel()


def cancel_destination(crossing: Crossing) -> None:
    if hasattr(crossing, "incoming"):
        crossing.incoming.cancel()


def cancel_source_from_outside(crossing: Crossing) -> None:
    crossing.scopes[0].cancel()


def cancel_destination_from_outside(crossing: Crossing) -> None:
    crossing.scopes[1].cancel()


CANCELLATIONS: Final = (
    cancel_source,
    cancel_destination,
    cancel_source_from_outside,
    cancel_destination_from_outside,
)


@contextmanager
def empty_folder() -> Iterator[Path]:
    """One with a short name, for sockets."""
    with tempfile.TemporaryDirectory(prefix="transship-") as folder:
        yield Path(folder)


def steps_of(way: Way) -> int:
    """How many steps it takes to move a guest that nobody disturbs."""
    steps = Counting()
    with empty_folder() as place:
        crossing = Crossing(way, place)
        trio.run(crossing.run, instruments=[steps])
    assert crossing.errors == [None, None]
    assert crossing.has_moved
    return steps.count


class Counting(trio.abc.Instrument):
    """Counts the steps of all tasks."""

    count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


def cancelled_at(way: Way, cancel: Callable[[Crossing], None], step: int) -> bool:
    """Let a guest go, and cancel at a step; returns whether it has moved all the same."""
    with empty_folder() as place:
        crossing = Crossing(way, place)
        try:
            trio.run(crossing.run, instruments=[AtStep(step, lambda: cancel(crossing))])
        except BaseException as error:
            error.add_note(f"{cancel.__name__} at step {step}")
            raise
    return crossing.has_moved


def cancelled_at_many(
    way: Way, cancellations: Iterable[Callable[[Crossing], None]], most: int
) -> None:
    """Cancel in each of these ways once, at steps that are spread over all there are."""
    chosen = list(cancellations)
    chance = random.Random(len(chosen))
    moved = Counter[str]()
    for number, cancel in enumerate(chosen):
        step = int(most * (number + chance.random()) / len(chosen))
        moved[cancel.__name__] += cancelled_at(way, cancel, step)
    print(f"cancelled at {len(chosen)} of {most} steps; moved all the same: {dict(moved)}")


@all_ways
def test_side_cancelled_at_some_steps_leaves_one_guest_at_most_and_nothing_else(way: Way) -> None:
    way.skip_if_missing()
    cancelled_at_many(way, CANCELLATIONS, steps_of(way))


@pytest.mark.soak
@pytest.mark.parametrize("cancel", CANCELLATIONS)
@all_ways
def test_side_cancelled_at_many_steps_leaves_one_guest_at_most_and_nothing_else(
    way: Way, cancel: Callable[[Crossing], None]
) -> None:
    way.skip_if_missing()
    cancelled_at_many(way, repeat(cancel, 40), steps_of(way))
