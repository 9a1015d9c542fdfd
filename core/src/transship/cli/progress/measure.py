"""Measurements of a migration out of looks at it. Knows neither QMP nor clocks: each look is dated.

What a peer reports is a saw-tooth: what remains falls to nothing in every pass, and the next
look at the dirty log brings it back. What is derived here is meant to be shown: it stands still
where nothing has changed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_SPAN_S: Final = 4.0
"""Rates are measured over so long; a peer sends in slices of 100 ms, and measures in seconds."""

_SHORTEST_SPAN_S: Final = 0.4
_ENVELOPE_S: Final = 1.0
"""Passes shorter than this are seen as one, or what is left would flicker."""

_TREND_ROUNDS: Final = 4
"""So many tell whether passes become smaller; of more, the first may be of another time."""

_SHORTEST_TREND: Final = 3


@dataclass(frozen=True, slots=True)
class Look:
    """What a peer says at one moment.

    Args:
        at_s: When, by any clock.
        status: Its word for where the migration is.
        transferred_bytes: All that was sent.
        remaining_bytes: What is known to be left of this pass.
        total_bytes: Size of the guest's memory, and of its disks if they are copied.
        disk_remaining_bytes: What is known to be left of disks.
        disk_total_bytes: Size of the disks that are copied.
        page_size: Bytes of one of its pages.
        passes: How often the dirty log was read; 1 in the first pass.
        send_rate_bytes_per_s: By the peer's own measurement; 0 if it has none.
        dirty_rate_bytes_per_s: The same of what the guest writes; a QEMU says 0 also as long as it
            has not measured for a second.
        throttle_percent: How much of its time the guest is kept from running.
    """

    at_s: float
    status: str
    transferred_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    disk_remaining_bytes: int = 0
    disk_total_bytes: int = 0
    page_size: int = 0
    passes: int = 0
    send_rate_bytes_per_s: float = 0.0
    dirty_rate_bytes_per_s: float = 0.0
    throttle_percent: int = 0


@dataclass(frozen=True, slots=True)
class Measurements:
    """What is known of a migration at one moment.

    Args:
        at_s: When, by the clock of the looks.
        status: The peer's word for where it is.
        passes: 1 in the first pass; 0 if it has not begun, or nobody says.
        transferred_bytes: All that was sent.
        remaining_bytes: What is known to be left of this pass.
        total_bytes: Size of the guest's memory, and of its disks if they are copied.
        disk_remaining_bytes: What is known to be left of disks.
        disk_total_bytes: Size of the disks that are copied.
        page_size: Bytes of one of its pages.
        left_bytes: What this pass had to send when it began, as far as was seen.
        send_rate_bytes_per_s: None while it is unknown.
        pass_rate_bytes_per_s: How fast the first pass gets on: faster than is sent, where memory
            holds nothing; None while it is unknown, and after the first pass.
        dirty_rate_bytes_per_s: None while it is unknown: in the first pass it always is. It is what
            the peer says, or more, if the passes do not become smaller as they should.
        is_trend_known: Whether the dirty rate agrees with what several passes had to send. One
            alone tells the least rate: a page that is written often counts once.
        idle_s: How long nothing has been sent.
        throttle_percent: How much of its time the guest is kept from running.
    """

    at_s: float
    status: str
    passes: int = 0
    transferred_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    disk_remaining_bytes: int = 0
    disk_total_bytes: int = 0
    page_size: int = 0
    left_bytes: int = 0
    send_rate_bytes_per_s: float | None = None
    pass_rate_bytes_per_s: float | None = None
    dirty_rate_bytes_per_s: float | None = None
    is_trend_known: bool = False
    idle_s: float = 0.0
    throttle_percent: int = 0

    @property
    def first_pass(self) -> float:
        """How much of the first pass is done, from 0 to 1."""
        if self.passes > 1:
            return 1.0
        if not self.total_bytes:
            return 0.0
        return min(max(1 - self.remaining_bytes / self.total_bytes, 0.0), 1.0)


class Meter:
    """Turns looks into measurements."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque()
        self._lefts: dict[int, int] = {}
        self._moved_s = 0.0

    def measure(self, look: Look) -> Measurements:
        """Add a look, younger than all before; returns what is known now."""
        if not self._looks or _figures(look) != _figures(self._looks[-1]):
            self._moved_s = look.at_s
        self._looks.append(look)
        while self._looks[0].at_s < look.at_s - _SPAN_S:
            self._looks.popleft()
        left = self._left(look)
        send_rate = self._send_rate(look)
        trend = self._trend()
        return Measurements(
            at_s=look.at_s,
            status=look.status,
            passes=look.passes,
            transferred_bytes=look.transferred_bytes,
            remaining_bytes=look.remaining_bytes,
            total_bytes=look.total_bytes,
            disk_remaining_bytes=look.disk_remaining_bytes,
            disk_total_bytes=look.disk_total_bytes,
            page_size=look.page_size,
            left_bytes=left,
            send_rate_bytes_per_s=send_rate,
            pass_rate_bytes_per_s=self._pass_rate(look),
            dirty_rate_bytes_per_s=self._dirty_rate(look, send_rate, trend),
            is_trend_known=trend is not None,
            idle_s=look.at_s - self._moved_s,
            throttle_percent=look.throttle_percent,
        )

    def _left(self, look: Look) -> int:
        number = look.passes
        if number > 1:
            self._lefts[number] = max(self._lefts.get(number, 0), look.remaining_bytes)
            while len(self._lefts) > _TREND_ROUNDS:
                del self._lefts[min(self._lefts)]
        recent = [
            one.remaining_bytes
            for one in self._looks
            if one is look or (one.passes > 1 and one.at_s >= look.at_s - _ENVELOPE_S)
        ]
        return max(*recent, self._lefts.get(number, 0))

    def _send_rate(self, look: Look) -> float | None:
        oldest, span_s = self._alike(look)
        if span_s < _SHORTEST_SPAN_S:
            return look.send_rate_bytes_per_s or None
        return (look.transferred_bytes - oldest.transferred_bytes) / span_s

    def _pass_rate(self, look: Look) -> float | None:
        oldest, span_s = self._alike(look)
        if look.passes != 1 or span_s < _SHORTEST_SPAN_S:
            return None
        return (oldest.remaining_bytes - look.remaining_bytes) / span_s

    def _dirty_rate(self, look: Look, send_rate: float | None, trend: float | None) -> float | None:
        rates = [one.dirty_rate_bytes_per_s for one in self._looks if one.dirty_rate_bytes_per_s]
        if look.passes < 2 or not rates:
            return None
        rate = sum(rates) / len(rates)
        return rate if trend is None or send_rate is None else max(rate, trend * send_rate)

    def _trend(self) -> float | None:
        """How much of a pass the next one is, on average.

        It is also the quotient of the two rates; but where a guest writes to the same memory again
        and again, or has just begun to write more, a peer measures its rate as too low.
        """
        if len(self._lefts) < _SHORTEST_TREND:
            return None
        first, last = min(self._lefts), max(self._lefts)
        if not self._lefts[first]:
            return None
        quotient = self._lefts[last] / self._lefts[first]
        return float(quotient ** (1 / (last - first)))

    def _alike(self, look: Look) -> tuple[Look, float]:
        """The oldest look of the span that is comparable, and how long ago it was."""
        oldest = next(
            one
            for one in self._looks
            if one.status == look.status and (one.passes > 1) == (look.passes > 1)
        )
        return oldest, look.at_s - oldest.at_s


def _figures(look: Look) -> tuple[int, int]:
    """What changes as long as something is sent; a QEMU counts disks in the second alone."""
    return look.transferred_bytes, look.disk_remaining_bytes
