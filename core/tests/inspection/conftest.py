"""Recorded streams, and the sections that can read their RAM."""

import lzma
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from transship.inspection.stream import MakeSections
from transship.plugin.registry import SectionRegistry

CAPTURES = Path(
    os.environ.get("TRANSSHIP_CAPTURES") or Path(__file__).parents[3] / "tests/captures"
)


@cache
def unpack(name: str) -> bytes:
    return lzma.decompress((CAPTURES / f"{name}.xz").read_bytes())


@pytest.fixture
def capture() -> Callable[[str], bytes]:
    """The bytes of a recorded stream, by name."""
    if not CAPTURES.is_dir():
        pytest.skip(f"no recorded streams at {CAPTURES}; see TRANSSHIP_CAPTURES")
    return unpack


@pytest.fixture
def ram_sections() -> MakeSections:
    """Makes the sections of the ram plugin, if it is there."""
    plugin = pytest.importorskip("transship_ram.plugin")
    return lambda guest, settings: SectionRegistry(plugin.create_sections(guest, settings))


@pytest.fixture
def no_sections() -> MakeSections:
    """Makes none."""
    return lambda guest, settings: SectionRegistry([])
