"""The hooks of the file transport; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Address, Incoming, Options, Outgoing


@hookimpl
def start_outgoing(address: Address, options: Options) -> Outgoing:
    """Prepare to write to ``file:PATH[,offset=N]``."""
    from transship_file import _transport, _uri

    return _transport.connect(_uri.parse(address.rest, options))


@hookimpl
def start_incoming(address: Address, options: Options) -> Incoming:
    """Prepare to read from ``file:PATH[,offset=N]``."""
    from transship_file import _transport, _uri

    return _transport.listen(_uri.parse(address.rest, options))


@hookimpl
def channel_capabilities() -> Iterable[type]:
    """What a file can do."""
    from transship.abc import Blocking, Seekable

    return Blocking, Seekable
