"""Both sections pass the kit."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from block_helpers import DiskGuest, block_settings

from transship.abc import Capability, DiskBitmap, Settings
from transship.testing.pytest_plugin import LiveSectionConformance, SectionConformance
from transship.wire.limits import KIB, MIB
from transship_block import bitmap_plugin, plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc import Guest
    from transship.testing import MakeGuest, StateOf
    from transship.testing.pytest_plugin import SectionPlugin

SIZES = {"disk0": 300 * KIB, "disk1": 70 * KIB}


class BusyGuest(DiskGuest):
    """Writes to its disks between two records."""

    def __init__(self) -> None:
        self._chance = random.Random(7)
        super().__init__({name: self._chance.randbytes(size) for name, size in SIZES.items()})
        for disk in self.disks():
            disk.add_bitmap(DiskBitmap("since monday", disk.size_bytes, 4 * KIB))
            disk.add_bitmap(DiskBitmap("all", disk.size_bytes, 64 * KIB, is_persistent=True))
            disk.write_zeroes(0, 64 * KIB)

    def play(self) -> bool:
        disk = self._chance.choice(list(self.disks()))
        disk.write(self._chance.randrange(disk.size_bytes - 512), self._chance.randbytes(512))
        return True


def destination() -> DiskGuest:
    return DiskGuest({name: b"\2" * size for name, size in SIZES.items()}, is_active=False)


def contents_of(guest: Guest) -> object:
    assert isinstance(guest, DiskGuest)
    return guest.contents()


def bitmaps_of(guest: Guest) -> object:
    return {
        (disk.name, bitmap.name): (bitmap.granularity_bytes, bytes(bitmap.bits.marks))
        for disk in guest.disks()
        for bitmap in disk.bitmaps.values()
    }


def play(guest: Guest) -> None:
    assert isinstance(guest, BusyGuest)
    guest.play()


class OfDisks:
    """Fixtures that both sections share."""

    @pytest.fixture
    def step(self) -> Callable[[Guest], object]:
        return play

    @pytest.fixture
    def make_guest(self) -> MakeGuest:
        return BusyGuest

    @pytest.fixture
    def make_destination(self) -> MakeGuest:
        return destination


class TestBlock(OfDisks, LiveSectionConformance):
    @pytest.fixture
    def plugin(self) -> SectionPlugin:
        return plugin

    @pytest.fixture
    def state_of(self) -> StateOf:
        return contents_of

    @pytest.fixture
    def most_beyond_budget_bytes(self) -> int:
        return MIB + 64 * KIB

    @pytest.fixture
    def settings(self) -> Settings:
        return block_settings()


class TestBlockWithZeroBlocks(TestBlock):
    """The loader is the same, so that what takes long is tried above only."""

    test_section_refuses_damage = None  # type: ignore[assignment]
    test_section_bounds_its_memory = None  # type: ignore[assignment]

    @pytest.fixture
    def settings(self) -> Settings:
        return block_settings(Capability.ZERO_BLOCKS)


class TestDirtyBitmap(OfDisks, SectionConformance):
    """Not the checks of live sections: nothing of it is sent while the guest runs."""

    @pytest.fixture
    def plugin(self) -> SectionPlugin:
        return bitmap_plugin

    @pytest.fixture
    def state_of(self) -> StateOf:
        return bitmaps_of

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(frozenset({Capability.DIRTY_BITMAPS}))
