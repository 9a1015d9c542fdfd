"""What a transport that connects must do, as classes to inherit."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from transship.abc.transport import Address
from transship.testing import capability_checks, extra_channel_checks, listener_checks
from transship.testing.conformance.channels import ChannelConformance
from transship.testing.conformance.transport_plugins import TransportPluginConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from transship.abc.channel import Channel
    from transship.plugin.transport import PluginTransport
    from transship.testing.checking import Connect, Listen, MakePair


@pytest.mark.trio
class TransportConformance(ChannelConformance, TransportPluginConformance):
    """What every transport must do whose two ends are there at once.

    Inherit it, and override ``plugin``, ``incoming_uri`` and ``make_pair``.
    """

    # Checks

    async def test_channel_has_declared_capabilities(
        self, make_pair: MakePair, capabilities: Collection[type] | None
    ) -> None:
        await capability_checks.check_has_declared_capabilities(make_pair, capabilities)


@pytest.mark.trio
class ListeningTransportConformance(TransportConformance):
    """What a transport must do whose destination waits for a connection; the usual kind."""

    # Overridable

    @pytest.fixture
    def listen(self, transport: PluginTransport, incoming_uri: str) -> Listen:
        return lambda: transport.start_incoming(Address.parse(incoming_uri), {})

    @pytest.fixture
    def connect(self, transport: PluginTransport) -> Connect:
        return lambda address: transport.start_outgoing(address, {})

    @pytest.fixture
    def make_pair(self, listen: Listen, connect: Connect) -> MakePair:
        @asynccontextmanager
        async def make() -> AsyncIterator[tuple[Channel, Channel]]:
            async with listen() as listener, connect(Address.parse(listener.uri)) as source:
                destination = await listener.accept()
                try:
                    yield source, destination
                finally:
                    await destination.aclose()

        return make

    # Checks

    async def test_transport_does_nothing_until_entered(
        self, listen: Listen, connect: Connect
    ) -> None:
        await listener_checks.check_does_nothing_until_entered(listen, connect)

    async def test_listener_accepts_one_after_the_other(
        self, listen: Listen, connect: Connect
    ) -> None:
        await listener_checks.check_accepts_one_after_the_other(listen, connect)

    async def test_listener_accepts_after_cancelled_accept(
        self, listen: Listen, connect: Connect
    ) -> None:
        await listener_checks.check_accepts_after_cancelled_accept(listen, connect)

    async def test_listener_outlives_lost_connection(
        self, listen: Listen, connect: Connect
    ) -> None:
        await listener_checks.check_outlives_lost_connection(listen, connect)

    async def test_listener_stops_when_left(self, listen: Listen, connect: Connect) -> None:
        await listener_checks.check_stops_when_left(listen, connect)

    async def test_transport_opens_more_channels(self, listen: Listen, connect: Connect) -> None:
        await extra_channel_checks.check_opens_more_channels(listen, connect)

    async def test_transport_prepares_more_channels(self, listen: Listen, connect: Connect) -> None:
        await extra_channel_checks.check_prepares_more_channels(listen, connect)

    async def test_transport_cancels_more_channels(self, listen: Listen, connect: Connect) -> None:
        await extra_channel_checks.check_cancels_more_channels(listen, connect)
