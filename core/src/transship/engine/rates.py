"""Rates over periods of at least a second, each from one synchronisation of the dirty log on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from transship.abc.section import LiveCounters

if TYPE_CHECKING:
    from collections.abc import Mapping

PERIOD_S: Final = 1.0
"""The shortest period that says something; as in every version of QEMU."""


@dataclass(frozen=True, slots=True)
class Period:
    """What was counted from one synchronisation to a later one.

    Args:
        elapsed_s: How long that took.
        transferred_bytes: What the live sections sent.
        dirtied_pages: Pages that became dirty.
        page_size: Bytes of one.
        reported: By how much the reports of each live section grew, by idstr and counter.
    """

    elapsed_s: float = 0.0
    transferred_bytes: int = 0
    dirtied_pages: int = 0
    page_size: int = 0
    reported: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def dirtied_bytes(self) -> int:
        """The same in bytes."""
        return self.dirtied_pages * self.page_size

    @property
    def dirtied_pages_per_s(self) -> float:
        """The dirty rate; 0 before the first period."""
        return self.dirtied_pages / self.elapsed_s if self.elapsed_s else 0.0

    def grown(self, idstr: str, counter: str) -> int:
        """By how much a counter of a section's report grew; 0 for one that it lacks.

        For reports alone: nothing may be decided by it.
        """
        return self.reported.get(idstr, {}).get(counter, 0)


class PeriodMeter:
    """Cuts time into periods at synchronisations. It knows no clock.

    Args:
        now_s: When the first period begins.
    """

    def __init__(self, now_s: float) -> None:
        self._started_s = now_s
        self._counters = LiveCounters()
        self._reports: dict[str, dict[str, int]] = {}

    def synced(
        self, now_s: float, counters: LiveCounters, reports: Mapping[str, Mapping[str, int]]
    ) -> Period | None:
        """The dirty log has been synchronised.

        Args:
            now_s: Now.
            counters: Of all live sections together, so far.
            reports: Of each of them by its idstr, so far.

        Returns:
            The period, if it has lasted long enough to be one; then the next begins.
        """
        elapsed_s = now_s - self._started_s
        if elapsed_s <= PERIOD_S:
            return None
        period = Period(
            elapsed_s=elapsed_s,
            transferred_bytes=counters.sent_bytes - self._counters.sent_bytes,
            dirtied_pages=counters.dirtied_pages - self._counters.dirtied_pages,
            page_size=counters.page_size,
            reported={
                idstr: {
                    name: value - self._reports.get(idstr, {}).get(name, 0)
                    for name, value in report.items()
                }
                for idstr, report in reports.items()
            },
        )
        self._started_s = now_s
        self._counters = counters
        self._reports = {idstr: dict(report) for idstr, report in reports.items()}
        return period
