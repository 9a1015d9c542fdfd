"""Keeps one guest's run state true: operators' orders on the one hand, migrations on the other.

All rules about who may pause and resume the guest, and when, stand here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from transship.engine.custody import Custodian
from transship.engine.deadlines import within
from transship.engine.disks import GuestDisks
from transship.engine.failures import as_migration_error
from transship.engine.migration import Migration
from transship.engine.notifiers import GuestPaused, GuestResumed
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, HandoverError, MigrationError
from transship.hosting.runstate import RunState, check_transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.abc.guest import Guest
    from transship.engine.attempt import Attempt
    from transship.engine.notifiers import Notice

_LOG: Final = logging.getLogger(__name__)


class Keeper:
    """Has one guest.

    Args:
        guest: Paused.
        run_state: ``prelaunch``, or ``inmigrate`` for a guest that is still to arrive.
        autostart: Whether it is started when it has arrived.
        guest_timeout_s: Says how long the guest may take to pause or to resume.
        tell: Told when an operator has paused or resumed it.

    Attributes:
        run_state: What the guest's processors do, and why.
        autostart: Whether a guest that arrives is to be started.
        operating: Held while an operator's order is carried out.
    """

    def __init__(
        self,
        guest: Guest,
        run_state: RunState,
        *,
        autostart: bool,
        guest_timeout_s: Callable[[], float],
        tell: Callable[[Notice], Awaitable[None]],
    ) -> None:
        self.run_state = run_state
        self.autostart = autostart
        self.operating = trio.Lock()
        self._guest = guest
        self._guest_timeout_s = guest_timeout_s
        self._tell = tell
        self._departure: Departure | None = None
        self._arrival: Arrival | None = None
        self._late_order: RunState | None = None
        self._is_elsewhere = False

    # What operators order.

    async def stop(self) -> None:
        """Pause the guest; one that is still to arrive will not be started.

        One that is being handed over stands still already, and is not resumed if it stays.

        Raises:
            MigrationError: It does not pause.
        """
        async with self.operating:
            if self.run_state is RunState.INMIGRATE:
                self._order_arrival(RunState.PAUSED)
            elif self._departure is not None:
                self._departure.has_been_stopped = True
            elif self.run_state is RunState.RUNNING:
                await self._within(self._guest.pause, "pause")
                self.become(RunState.PAUSED)
                await self._tell(GuestPaused())

    async def cont(self) -> None:
        """Let the guest run; one that is still to arrive will be started.

        Raises:
            BlockedError: It is being handed over, or runs on the destination.
            MigrationError: Somebody else has its disks, or it does not resume.
        """
        async with self.operating:
            if self.run_state is RunState.INMIGRATE:
                self._order_arrival(RunState.RUNNING)
            elif self._departure is not None:
                raise BlockedError(
                    "the guest cannot be resumed while it is handed over",
                    hint="wait for the end of the migration, or cancel it",
                )
            elif self._is_elsewhere:
                raise BlockedError(
                    "the guest has moved away; it is the destination's",
                    expected="a guest that was not handed over",
                    found="the destination's word that it has the guest",
                )
            elif self.run_state is not RunState.RUNNING:
                await GuestDisks(self._guest, self._guest_timeout_s).own()
                await self._within(self._guest.resume, "resume")
                self.become(RunState.RUNNING)
                await self._tell(GuestResumed())

    async def _obey_late_order(self) -> None:
        """Do what was ordered at a moment when it could only be kept in mind."""
        order, self._late_order = self._late_order, None
        try:
            if order is RunState.PAUSED:
                await self.stop()
            elif order is RunState.RUNNING:
                await self.cont()
        except MigrationError:
            _LOG.exception("what was ordered during a migration could not be done")

    def _order_arrival(self, order: RunState) -> None:
        self.autostart = order is RunState.RUNNING
        if self._arrival is not None and self._arrival.has_decided:
            self._late_order = order

    # What migrations do.

    def departure(self) -> Departure:
        """The custodian of a migration away from here."""
        return Departure(self)

    def arrival(self) -> Arrival:
        """The custodian of a migration to here."""
        self._arrival = Arrival(self)
        return self._arrival

    def hand_over(self, departure: Departure) -> None:
        """From now on the guest is the migration's."""
        self._departure = departure

    async def take_back(self, run_state: RunState | None, *, order: RunState | None = None) -> None:
        """The guest is no migration's any more.

        Args:
            run_state: What it is now; None if that has not changed.
            order: What somebody has ordered meanwhile.
        """
        self._departure = self._arrival = None
        self._late_order = order or self._late_order
        if run_state is not None:
            self.become(run_state)
        await self._obey_late_order()

    def lose(self, *, is_confirmed: bool) -> None:
        """The guest has been given up; ``is_confirmed``, if the destination said that it has it."""
        self._is_elsewhere = is_confirmed
        self._late_order = None

    def become(self, run_state: RunState) -> None:
        """Enter a run state.

        Raises:
            LocalError: It cannot follow the present one.
        """
        check_transition(self.run_state, run_state)
        self.run_state = run_state

    async def _within(self, action: Callable[[], Awaitable[None]], name: str) -> None:
        try:
            await within(action, self._guest_timeout_s(), name)
        except Exception as error:
            raise as_migration_error(error) from error


class Departure(Custodian):
    """One migration away from here.

    Attributes:
        has_been_stopped: Whether an operator wants the guest to stand still, should it stay.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.has_been_stopped = False
        self._keeper = keeper
        self._stood_as = RunState.PAUSED

    async def begin_handover(self) -> None:
        """Take no more orders, and let those end that were begun."""
        keeper = self._keeper
        keeper.hand_over(self)
        async with keeper.operating:
            if keeper.run_state is not RunState.RUNNING:
                self._stood_as = keeper.run_state
                keeper.become(RunState.FINISH_MIGRATE)

    def guest_paused(self) -> None:
        """It stands still for the hand-over."""
        self._keeper.become(RunState.FINISH_MIGRATE)

    def may_resume(self) -> bool:
        """Unless an operator has stopped it meanwhile."""
        return not self.has_been_stopped

    def guest_resumed(self) -> None:
        """It stays."""
        self._keeper.become(RunState.RUNNING)

    async def ended(self, attempt: Attempt, status: MigrationStatus) -> None:
        """It has left, or it stays as it was."""
        keeper = self._keeper
        assert isinstance(attempt, Migration)
        if not attempt.owns_guest:
            keeper.lose(is_confirmed=attempt.is_confirmed)
            await keeper.take_back(RunState.POSTMIGRATE)
        elif keeper.run_state is RunState.FINISH_MIGRATE:
            await keeper.take_back(self._stood_as)
        else:
            order = RunState.PAUSED if self.has_been_stopped else None
            await keeper.take_back(None, order=order)


class Arrival(Custodian):
    """One migration to here.

    Attributes:
        has_decided: Whether it has been decided if the guest is started.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.has_decided = False
        self._keeper = keeper

    def may_resume(self) -> bool:
        """As operators have said last."""
        self.has_decided = True
        return self._keeper.autostart

    def guest_resumed(self) -> None:
        """It has arrived, and runs."""
        self._keeper.become(RunState.RUNNING)

    async def ended(self, attempt: Attempt, status: MigrationStatus) -> None:
        """It has arrived and stands still; or nothing has come, and it may still come."""
        has_arrived = status is MigrationStatus.COMPLETED or isinstance(
            attempt.error, HandoverError
        )
        waits = self._keeper.run_state is RunState.INMIGRATE
        await self._keeper.take_back(RunState.PAUSED if has_arrived and waits else None)
