"""``bz2`` does what every method of compression must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import CompressionConformance
from transship_bz2 import plugin as bz2

if TYPE_CHECKING:
    from transship.testing.pytest_plugin import CompressionPlugin


class TestBz2(CompressionConformance):
    @pytest.fixture
    def plugin(self) -> CompressionPlugin:
        return bz2

    @pytest.fixture
    def name(self) -> str:
        return "bz2"
