"""The hooks of the unix transport; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Address, Incoming, Options, Outgoing


@hookimpl
def start_outgoing(address: Address, options: Options) -> Outgoing:
    """Prepare to connect to ``unix:PATH``."""
    from transship_unix import _transport, _uri

    return _transport.connect(_uri.parse_outgoing(address.rest, options))


@hookimpl
def start_incoming(address: Address, options: Options) -> Incoming:
    """Prepare to listen on ``unix:PATH``."""
    from transship_unix import _transport, _uri

    return _transport.listen(_uri.parse(address.rest, options))


@hookimpl
def channel_capabilities() -> Iterable[type]:
    """Everything that a socket can do within one host."""
    from transship.abc import Blocking, DescriptorPassing, ExtraChannels, ReturnPath

    return Blocking, DescriptorPassing, ExtraChannels, ReturnPath
