"""Decisions of the control loop: plain functions from measurements to a decision."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transship.abc.section import Pending


class Decision(Enum):
    """What the loop does next."""

    SYNC = auto()
    """The estimate says that little is left: ask for the exact figure."""
    ITERATE = auto()
    """Send another pass, or a part of it, while the guest runs."""
    SWITCH_OVER = auto()
    """What is left fits the downtime limit: stop the guest and send it."""


def threshold_bytes(bandwidth_bytes_per_s: float, downtime_limit_s: float) -> int:
    """How much may be left at switchover: what the channel carries within the downtime limit."""
    return int(bandwidth_bytes_per_s * downtime_limit_s)


def decide(pending: Pending, threshold: int, *, exact: bool) -> Decision:
    """Decide from what is left to be sent.

    Args:
        pending: What all sections together still have to send before the switchover.
        threshold: See :func:`threshold_bytes`; 0 until the bandwidth has been measured, so that
            a migration switches over then only if nothing is left.
        exact: Whether the figure was taken after a synchronisation of the dirty log.
    """
    if pending.must_go_on or pending.must_precopy >= max(threshold, 1):
        return Decision.ITERATE
    return Decision.SWITCH_OVER if exact else Decision.SYNC
