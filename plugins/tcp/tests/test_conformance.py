"""TCP does what every transport must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import ListeningTransportConformance
from transship_tcp import plugin as tcp

if TYPE_CHECKING:
    from transship.testing.pytest_plugin import TransportPlugin


class TestTcp(ListeningTransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return tcp

    @pytest.fixture
    def incoming_uri(self) -> str:
        return "tcp:127.0.0.1:0"


class TestTcpOnAnyAddress(TestTcp):
    @pytest.fixture
    def incoming_uri(self) -> str:
        return "tcp::0"
