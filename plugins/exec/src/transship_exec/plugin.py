"""The hooks of the exec transport; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Address, Incoming, Options, Outgoing


@hookimpl
def start_outgoing(address: Address, options: Options) -> Outgoing:
    """Prepare to write to the standard input of ``exec:COMMAND``."""
    from transship_exec import _transport, _uri

    return _transport.connect(_uri.parse(address.rest, options))


@hookimpl
def start_incoming(address: Address, options: Options) -> Incoming:
    """Prepare to read from the standard output of ``exec:COMMAND``."""
    from transship_exec import _transport, _uri

    return _transport.listen(_uri.parse(address.rest, options))


@hookimpl
def channel_capabilities() -> Iterable[type]:
    """What the standard streams of a command can do."""
    from transship.abc import Blocking, ReturnPathOnRequest

    return Blocking, ReturnPathOnRequest
