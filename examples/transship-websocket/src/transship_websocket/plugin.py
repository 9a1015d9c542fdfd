"""The hooks of both schemes: none of them waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl
from transship.abc import ExtraChannels, ReturnPath
from transship_websocket import _address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Address, Incoming, Options, Outgoing


@hookimpl
def start_outgoing(address: Address, options: Options) -> Outgoing:
    """Prepare to connect to ``ws:HOST:PORT`` or ``wss:HOST:PORT[,ca=FILE]``."""
    from transship_websocket import _connect  # trio-websocket takes its time to import

    return _connect.connect(_address.parse_outgoing(address, options))


@hookimpl
def start_incoming(address: Address, options: Options) -> Incoming:
    """Prepare to listen on ``ws:HOST:PORT`` or ``wss:HOST:PORT,certificate=FILE``."""
    from transship_websocket import _listen

    return _listen.listen(_address.parse_incoming(address, options))


@hookimpl
def channel_capabilities() -> Iterable[type]:
    """What a WebSocket can do here; there is none that a thread could use."""
    return ExtraChannels, ReturnPath
