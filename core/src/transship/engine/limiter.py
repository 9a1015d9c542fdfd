"""A total bandwidth, divided fairly among the migrations that share it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def fair_shares(total: float, caps: Sequence[float]) -> list[float]:
    """Divide a total so that the smallest share is as large as can be (max-min fairness).

    Args:
        total: What there is to divide.
        caps: The most that each can use; 0 is no limit.

    Returns:
        Their shares, none above its cap; together the total, or all caps if they are less.
    """
    shares = [0.0] * len(caps)
    left, waiting = total, sorted(range(len(caps)), key=lambda number: caps[number] or total)
    while waiting:
        number = waiting.pop(0)
        even = left / (len(waiting) + 1)
        shares[number] = min(even, caps[number] or even)
        left -= shares[number]
    return shares


class BandwidthLimiter:
    """Shares one cap among any number of migrations while their guests run.

    Args:
        total_bytes_per_s: What they may send together; may be changed at any time, and takes
            effect within a slice.
    """

    def __init__(self, total_bytes_per_s: int) -> None:
        self.total_bytes_per_s = total_bytes_per_s
        self._members: list[Callable[[], int]] = []

    @contextmanager
    def member(self, cap_bytes_per_s: Callable[[], int]) -> Iterator[Callable[[], int]]:
        """Take part.

        Args:
            cap_bytes_per_s: Says the member's own cap; 0 is none.

        Yields:
            A function that says what the member may send at the moment, in bytes per second;
            never 0, which would be no cap.
        """
        self._members.append(cap_bytes_per_s)
        try:
            yield lambda: self._share(cap_bytes_per_s)
        finally:
            self._members.remove(cap_bytes_per_s)

    def _share(self, member: Callable[[], int]) -> int:
        shares = fair_shares(self.total_bytes_per_s, [cap() for cap in self._members])
        return max(1, int(shares[self._members.index(member)]))
