"""Bandwidth: the cap, spent in slices of 100 ms, and the estimate, measured over the same slices.

It knows no clock: the caller says what time it is.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

SLICE_S: Final = 0.1
"""Length of a slice; as in every version of QEMU, so that caps feel the same."""

_RECENT_SLICES: Final = 5
"""Half a second: longer than most hiccups of a shared machine, short against a change of load."""

_CLOCK_ERROR_S: Final = 1e-6
"""Sums of floats: the end of a slice may come out a little early."""

UNLIMITED_BUDGET_BYTES: Final = 64 * 1024 * 1024
"""What a section is asked for in one go when there is no cap: about a slice of a fast channel."""


class Pacer:
    """Spends a bandwidth cap and measures what was achieved.

    Args:
        cap_bytes_per_s: 0 is unlimited. May be changed at any time.
        now_s: The time at which the first slice starts.

    Attributes:
        bandwidth_bytes_per_s: Achieved in the last whole slice; 0 until one has passed.
        cautious_bandwidth_bytes_per_s: The lowest of the last five slices in which anything was
            sent, none of them under another cap: what may be relied on for what cannot be
            interrupted.
        slices: How many whole slices have been measured. Slices in which what was overspent is
            paid back count as one with that in which it was spent.
        slice_bytes: What left in the last whole slice.
        slice_s: How long that slice was.
        sent_bytes: All that has left since the beginning.
    """

    def __init__(self, cap_bytes_per_s: int, now_s: float) -> None:
        self.cap_bytes_per_s = cap_bytes_per_s
        self.bandwidth_bytes_per_s = 0.0
        self.cautious_bandwidth_bytes_per_s = 0.0
        self.slices = 0
        self.slice_bytes = 0
        self.slice_s = 0.0
        self.sent_bytes = 0
        self._recent: deque[float] = deque(maxlen=_RECENT_SLICES)
        self._slice_cap_bytes_per_s = cap_bytes_per_s
        self._slice_started_s = now_s
        self._measured_since_s = now_s
        self._measured_bytes = 0
        self._spent_bytes = 0.0

    def sent(self, count: int) -> None:
        """``count`` bytes have left."""
        self.sent_bytes += count
        self._measured_bytes += count
        self._spent_bytes += count

    def tick(self, now_s: float) -> bool:
        """Close the slice if its time is over. Returns whether it was.

        What was overspent is owed by the next slice, so that large segments keep to a small cap.
        What was sent under another cap, or under none, is not owed.
        """
        elapsed_s = now_s - self._slice_started_s
        if elapsed_s < SLICE_S - _CLOCK_ERROR_S:
            return False
        cap = self.cap_bytes_per_s
        is_owed = cap and cap == self._slice_cap_bytes_per_s
        self._spent_bytes = max(0.0, self._spent_bytes - cap * elapsed_s) if is_owed else 0.0
        self._slice_started_s = now_s
        if self.budget_bytes():
            self._measure(now_s)
        if cap != self._slice_cap_bytes_per_s:
            self._slice_cap_bytes_per_s = cap
            self._recent.clear()
        return True

    def _measure(self, now_s: float) -> None:
        self.slices += 1
        self.slice_bytes, self._measured_bytes = self._measured_bytes, 0
        self.slice_s, self._measured_since_s = now_s - self._measured_since_s, now_s
        self.bandwidth_bytes_per_s = self.slice_bytes / self.slice_s
        if self.slice_bytes:
            self._recent.append(self.bandwidth_bytes_per_s)
        self.cautious_bandwidth_bytes_per_s = min(self._recent, default=0.0)

    def budget_bytes(self) -> int:
        """How much may still be sent in this slice."""
        if not self.cap_bytes_per_s:
            return UNLIMITED_BUDGET_BYTES
        return max(0, math.ceil(self.cap_bytes_per_s * SLICE_S - self._spent_bytes))

    def record_bytes(self) -> int:
        """How much the next record may hold: no more than a slice's worth of a slow channel.

        So that what an operator changes is heard of as soon there as on a fast one.
        """
        carried = math.ceil(self.bandwidth_bytes_per_s * SLICE_S)
        return min(self.budget_bytes(), carried) if carried else self.budget_bytes()

    def pause_s(self, now_s: float) -> float:
        """How long to sleep before sending more: to the end of a slice that is spent."""
        if self.budget_bytes() > 0:
            return 0.0
        return max(0.0, self._slice_started_s + SLICE_S - now_s)
