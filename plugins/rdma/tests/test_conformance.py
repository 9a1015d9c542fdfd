"""RDMA does what every transport must do, whatever the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transship_rdma", reason="transship-rdma is not installed")

from rdma_helpers import PROVIDERS, needs_provider

from transship.testing.endurance_checks import SHORT_BYTES
from transship.testing.pytest_plugin import ListeningTransportConformance
from transship_rdma import plugin as rdma

if TYPE_CHECKING:
    from transship.testing.pytest_plugin import TransportPlugin


@pytest.mark.parametrize("provider", PROVIDERS)
class TestRdma(ListeningTransportConformance):
    @pytest.fixture
    def plugin(self, provider: str) -> TransportPlugin:
        needs_provider(provider)
        return rdma

    @pytest.fixture
    def incoming_uri(self, provider: str) -> str:
        return f"rdma:127.0.0.1:0,provider={provider}"

    @pytest.fixture
    def endurance_bytes(self, provider: str) -> int:
        """Less over a provider whose stream is slow, so that a busy machine is in time."""
        return SHORT_BYTES // 8 if provider == "sockets" else SHORT_BYTES
