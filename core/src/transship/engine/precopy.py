"""The control loop: memory in passes while the guest runs, until what is left fits the downtime."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.settings import Capability
from transship.engine.notifiers import PassBegun
from transship.engine.policy import Decision, decide
from transship.engine.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.abc.guest import Guest
    from transship.abc.section import Pending
    from transship.abc.settings import Settings
    from transship.engine.live import LiveSections
    from transship.engine.measures import Measures
    from transship.engine.notifiers import Notice
    from transship.engine.sender import StreamSender

LOG: Final = logging.getLogger(__name__)

_THROTTLED_SYNC_S: Final = 5.0
"""Longest time between two synchronisations while a guest may be throttled; as in QEMU 10.0."""


class Precopy:
    """Decides what is sent while the guest runs, and when it is stopped.

    Args:
        guest: Slowed down, if that is asked for.
        live: Its live sections.
        sender: Keeps the pace, and says what the next record may hold.
        measures: Keep the statistics, from which decisions are made.
        settings: Read again whenever they matter.
        tell: Told of each pass.
        stay_alive: Says something to the destination, when the pace is so slow that it might
            believe us dead.
        catch_up: Lets the destination catch up, where more than the stream leads there.
    """

    def __init__(
        self,
        guest: Guest,
        live: LiveSections,
        sender: StreamSender,
        measures: Measures,
        settings: Settings,
        tell: Callable[[Notice], Awaitable[None]],
        stay_alive: Callable[[], Awaitable[None]],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._guest = guest
        self._live = live
        self._sender = sender
        self._measures = measures
        self._statistics = measures.statistics
        self._settings = settings
        self._tell = tell
        self._stay_alive = stay_alive
        self._catch_up = catch_up
        self._throttle = Throttle()
        self._synced_at_s = trio.current_time()

    async def run(self) -> None:
        """Send passes until what is left, just synchronised, fits the downtime limit."""
        while True:
            while not await self._sender.keep_pace(self._settings.parameters.alive_interval_s):
                await self._stay_alive()
            self._measures.update()
            pending = await self._live.pending(exact=False)
            decision = self._decide(pending, exact=False)
            if decision is Decision.SYNC or self._must_sync():
                pending = await self._live.pending(exact=True)
                await self.synced()
                await self._catch_up()
                self._judge()
                decision = self._decide(pending, exact=True)
            self._statistics.remaining_bytes = pending.must_precopy
            if decision is Decision.SWITCH_OVER:
                self._measures.expect(pending.must_precopy)
                return
            await self._live.iterate(self._sender.record_bytes)

    async def synced(self) -> None:
        """The dirty log has been synchronised."""
        self._synced_at_s = trio.current_time()
        self._measures.update()
        await self._tell(PassBegun(self._statistics.dirty_syncs))

    def end_throttling(self) -> None:
        """Let the guest run at full speed again; never fails."""
        if not self._throttle.percent:
            return
        self._statistics.throttle_percent = 0
        try:
            self._guest.throttle(0)
        except Exception:
            LOG.exception("the guest could not be let run at full speed again")

    def _decide(self, pending: Pending, *, exact: bool) -> Decision:
        return decide(pending, self._statistics.threshold_bytes, exact=exact)

    def _must_sync(self) -> bool:
        """Whether a guest that may be throttled has not been looked at for long."""
        return (
            self._settings.has(Capability.AUTO_CONVERGE)
            and self._statistics.dirty_syncs > 1
            and trio.current_time() - self._synced_at_s >= _THROTTLED_SYNC_S
        )

    def _judge(self) -> None:
        """See how fast the guest dirties its memory, and slow it down if that is asked for."""
        period = self._measures.synced(trio.current_time())
        if period is None or not self._settings.has(Capability.AUTO_CONVERGE):
            return
        threshold = self._statistics.threshold_bytes
        if self._throttle.judge(period, threshold, self._settings.parameters):
            self._statistics.throttle_percent = self._throttle.percent
            self._guest.throttle(self._throttle.percent)
