"""``ws:`` and ``wss:`` do what every transport must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import ListeningTransportConformance, TransportPlugin
from transship_websocket import plugin as websocket_plugin

if TYPE_CHECKING:
    from certificates import Certificates

    from transship.abc import Address
    from transship.plugin.transport import PluginTransport
    from transship.testing import Connect


class TestWebSocket(ListeningTransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return websocket_plugin

    @pytest.fixture
    def incoming_uri(self) -> str:
        return "ws:127.0.0.1:0"


class TestSecureWebSocket(TestWebSocket):
    @pytest.fixture
    def incoming_uri(self, certificates: Certificates) -> str:
        return f"wss:127.0.0.1:0,certificate={certificates.host}"

    @pytest.fixture
    def outgoing_uri(self) -> str:
        return "wss:127.0.0.1:1"

    @pytest.fixture
    def connect(self, transport: PluginTransport, certificates: Certificates) -> Connect:
        options = {"ca": certificates.authority}

        def connect(address: Address) -> object:
            return transport.start_outgoing(address, options)

        return connect  # type: ignore[return-value]
