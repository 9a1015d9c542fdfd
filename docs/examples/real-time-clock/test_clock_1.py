"""The clock passes the kit."""

from __future__ import annotations

import pytest
from clock_1 import Clock, clock_device

from transship.testing import FakeGuest, MakeGuest, StateOf
from transship.testing.pytest_plugin import SectionConformance, SectionPlugin
from transship_devstate import plugin as devstate


class Machine(FakeGuest):
    """A guest with a clock, on a host whose time stands still."""

    def __init__(self, host_s: float) -> None:
        self.clock = Clock(now=lambda: host_s)
        super().__init__({}, devices=[clock_device(self.clock)])


def source() -> Machine:
    machine = Machine(host_s=1_000_000.0)
    machine.clock.set_time(0x65000000)
    machine.clock.control = 0x81
    return machine


def destination() -> Machine:
    return Machine(host_s=5_000_000.0)


def readable(machine: Machine) -> tuple[float, int]:
    """What the guest can read of its clock."""
    return machine.clock.time_s, machine.clock.control


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
