"""``zstd`` does what every method of compression must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import CompressionConformance
from transship_zstd import plugin as zstd

if TYPE_CHECKING:
    from transship.testing.pytest_plugin import CompressionPlugin


class TestZstd(CompressionConformance):
    @pytest.fixture
    def plugin(self) -> CompressionPlugin:
        return zstd

    @pytest.fixture
    def name(self) -> str:
        return "zstd"
