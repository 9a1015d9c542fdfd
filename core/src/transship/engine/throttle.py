"""Auto-converge: when a guest is slowed down, and by how much. Plain decisions, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transship.abc.settings import Parameters
    from transship.engine.rates import Period

_TIMES_TOO_FAST: Final = 2
"""Periods in which a guest must be too fast before it is slowed down; as in QEMU."""


class Throttle:
    """Watches the dirty rate, and decides on the share of time that is withheld from the guest.

    Attributes:
        percent: That share; 0 until the guest is throttled.
    """

    def __init__(self) -> None:
        self.percent = 0
        self._times_too_fast = 0

    def judge(self, period: Period, threshold_bytes: int, parameters: Parameters) -> bool:
        """Take a period into account.

        Args:
            period: The latest.
            threshold_bytes: What may be left at switchover.
            parameters: The throttle's.

        Returns:
            Whether :attr:`percent` has changed.
        """
        allowed = period.transferred_bytes * parameters.throttle_trigger_percent / 100
        if period.dirtied_bytes <= allowed:
            return False
        self._times_too_fast += 1
        if self._times_too_fast < _TIMES_TOO_FAST:
            return False
        self._times_too_fast = 0
        before = self.percent
        self.percent = self._next(period, threshold_bytes, parameters)
        return self.percent != before

    def _next(self, period: Period, threshold_bytes: int, parameters: Parameters) -> int:
        if not self.percent:
            return min(parameters.throttle_initial_percent, parameters.throttle_max_percent)
        increment = parameters.throttle_increment_percent
        if parameters.throttle_tailslow:
            running = 100 - self.percent
            ideal = int(running * threshold_bytes / period.dirtied_bytes)
            increment = min(max(running - ideal, 0), increment)
        return min(self.percent + increment, parameters.throttle_max_percent)
