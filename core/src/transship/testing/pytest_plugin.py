"""The conformance kit as classes to inherit; it needs pytest and pytest-trio.

A transport's whole conformance effort::

    from transship.testing.pytest_plugin import ListeningTransportConformance
    from transship_carrier import plugin

    class TestCarrier(ListeningTransportConformance):
        @pytest.fixture
        def plugin(self):
            return plugin

        @pytest.fixture
        def incoming_uri(self, tmp_path):
            return f"carrier:{tmp_path}/loft"

A channel without a plugin, as of a library, has :class:`ChannelConformance`, a method of
compression :class:`CompressionConformance`, a kind of disks :class:`BlockDeviceConformance`, a
section :class:`SectionConformance` or :class:`LiveSectionConformance`. Where a plugin must differ,
its class overrides one test with a mark, in plain sight.
"""

from __future__ import annotations

from transship.testing.conformance.block_devices import BlockDeviceConformance
from transship.testing.conformance.channels import ChannelConformance
from transship.testing.conformance.compressions import CompressionConformance, CompressionPlugin
from transship.testing.conformance.sections import (
    LiveSectionConformance,
    SectionConformance,
    SectionPlugin,
)
from transship.testing.conformance.stored_transports import StoredTransportConformance
from transship.testing.conformance.transport_plugins import (
    TransportPlugin,
    TransportPluginConformance,
)
from transship.testing.conformance.transports import (
    ListeningTransportConformance,
    TransportConformance,
)

__all__ = [
    "BlockDeviceConformance",
    "ChannelConformance",
    "CompressionConformance",
    "CompressionPlugin",
    "ListeningTransportConformance",
    "LiveSectionConformance",
    "SectionConformance",
    "SectionPlugin",
    "StoredTransportConformance",
    "TransportConformance",
    "TransportPlugin",
    "TransportPluginConformance",
]
