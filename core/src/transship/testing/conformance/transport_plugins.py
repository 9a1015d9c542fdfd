"""What the hooks of a transport must do, as a class to inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from transship.abc.transport import Address, Incoming, Outgoing
from transship.errors import BlockedError
from transship.plugin.hookspecs import TransportHooks
from transship.plugin.transport import PluginTransport
from transship.testing import plugin_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class TransportPlugin(Protocol):
    """A module or object with the two hooks of a transport; they name the arguments they use."""

    @property
    def start_outgoing(self) -> Callable[..., Outgoing]: ...

    @property
    def start_incoming(self) -> Callable[..., Incoming]: ...


@pytest.mark.trio
class TransportPluginConformance:
    """What the hooks of every transport must do; the classes below inherit it."""

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
    def outgoing_uri(self, incoming_uri: str) -> str:
        """An address that a source may be given; nobody connects to it."""
        return incoming_uri

    @pytest.fixture
    def transport(self, plugin: TransportPlugin, incoming_uri: str) -> PluginTransport:
        """The plugin as a migration calls it: validated, and told what its hooks ask for."""
        return PluginTransport(Address.parse(incoming_uri).scheme, plugin, "the one under test")

    @pytest.fixture
    def capabilities(self, transport: PluginTransport) -> Collection[type] | None:
        """What the channels under test have: all that is declared. Override it if they have less.

        None stands for a plugin that declares nothing.
        """
        return transport.capabilities()

    # Checks

    async def test_plugin_has_hooks_that_can_be_called(self, plugin: TransportPlugin) -> None:
        plugin_checks.check_hooks_can_be_called(plugin, TransportHooks)

    async def test_transport_refuses_unknown_option(
        self, transport: PluginTransport, incoming_uri: str, outgoing_uri: str
    ) -> None:
        with pytest.raises(BlockedError, match="no-such-option"):
            transport.start_incoming(Address.parse(incoming_uri), {"no-such-option": True})
        with pytest.raises(BlockedError, match="no-such-option"):
            transport.start_outgoing(Address.parse(outgoing_uri), {"no-such-option": True})

    async def test_transport_refuses_malformed_address(self, transport: PluginTransport) -> None:
        malformed = Address(transport.scheme, "")
        with pytest.raises(BlockedError):
            transport.start_incoming(malformed, {})
        with pytest.raises(BlockedError):
            transport.start_outgoing(malformed, {})

    async def test_transport_declares_what_its_channels_have(
        self, transport: PluginTransport, capabilities: Collection[type] | None
    ) -> None:
        declared = transport.capabilities()
        if declared is not None:
            assert set(capabilities or ()) <= declared, "what is not declared is refused"
