"""The section passes the kit, with records in the stream and with XBZRLE."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from ram_helpers import PAGE, xbzrle_settings

from transship.testing import FakeGuest, GuestWrite
from transship.testing.pytest_plugin import LiveSectionConformance
from transship_ram import plugin

if TYPE_CHECKING:
    from transship.abc import Settings
    from transship.testing import MakeGuest
    from transship.testing.pytest_plugin import SectionPlugin

BLOCKS = {"pc.ram": 40 * PAGE, "vga.vram": 4 * PAGE}


def busy_guest() -> FakeGuest:
    """A guest with every kind of page, which writes to a few between two records."""
    chance = random.Random(5)
    writes = [
        [GuestWrite("pc.ram", chance.randrange(39) * PAGE + 100, b"x") for _ in range(5)]
        for _ in range(8)
    ]
    guest = FakeGuest(BLOCKS, script=writes)
    for number in range(0, 40, 3):
        guest.write("pc.ram", number * PAGE, chance.randbytes(PAGE))
    guest.write("vga.vram", PAGE, b"\1" * PAGE)
    return guest


def other_guest() -> FakeGuest:
    """Where it goes to: not empty, so that zero pages have something to undo."""
    guest = FakeGuest(BLOCKS)
    guest.write("pc.ram", 0, b"\2" * (20 * PAGE))
    return guest


class TestRam(LiveSectionConformance):
    @pytest.fixture
    def plugin(self) -> SectionPlugin:
        return plugin

    @pytest.fixture
    def make_guest(self) -> MakeGuest:
        return busy_guest

    @pytest.fixture
    def make_destination(self) -> MakeGuest:
        return other_guest


class TestRamWithXbzrle(TestRam):
    @pytest.fixture
    def settings(self) -> Settings:
        return xbzrle_settings(64 * PAGE)
