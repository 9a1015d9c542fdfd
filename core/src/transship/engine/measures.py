"""The source's figures: what is measured becomes statistics, slice by slice and sync by sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.engine.policy import threshold_bytes
from transship.engine.rates import Period, PeriodMeter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.abc.guest import Guest
    from transship.abc.settings import Parameters
    from transship.engine.pacing import Pacer
    from transship.engine.stats import Statistics

_TELLING_BYTES: Final = 10_000
"""A slice that moved less says nothing about the downtime to expect; as in QEMU."""


class Measures:
    """Keeps the statistics of one source.

    Args:
        statistics: Kept up to date.
        pacer: Counts what is sent, and measures slices.
        guest: Asked whether it runs: what is sent while it stands still counts by itself.
        now_s: Now.
    """

    def __init__(self, statistics: Statistics, pacer: Pacer, guest: Guest, now_s: float) -> None:
        self._statistics = statistics
        self._pacer = pacer
        self._guest = guest
        self._meter = PeriodMeter(now_s)
        self._counted_bytes = 0
        self._slices = 0
        self._handled_pages = 0
        self._synced_bytes = 0
        self._bandwidth = 0.0

    def update(self, sections: Mapping[str, Mapping[str, int]], parameters: Parameters) -> None:
        """Take in what the live sections have counted, and the slice if one has ended."""
        statistics = self._statistics
        statistics.transferred_bytes = self._pacer.sent_bytes
        statistics.sections = {idstr: dict(counters) for idstr, counters in sections.items()}
        statistics.rounds = max(
            (counters.get("dirty_sync_count", 0) for counters in sections.values()), default=0
        )
        memory_bytes = self._memory_bytes()
        if not self._guest.is_running:
            statistics.downtime_bytes += memory_bytes - self._counted_bytes
        self._counted_bytes = memory_bytes
        self._bandwidth = (
            parameters.switchover_bandwidth_bytes_per_s
            or self._pacer.cautious_bandwidth_bytes_per_s
        )
        statistics.threshold_bytes = threshold_bytes(self._bandwidth, parameters.downtime_limit_s)
        if statistics.expected_downtime_s is None:
            statistics.expected_downtime_s = parameters.downtime_limit_s
        if self._pacer.slices != self._slices:
            self._slices = self._pacer.slices
            self._slice_ended()

    def _slice_ended(self) -> None:
        statistics = self._statistics
        statistics.bandwidth_bytes_per_s = self._pacer.bandwidth_bytes_per_s
        handled = sum(map(_handled_pages, statistics.sections.values()))
        statistics.pages_per_s = (handled - self._handled_pages) / self._pacer.slice_s
        self._handled_pages = handled
        if statistics.period.dirtied_pages and self._pacer.slice_bytes > _TELLING_BYTES:
            self.expect(self._synced_bytes)

    def expect(self, left_bytes: int) -> None:
        """Expect a downtime in which so much has to be sent."""
        if self._bandwidth:
            self._statistics.expected_downtime_s = left_bytes / self._bandwidth

    def synced(self, now_s: float) -> Period | None:
        """The dirty log has been synchronised, and :meth:`update` been called since.

        Returns:
            The period that has ended, if one has.
        """
        statistics = self._statistics
        self._synced_bytes = sum(
            counters.get("remaining", 0) for counters in statistics.sections.values()
        )
        period = self._meter.synced(now_s, statistics.transferred_bytes, statistics.sections)
        if period is not None:
            statistics.period = period
        return period

    def _memory_bytes(self) -> int:
        return sum(
            counters.get("transferred", 0) for counters in self._statistics.sections.values()
        )


def _handled_pages(counters: Mapping[str, int]) -> int:
    """Pages dealt with so far, whatever became of them; one that overflowed was sent in full."""
    sent = counters.get("normal", 0) + counters.get("duplicate", 0)
    return sent + counters.get("xbzrle_pages", 0) - counters.get("xbzrle_overflow", 0)
