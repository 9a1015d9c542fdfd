"""Files do what every medium must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import StoredTransportConformance
from transship_file import plugin as file

if TYPE_CHECKING:
    from pathlib import Path

    from transship.testing.pytest_plugin import TransportPlugin


class TestFile(StoredTransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return file

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return f"file:{tmp_path}/stream"


class TestFileFromAnOffset(TestFile):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return f"file:{tmp_path}/stream,offset=0x1001"
