"""``loop:`` does what every transport must do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from transship.testing.pytest_plugin import ListeningTransportConformance
from transship_loop import plugin as loop

if TYPE_CHECKING:
    from transship.testing.pytest_plugin import TransportPlugin


class TestLoop(ListeningTransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return loop

    @pytest.fixture
    def incoming_uri(self) -> str:
        return f"loop:conformance-{os.getpid()}"
