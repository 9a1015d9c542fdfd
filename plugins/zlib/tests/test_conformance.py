"""``zlib`` does what every method of compression must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import CompressionConformance
from transship_zlib import plugin as zlib

if TYPE_CHECKING:
    from transship.testing.pytest_plugin import CompressionPlugin


class TestZlib(CompressionConformance):
    @pytest.fixture
    def plugin(self) -> CompressionPlugin:
        return zlib

    @pytest.fixture
    def name(self) -> str:
        return "zlib"
