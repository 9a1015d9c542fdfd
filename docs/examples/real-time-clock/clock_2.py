"""The same clock, a year later: version 2 is finer, and has an alarm."""

from __future__ import annotations

import clock_1

from transship.abc import Device
from transship.wire.fields import VMState, uint8, uint16, uint32


class Clock(clock_1.Clock):
    """Counts thousandths as well, and can ring."""

    thousandths = 0
    alarm_s = 0


def take_time(clock: Clock) -> None:
    clock.seconds, thousandths = divmod(round(clock.time_s * 1000), 1000)
    clock.thousandths = thousandths


def forget(clock: Clock) -> None:
    """What an older stream does not say is not what happens to be here."""
    clock.thousandths = 0
    clock.alarm_s = 0


def go_on(clock: Clock, version: int) -> None:
    if clock.thousandths > 999:
        raise ValueError(f"a second has no {clock.thousandths} thousandths")
    clock.set_time(clock.seconds + clock.thousandths / 1000)


ALARM = VMState("clock/alarm", fields=[uint32("alarm_s")], needed=lambda clock: clock.alarm_s > 0)

CLOCK = VMState(
    "clock",
    version_id=2,
    minimum_version_id=1,
    fields=[uint32("seconds"), uint8("control"), uint16("thousandths", since=2)],
    subsections=[ALARM],
    pre_save=take_time,
    pre_load=forget,
    post_load=go_on,
)


def clock_device(clock: Clock) -> Device:
    """What ``Guest.devices`` returns for it."""
    return Device("clock", CLOCK, clock)
