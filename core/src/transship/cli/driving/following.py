"""Follows a migration from look to look until it has ended. Changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from transship.cli.driving.peer import BEFORE_SWITCHOVER, Disk, MigrationInfo
from transship.cli.progress.forecast import Bounds, forecast
from transship.cli.progress.measure import Look, Meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.cli.driving.peer import Peer, StatusInfo
    from transship.cli.progress.forecast import Forecast, Levers
    from transship.cli.progress.views import View
    from transship.control.client import QmpEvents

_SETTLING_S: Final = 5.0
"""How long a guest may take to run again after the migration has ended."""

_SETTLING_POLL_S: Final = 0.02

_HANDING_OVER: Final = "the guest stands still while its disks are handed over"

_BETWEEN: Final = frozenset({"finish-migrate"})
"""Run states in which a guest is neither left standing nor let go."""


class Follower:
    """Shows a migration until it has ended, or waits for somebody who mends its channel.

    Args:
        peer: Who has it.
        view: Where it is shown.
        poll_s: Pause between two looks. Where the peer emits events, one ends the pause.
        levers: What whoever looks on can move, should it not converge.
        accompany: Called after each look as long as the migration is under way. Whoever gives it
            sees to it that a migration which waits before the switchover goes on.

    Attributes:
        info: The last look.
        phase: The last status in which the migration was under way.
        expected: The last forecast.
    """

    def __init__(
        self,
        peer: Peer,
        view: View,
        poll_s: float,
        levers: Levers,
        accompany: Callable[[MigrationInfo], Awaitable[None]] | None = None,
    ) -> None:
        self.info = MigrationInfo()
        self.phase = ""
        self.expected: Forecast | None = None
        self._peer = peer
        self._view = view
        self._poll_s = poll_s
        self._levers = levers
        self._accompany = accompany
        self._meter = Meter()

    async def follow(self) -> MigrationInfo:
        """Go on until then; returns the last look.

        Raises:
            QmpError: The connection is lost.
            RemoteError: The peer answers unlike a QEMU.
        """
        with self._peer.client.subscribe() as events:
            while True:
                info = await self._look()
                if not info.is_under_way or info.status == "postcopy-paused":
                    return info
                if self._accompany is not None:
                    await self._accompany(info)
                await _pause(events, self._poll_s)

    async def _look(self) -> MigrationInfo:
        limits = await self._peer.limits()
        info = self.info = await self._peer.migration()
        now = self._meter.measure(look(info, trio.current_time()))
        bounds = Bounds(
            limits.cap_bytes_per_s, limits.downtime_limit_s, limits.avail_switchover_bandwidth
        )
        self.expected = forecast(now, bounds, self._levers)
        if info.status == BEFORE_SWITCHOVER and self._accompany is not None:
            self.expected = replace(self.expected, text=_HANDING_OVER)
        if info.is_under_way or self.phase:
            self._view.show(now, self.expected)
        if info.is_under_way:
            if info.status == BEFORE_SWITCHOVER and info.status != self.phase:
                self._view.note(self.expected.text)
            self.phase = info.status
        return info


def look(info: MigrationInfo, at_s: float) -> Look:
    """What ``query-migrate`` says, in our units."""
    if info.ram is None:
        return Look(at_s, info.status)
    ram, disk = info.ram, info.disk or Disk()
    return Look(
        at_s=at_s,
        status=info.status,
        transferred_bytes=ram.transferred,
        remaining_bytes=ram.remaining + disk.remaining,
        total_bytes=ram.total + disk.total,
        disk_remaining_bytes=disk.remaining,
        disk_total_bytes=disk.total,
        page_size=ram.page_size,
        passes=ram.dirty_sync_count,
        send_rate_bytes_per_s=ram.mbps * 1e6 / 8,
        dirty_rate_bytes_per_s=ram.dirty_pages_rate * ram.page_size,
        throttle_percent=info.cpu_throttle_percentage or 0,
    )


async def settle(peer: Peer) -> StatusInfo:
    """Wait until the guest does what it will go on doing, after a migration has ended.

    Returns:
        What it does; if it does not come to rest in time, what it does then.
    """
    with trio.move_on_after(_SETTLING_S):
        while True:
            state = await peer.status()
            if state.status not in _BETWEEN:
                return state
            await trio.sleep(_SETTLING_POLL_S)
    return await peer.status()


async def _pause(events: QmpEvents, duration_s: float) -> None:
    with trio.move_on_after(duration_s):
        async for event in events:
            if event.name == "MIGRATION":
                return
