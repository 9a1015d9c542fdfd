"""Sections to inspect with: those that can read RAM, and none."""

import pytest

from transship.inspection.stream import MakeSections
from transship.plugin.registry import SectionRegistry


@pytest.fixture
def ram_sections() -> MakeSections:
    """Makes the sections of the ram plugin, if it is there."""
    plugin = pytest.importorskip("transship_ram.plugin")
    return lambda guest, settings: SectionRegistry(plugin.create_sections(guest, settings))


@pytest.fixture
def no_sections() -> MakeSections:
    """Makes none."""
    return lambda guest, settings: SectionRegistry([])
