"""Carries out a migration over QMP: starts it, follows it, cancels it if it must, tells its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from transship.cli.driving.ends import (
    CANCEL_PATIENCE_S,
    End,
    end_of,
    lost,
    overdue,
    tell,
    unmoved,
    with_storage,
)
from transship.cli.driving.following import Follower
from transship.cli.driving.order import cap_text, check, prepare
from transship.cli.driving.peer import reach, refusal_of
from transship.cli.driving.storage.copying import StorageCopy
from transship.cli.exits import ExitCode
from transship.cli.interrupts import SIGNALS, Interrupts
from transship.cli.progress.forecast import OPTION_NAMES
from transship.cli.progress.views import open_view
from transship.control.client import (
    QmpClosedError,
    QmpCommandError,
    QmpError,
    QmpTimeoutError,
)
from transship.errors import (
    BlockedError,
    CancelledError,
    MigrationError,
    NotConvergedError,
    RemoteError,
)
from transship.units import format_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.cli.console import Console
    from transship.cli.driving.order import Order
    from transship.cli.driving.peer import MigrationInfo, Peer
    from transship.cli.progress.views import View


async def drive(order: Order, console: Console) -> int:
    """Carry out an order. Returns the exit code.

    The first SIGINT or SIGTERM cancels the migration and waits for its end; a second SIGINT ends
    the process at once.

    Raises:
        MigrationError: It did not begin.
    """
    driver = _Driver(order, console)
    refusal: MigrationError | None = None
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.heed, signals, nursery)
            nursery.start_soon(driver.expire)
            try:
                await driver.run()
            except MigrationError as error:
                refusal = error
            nursery.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    if driver.end is not None:
        return tell(console, driver.end)
    if not driver.is_asked_for:
        raise CancelledError("cancelled before the migration began")
    console.note("left without waiting for the end: the migration may still run, or be cancelled")
    if order.storage is not None:
        console.note("its disks may still be copied: the next --copy-storage ends that")
    return ExitCode.LEFT


class _Driver:
    """One migration.

    Attributes:
        end: How it ended, once that is known.
    """

    def __init__(self, order: Order, console: Console) -> None:
        self.end: End | None = None
        self._order = order
        self._console = console
        self._peer: Peer
        self._view: View
        self._follower: Follower
        self._storage: StorageCopy | None = None
        self._is_asked_for = trio.Event()
        self._has_begun = trio.Event()
        self._copying = trio.CancelScope()
        self._following = trio.CancelScope()
        self._reason: MigrationError | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether the peer may have begun, if only to copy disks."""
        return self._is_asked_for.is_set()

    async def run(self) -> None:
        """Carry it out; :attr:`end` is set then.

        Raises:
            MigrationError: It did not begin.
        """
        order = self._order
        async with reach(order.address, overtakes=order.storage is not None) as self._peer:
            await check(self._peer, order)
            if order.storage is None:
                await self._move()
                return
            async with reach(order.storage.destination) as destination:
                self._storage = StorageCopy(self._peer, destination, order.storage)
                await self._storage.prepare(order.capabilities)
                await self._move()

    async def heed(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Cancel the migration; before it has begun, and when we leave, everything."""
        interrupts = Interrupts()
        async for number in signals:
            if self.is_asked_for:
                interrupts.heed(number, self._view.note)
            if interrupts.is_leaving or not self.is_asked_for:
                nursery.cancel_scope.cancel()
                return
            if self._reason is None:
                nursery.start_soon(self._cancel, CancelledError("the migration was cancelled"))

    async def expire(self) -> None:
        """Cancel the migration when its time is over."""
        timeout_s = self._order.timeout_s
        if timeout_s is None:
            return
        await self._is_asked_for.wait()
        await trio.sleep(timeout_s)
        if self._reason is None:
            late = f"not completed within {format_time(timeout_s)}"
            self._view.note(f"{late}: cancelling")
            expected = self._follower.expected
            found = None if expected is None else expected.text
            await self._cancel(NotConvergedError(late, found=found))

    async def _cancel(self, reason: MigrationError) -> None:
        self._reason = reason
        self._copying.cancel()
        await self._has_begun.wait()
        try:
            await self._peer.cancel(self._follower.info)
        except QmpCommandError as error:
            self._reason = None
            self._view.note(f"cannot be cancelled now: {error.description}")
        except QmpError:
            pass  # the follower loses the connection as well
        else:
            self._following.deadline = trio.current_time() + CANCEL_PATIENCE_S

    async def _move(self) -> None:
        order = self._order
        self._console.note(cap_text(await prepare(self._peer, order), order))
        with open_view(self._console, f"{order.address} → {order.uri}") as self._view:
            accompany = None if self._storage is None else self._accompany
            self._follower = Follower(self._peer, self._view, order.poll_s, OPTION_NAMES, accompany)
            self._is_asked_for.set()
            if self._storage is None:
                await self._migrate()
            else:
                await self._move_with(self._storage)

    async def _move_with(self, storage: StorageCopy) -> None:
        try:
            if await self._copy(storage):
                await self._migrate()
        finally:
            end, self.end = self.end, None  # whoever leaves meanwhile leaves something behind
            for sentence in await storage.remove():
                self._view.note(sentence)
            self.end = end and with_storage(end, storage)

    async def _copy(self, storage: StorageCopy) -> bool:
        """Copy disks; if the migration cannot follow, the end is set. Returns whether it can."""
        failure: MigrationError | None = None
        try:
            with self._copying:
                await storage.copy(self._view.show_disks, self._order.poll_s)
                return True
        except (BlockedError, QmpCommandError):
            raise
        except QmpError as error:
            failure = refusal_of(error)
        except MigrationError as error:
            failure = error
        self.end = await unmoved(self._peer, failure or self._reason)
        return False

    async def _accompany(self, info: MigrationInfo) -> None:
        """Look after the disks, unless the migration is on its way back."""
        if self._storage is None or self._reason is not None:
            return
        error = await self._storage.accompany(info)
        if error is not None and self._reason is None:
            self._view.note(f"{error}: cancelling")
            await self._cancel(error)

    async def _migrate(self) -> None:
        order = self._order
        try:
            await self._peer.migrate(order.uri, order.channel, order.disks)
        except (QmpClosedError, QmpTimeoutError) as error:
            self.end = lost(self._follower.info, str(error))
            return
        self._has_begun.set()
        await self._see_through()

    async def _see_through(self) -> None:
        try:
            with self._following:
                await self._follower.follow()
        except (QmpError, RemoteError) as error:
            self.end = lost(self._follower.info, str(error))
            return
        if self._following.cancelled_caught:
            self.end = overdue(self._follower.info)
            return
        self.end = await end_of(self._peer, self._follower, self._reason)
