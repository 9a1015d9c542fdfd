"""A real-time clock, and what travels of it: version 1."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from transship.abc import Device
from transship.wire.fields import VMState, uint8, uint32

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Tells the guest the time, which the guest may set.

    Args:
        now: The host's time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.ahead_s = 0.0
        self.control = 0
        self.seconds = 0

    @property
    def time_s(self) -> float:
        """What the guest reads."""
        return self.now() + self.ahead_s

    def set_time(self, seconds: float) -> None:
        """What the guest writes."""
        self.ahead_s = seconds - self.now()


def take_time(clock: Clock) -> None:
    """How far the clock is ahead of its host means nothing on another host: the time does."""
    clock.seconds = int(clock.time_s)


def go_on(clock: Clock, version: int) -> None:
    clock.set_time(clock.seconds)


CLOCK = VMState(
    "clock",
    version_id=1,
    minimum_version_id=1,
    fields=[uint32("seconds"), uint8("control")],
    pre_save=take_time,
    post_load=go_on,
)


def clock_device(clock: Clock) -> Device:
    """What ``Guest.devices`` returns for it."""
    return Device("clock", CLOCK, clock)
