"""The source's figures: what is measured becomes statistics, slice by slice and sync by sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.abc.section import LiveCounters
from transship.engine.live import live_sections
from transship.engine.policy import threshold_bytes
from transship.engine.rates import Period, PeriodMeter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc.guest import Guest
    from transship.abc.section import Section
    from transship.abc.settings import Settings
    from transship.engine.pacing import Pacer
    from transship.engine.stats import Statistics

_TELLING_BYTES: Final = 10_000
"""A slice that moved less says nothing about the downtime to expect; as in QEMU."""


class Measures:
    """Keeps the statistics of one source.

    Args:
        statistics: Kept up to date.
        pacer: Counts what is sent, and measures slices.
        guest: Asked whether it runs: what is sent while it stands still counts by itself; and what
            its dirty log is called.
        sections: The live ones of them are asked what they have counted.
        settings: Parameters are read again whenever they matter.
        now_s: Now.

    Attributes:
        statistics: The same.
    """

    def __init__(
        self,
        statistics: Statistics,
        pacer: Pacer,
        guest: Guest,
        sections: Iterable[Section],
        settings: Settings,
        now_s: float,
    ) -> None:
        self.statistics = statistics
        self._pacer = pacer
        self._guest = guest
        self._live = live_sections(sections)
        self._settings = settings
        self._meter = PeriodMeter(now_s)
        self._counters = LiveCounters()
        self._slices = 0
        self._handled_pages = 0
        self._synced_bytes = 0
        self._bandwidth = 0.0

    def update(self) -> None:
        """Take in what has been sent and counted so far, and the slice if one has ended."""
        statistics, parameters = self.statistics, self._settings.parameters
        before, now = self._counters, _together(section.live_counters() for section in self._live)
        self._counters = now
        statistics.transferred_bytes = self._pacer.sent_bytes
        statistics.sections = {section.idstr: section.statistics() for section in self._live}
        if now.dirty_syncs > before.dirty_syncs:
            statistics.dirty_syncs = now.dirty_syncs
            statistics.dirty_log = _dirty_log_in_use(self._guest)
        if not self._guest.is_running:
            statistics.downtime_bytes += now.sent_bytes - before.sent_bytes
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
        statistics, handled_pages = self.statistics, self._counters.handled_pages
        statistics.bandwidth_bytes_per_s = self._pacer.bandwidth_bytes_per_s
        statistics.pages_per_s = (handled_pages - self._handled_pages) / self._pacer.slice_s
        self._handled_pages = handled_pages
        if statistics.period.dirtied_pages and self._pacer.slice_bytes > _TELLING_BYTES:
            self.expect(self._synced_bytes)

    def expect(self, left_bytes: int) -> None:
        """Expect a downtime in which so much has to be sent."""
        if self._bandwidth:
            self.statistics.expected_downtime_s = left_bytes / self._bandwidth

    def synced(self, now_s: float) -> Period | None:
        """The dirty log has been synchronised, and :meth:`update` been called since.

        Returns:
            The period that has ended, if one has.
        """
        self._synced_bytes = self._counters.remaining_bytes
        period = self._meter.synced(now_s, self._counters, self.statistics.sections)
        if period is not None:
            self.statistics.period = period
        return period


def _dirty_log_in_use(guest: Guest) -> str | None:
    """The name of the log of memory that is sent; what another process has needs none."""
    is_sent = any(not block.is_lent for block in guest.ram_blocks())
    return guest.dirty_log().name if is_sent else None


def _together(counters: Iterable[LiveCounters]) -> LiveCounters:
    """Those of all sections: sums, but of pages the largest, and of synchronisations the most."""
    every = list(counters)
    return LiveCounters(
        sent_bytes=sum(one.sent_bytes for one in every),
        handled_pages=sum(one.handled_pages for one in every),
        dirtied_pages=sum(one.dirtied_pages for one in every),
        remaining_bytes=sum(one.remaining_bytes for one in every),
        page_size=max((one.page_size for one in every), default=0),
        dirty_syncs=max((one.dirty_syncs for one in every), default=0),
    )
