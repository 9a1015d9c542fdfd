"""A guest's disks on their way from one side to the other: at no moment may both write to them.

The source quiesces them when the guest stands still, before the last of them is copied, and gives
them up before the destination is asked whether it has everything; the destination has them once the
source has given the guest up. In between nobody has them, and whichever side the guest ends on gets
them before it runs.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.disk import DiskState
from transship.errors import LocalError, StalledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transship.abc.disk import Disk
    from transship.abc.guest import Guest

_FLUSHED_EVERY_S: Final = 1.0
"""What is left at the hand-over was written since: part of the downtime, as it is flushed then."""


class GuestDisks:
    """The disks of one guest, for one migration. Works in threads, one step after the other.

    Args:
        guest: Whose disks.
        timeout_s: Says how long each step may take for each disk.
    """

    def __init__(self, guest: Guest, timeout_s: Callable[[], float]) -> None:
        self._guest = guest
        self._timeout_s = timeout_s
        self._taken: list[Disk] = []  # from the guest, to be given back if it stays
        # A step that was cancelled still ends before the next one begins.
        self._one_after_the_other = trio.CapacityLimiter(1)

    # The source.

    @asynccontextmanager
    async def written_out(self) -> AsyncIterator[None]:
        """Flush now and then while the guest runs, so that :meth:`give_up` has little to flush.

        One that fails is left to :meth:`give_up`, which says so.
        """

        async def keep_flushed() -> None:
            with suppress(LocalError, StalledError):
                await self.keep_flushed()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_flushed)
            yield
            nursery.cancel_scope.cancel()

    async def quiesce(self) -> None:
        """Let the guest write no more: what is copied from here on is all that it has written.

        Raises:
            StalledError: A write does not come to its end.

        Cancellation: some may have been quiesced; :meth:`take_back` is to follow.
        """
        for disk in self._guest.disks():
            if disk.is_active:
                self._taken.append(disk)
                await self._do(disk.quiesce, f"quiescing disk {disk.name!r}")

    async def give_up(self) -> None:
        """Flush what :meth:`quiesce` has quiesced, and let the destination have it.

        Raises:
            LocalError: One could not be flushed or given up.
            StalledError: One did not come to an end.

        Cancellation: some may have been given up; :meth:`take_back` is to follow.
        """
        for disk in self._taken:
            await self._do(disk.inactivate, f"giving disk {disk.name!r} up")

    async def take_back(self) -> None:
        """Give the guest those again that it had: it stays.

        Raises:
            LocalError: One cannot be had; the guest must not run.
            StalledError: One did not come to an end; as before.
        """
        while self._taken:
            disk = self._taken[-1]
            await self._do(disk.activate, f"taking disk {disk.name!r} back")
            del self._taken[-1]

    # The destination.

    async def flush(self) -> None:
        """Make sure that what was loaded survives a power cut, or what the guest has written.

        Raises:
            LocalError: It cannot be had on the medium.
            StalledError: It does not come to an end.

        Cancellation: at any time.
        """
        for disk in self._guest.disks():
            if disk.state is not DiskState.INACTIVE:
                await self._do(disk.flush, f"flushing disk {disk.name!r}")

    async def keep_flushed(self) -> None:
        """Flush again and again, so that little is left to be flushed when the guest stands still.

        Raises:
            LocalError: As :meth:`flush`.
            StalledError: As :meth:`flush`.
        """
        while True:
            await trio.sleep(_FLUSHED_EVERY_S)
            await self.flush()

    async def own(self) -> None:
        """Have them all, and let the guest write: it is ours, and is about to run.

        Raises:
            LocalError: Somebody else has one; the guest must not run.
            StalledError: One did not come to an end; as before.
        """
        for disk in self._guest.disks():
            await self._do(disk.activate, f"taking disk {disk.name!r}")

    async def release(self) -> None:
        """Let go of what was loaded into: the guest stays on the source.

        Raises:
            MigrationError: One could not be released; the others are.
        """
        failure: LocalError | StalledError | None = None
        for disk in self._guest.disks():
            try:
                await self._do(disk.inactivate, f"releasing disk {disk.name!r}")
            except (LocalError, StalledError) as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def _do(self, step: Callable[[], None], what: str) -> None:
        timeout_s = self._timeout_s()
        with trio.move_on_after(timeout_s) as waiting:
            try:
                await trio.to_thread.run_sync(
                    step, abandon_on_cancel=True, limiter=self._one_after_the_other
                )
            except OSError as error:
                raise LocalError(f"{what} failed", found=error.strerror or str(error)) from error
        if waiting.cancelled_caught:
            raise StalledError(
                f"{what} did not end within {timeout_s:g} s", hint="does its storage answer?"
            )
