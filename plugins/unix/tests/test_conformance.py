"""Unix sockets do what every transport must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import ListeningTransportConformance
from transship_unix import plugin as unix

if TYPE_CHECKING:
    from pathlib import Path

    from transship.testing.pytest_plugin import TransportPlugin


class TestUnix(ListeningTransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return unix

    @pytest.fixture
    def incoming_uri(self, tmp_path: Path) -> str:
        return f"unix:{tmp_path}/migration"
