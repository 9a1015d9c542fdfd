"""Rates over periods of at least a second, each from one synchronisation of the dirty log on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PERIOD_S: Final = 1.0
"""The shortest period that says something; as in every version of QEMU."""


@dataclass(frozen=True, slots=True)
class Period:
    """What was counted from one synchronisation to a later one.

    Args:
        elapsed_s: How long that took.
        transferred_bytes: Of the stream.
        dirtied_pages: Pages that became dirty.
        page_size: Bytes of one.
        counters: By how much the counters of each live section grew, by idstr.
    """

    elapsed_s: float = 0.0
    transferred_bytes: int = 0
    dirtied_pages: int = 0
    page_size: int = 0
    counters: Mapping[str, Mapping[str, int]] | None = None

    @property
    def dirtied_bytes(self) -> int:
        """The same in bytes."""
        return self.dirtied_pages * self.page_size

    @property
    def dirtied_pages_per_s(self) -> float:
        """The dirty rate; 0 before the first period."""
        return self.dirtied_pages / self.elapsed_s if self.elapsed_s else 0.0

    def grown(self, idstr: str, counter: str) -> int:
        """By how much a counter of a section grew."""
        return (self.counters or {}).get(idstr, {}).get(counter, 0)


class PeriodMeter:
    """Cuts time into periods at synchronisations. It knows no clock.

    Args:
        now_s: When the first period begins.
    """

    def __init__(self, now_s: float) -> None:
        self._started_s = now_s
        self._transferred_bytes = 0
        self._counters: dict[str, dict[str, int]] = {}

    def synced(
        self, now_s: float, transferred_bytes: int, counters: Mapping[str, Mapping[str, int]]
    ) -> Period | None:
        """The dirty log has been synchronised.

        Args:
            now_s: Now.
            transferred_bytes: So far.
            counters: Of the live sections, so far.

        Returns:
            The period, if it has lasted long enough to be one; then the next begins.
        """
        elapsed_s = now_s - self._started_s
        if elapsed_s <= PERIOD_S:
            return None
        grown = {
            idstr: {
                name: value - self._counters.get(idstr, {}).get(name, 0)
                for name, value in section.items()
            }
            for idstr, section in counters.items()
        }
        period = Period(
            elapsed_s=elapsed_s,
            transferred_bytes=transferred_bytes - self._transferred_bytes,
            dirtied_pages=sum(section.get("dirtied_pages", 0) for section in grown.values()),
            page_size=max(
                (section.get("page_size", 0) for section in counters.values()), default=0
            ),
            counters=grown,
        )
        self._started_s = now_s
        self._transferred_bytes = transferred_bytes
        self._counters = {idstr: dict(section) for idstr, section in counters.items()}
        return period
