"""The clock passes the kit, and streams of its first version still load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clock_1
import pytest
from clock_2 import Clock, clock_device

from transship.testing import FakeGuest, GoldenSection, MakeGuest, SavedRecord, StateOf
from transship.testing.pytest_plugin import SectionConformance, SectionPlugin
from transship.wire.constants import RecordType
from transship_devstate import plugin as devstate

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION_1 = bytes.fromhex("65000000 81")
"""Saved by version 1, at 0x65000000 seconds; kept for ever."""


class Machine(FakeGuest):
    """A guest with a clock, on a host whose time stands still."""

    def __init__(self, host_s: float) -> None:
        self.clock = Clock(now=lambda: host_s)
        super().__init__({}, devices=[clock_device(self.clock)])


def source() -> Machine:
    machine = Machine(host_s=1_000_000.0)
    machine.clock.set_time(0x65000000 + 0.25)
    machine.clock.control = 0x81
    machine.clock.alarm_s = 0x65000100
    return machine


def destination() -> Machine:
    machine = Machine(host_s=5_000_000.0)
    machine.clock.thousandths = 7
    machine.clock.alarm_s = 9
    return machine


def readable(machine: Machine) -> tuple[float, int, int]:
    """What the guest can read of its clock."""
    clock = machine.clock
    return round(clock.time_s, 3), clock.control, clock.alarm_s


class TestClock(SectionConformance):
    @pytest.fixture
    def plugin(self) -> SectionPlugin:
        return devstate

    @pytest.fixture
    def make_guest(self) -> MakeGuest:
        return source

    @pytest.fixture
    def make_destination(self) -> MakeGuest:
        return destination

    @pytest.fixture
    def state_of(self) -> StateOf:
        return readable  # type: ignore[return-value]

    @pytest.fixture
    def golden(self) -> Sequence[GoldenSection]:
        record = SavedRecord(RecordType.SECTION_FULL, VERSION_1)
        return [GoldenSection(1, [record], (float(0x65000000), 0x81, 0))]


def test_version_1_saved_what_was_kept() -> None:
    clock = clock_1.Clock(now=lambda: 0.0)
    clock.set_time(0x65000000)
    clock.control = 0x81
    (section,) = devstate.create_sections(FakeGuest({}, devices=[clock_1.clock_device(clock)]))
    assert b"".join(section.complete()) == VERSION_1  # type: ignore[attr-defined]
