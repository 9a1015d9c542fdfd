"""The conformance kit as classes to inherit; the only module that imports pytest.

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

A method of compression has :class:`CompressionConformance`. Where a plugin must differ, its class
overrides one test with a mark, in plain sight.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import pytest

from transship.abc.transport import Address, Incoming, Outgoing
from transship.errors import BlockedError
from transship.plugin.compression import create_compression
from transship.plugin.transport import PluginTransport
from transship.testing import (
    channel_checks,
    compression_checks,
    descriptor_checks,
    listener_checks,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transship.abc.channel import Channel
    from transship.abc.compression import Compression
    from transship.testing.checking import MakePair
    from transship.testing.compression_checks import MakeMethod
    from transship.testing.listener_checks import Connect, Listen


class TransportPlugin(Protocol):
    """A module or object with the two hooks of a transport; they name the arguments they use."""

    @property
    def start_outgoing(self) -> Callable[..., Outgoing]: ...

    @property
    def start_incoming(self) -> Callable[..., Incoming]: ...


@pytest.mark.trio
class TransportConformance:
    """What every transport must do; inherit it, and override ``make_pair``."""

    # Required

    @pytest.fixture
    def make_pair(self) -> MakePair:
        """Makes a connected source and destination; see :data:`MakePair`."""
        raise NotImplementedError("override the fixture make_pair")

    # Checks

    async def test_channel_names_its_peer(self, make_pair: MakePair) -> None:
        await channel_checks.check_names_its_peer(make_pair)

    async def test_channel_carries_segments_in_order(self, make_pair: MakePair) -> None:
        await channel_checks.check_carries_segments_in_order(make_pair)

    async def test_channel_accepts_every_buffer(self, make_pair: MakePair) -> None:
        await channel_checks.check_accepts_every_buffer(make_pair)

    async def test_channel_tolerates_empty_sends(self, make_pair: MakePair) -> None:
        await channel_checks.check_tolerates_empty_sends(make_pair)

    async def test_channel_resumes_after_short_writes(self, make_pair: MakePair) -> None:
        await channel_checks.check_resumes_after_short_writes(make_pair)

    async def test_channel_bounds_its_buffers(self, make_pair: MakePair) -> None:
        await channel_checks.check_bounds_its_buffers(make_pair)

    async def test_channel_receives_exactly(self, make_pair: MakePair) -> None:
        await channel_checks.check_receives_exactly(make_pair)

    async def test_channel_ends_one_direction(self, make_pair: MakePair) -> None:
        await channel_checks.check_ends_one_direction(make_pair)

    async def test_channel_notices_lost_destination(self, make_pair: MakePair) -> None:
        await channel_checks.check_notices_lost_destination(make_pair)

    async def test_channel_notices_lost_source(self, make_pair: MakePair) -> None:
        await channel_checks.check_notices_lost_source(make_pair)

    async def test_channel_detects_two_senders(self, make_pair: MakePair) -> None:
        await channel_checks.check_detects_two_senders(make_pair)

    async def test_channel_detects_two_receivers(self, make_pair: MakePair) -> None:
        await channel_checks.check_detects_two_receivers(make_pair)

    async def test_channel_cancelled_send_poisons(self, make_pair: MakePair) -> None:
        await channel_checks.check_cancelled_send_poisons(make_pair)

    async def test_channel_cancelled_receive_ends(self, make_pair: MakePair) -> None:
        await channel_checks.check_cancelled_receive_ends(make_pair)

    async def test_channel_is_cancellable_at_once(self, make_pair: MakePair) -> None:
        await channel_checks.check_is_cancellable_at_once(make_pair)

    async def test_channel_closing_breaks_blocked_send(self, make_pair: MakePair) -> None:
        await channel_checks.check_closing_breaks_blocked_send(make_pair)

    async def test_channel_closing_breaks_blocked_receive(self, make_pair: MakePair) -> None:
        await channel_checks.check_closing_breaks_blocked_receive(make_pair)

    async def test_channel_closes_for_good(self, make_pair: MakePair) -> None:
        await channel_checks.check_closes_for_good(make_pair)

    async def test_channel_holds_no_views(self, make_pair: MakePair) -> None:
        await channel_checks.check_holds_no_views(make_pair)

    async def test_channel_return_path(self, make_pair: MakePair) -> None:
        await channel_checks.check_return_path(make_pair)

    async def test_channel_passes_descriptors(self, make_pair: MakePair) -> None:
        await descriptor_checks.check_passes_descriptors(make_pair)


@pytest.mark.trio
class ListeningTransportConformance(TransportConformance):
    """What a transport must do whose destination waits for a connection; the usual kind."""

    # Required

    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        """The module or object with the transport's hooks."""
        raise NotImplementedError("override the fixture plugin")

    @pytest.fixture
    def incoming_uri(self) -> str:
        """An address to listen on; may be used several times in one test, one after the other."""
        raise NotImplementedError("override the fixture incoming_uri")

    # Overridable

    @pytest.fixture
    def transport(self, plugin: TransportPlugin, incoming_uri: str) -> PluginTransport:
        """The plugin as a migration calls it: validated, and told what its hooks ask for."""
        return PluginTransport(Address.parse(incoming_uri).scheme, plugin, "the one under test")

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

    async def test_transport_refuses_unknown_option(
        self, transport: PluginTransport, incoming_uri: str
    ) -> None:
        address = Address.parse(incoming_uri)
        with pytest.raises(BlockedError, match="no-such-option"):
            transport.start_incoming(address, {"no-such-option": True})
        with pytest.raises(BlockedError, match="no-such-option"):
            transport.start_outgoing(address, {"no-such-option": True})

    async def test_transport_refuses_malformed_address(self, transport: PluginTransport) -> None:
        malformed = Address(transport.scheme, "")
        with pytest.raises(BlockedError):
            transport.start_incoming(malformed, {})
        with pytest.raises(BlockedError):
            transport.start_outgoing(malformed, {})


class CompressionPlugin(Protocol):
    """A module or object with the hook of a method of compression."""

    @property
    def create_compression(self) -> Callable[[], Compression]: ...


class CompressionConformance:
    """What every method must do; inherit it, and override ``plugin`` and ``name``."""

    # Required

    @pytest.fixture
    def plugin(self) -> CompressionPlugin:
        """The module or object with the hook."""
        raise NotImplementedError("override the fixture plugin")

    @pytest.fixture
    def name(self) -> str:
        """The method's name, which is that of the entry point."""
        raise NotImplementedError("override the fixture name")

    # Overridable

    @pytest.fixture
    def make_method(self, plugin: CompressionPlugin, name: str) -> MakeMethod:
        """Makes the method as a migration has it made: validated."""
        return lambda: create_compression(name, plugin, "the one under test")

    # Checks

    def test_method_says_what_it_is(self, make_method: MakeMethod) -> None:
        compression_checks.check_says_what_it_is(make_method)

    def test_method_carries_many_packets(self, make_method: MakeMethod) -> None:
        compression_checks.check_carries_many_packets(make_method)

    def test_method_accepts_every_buffer(self, make_method: MakeMethod) -> None:
        compression_checks.check_accepts_every_buffer(make_method)

    def test_method_keeps_packets_within_bounds(self, make_method: MakeMethod) -> None:
        compression_checks.check_keeps_packets_within_bounds(make_method)

    def test_method_keeps_channels_apart(self, make_method: MakeMethod) -> None:
        compression_checks.check_keeps_channels_apart(make_method)

    def test_method_holds_no_views(self, make_method: MakeMethod) -> None:
        compression_checks.check_holds_no_views(make_method)

    def test_method_refuses_what_does_not_fit(self, make_method: MakeMethod) -> None:
        compression_checks.check_refuses_what_does_not_fit(make_method)

    def test_method_refuses_garbage(self, make_method: MakeMethod) -> None:
        compression_checks.check_refuses_garbage(make_method)

    def test_method_bounds_its_memory(self, make_method: MakeMethod) -> None:
        compression_checks.check_bounds_its_memory(make_method)

    def test_method_outlives_a_guest_that_writes(self, make_method: MakeMethod) -> None:
        compression_checks.check_outlives_a_guest_that_writes(make_method)
