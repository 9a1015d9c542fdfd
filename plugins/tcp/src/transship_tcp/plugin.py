"""The hooks of the tcp transport; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Address, Incoming, Options, Outgoing


@hookimpl
def start_outgoing(address: Address, options: Options) -> Outgoing:
    """Prepare to connect to ``tcp:HOST:PORT``."""
    from transship_tcp import _transport, _uri

    return _transport.connect(_uri.parse_outgoing(address.rest, options))


@hookimpl
def start_incoming(address: Address, options: Options) -> Incoming:
    """Prepare to listen on ``tcp:[HOST]:PORT``."""
    from transship_tcp import _transport, _uri

    return _transport.listen(_uri.parse_incoming(address.rest, options))


@hookimpl
def channel_capabilities() -> Iterable[type]:
    """Everything that a socket can."""
    from transship.abc import Blocking, ExtraChannels, ReturnPath

    return Blocking, ExtraChannels, ReturnPath
