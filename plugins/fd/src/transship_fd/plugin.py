"""The hooks of the fd transport; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transship.abc import Address, Incoming, Options, Outgoing


@hookimpl
def start_outgoing(address: Address, options: Options) -> Outgoing:
    """Prepare to send to the descriptor of ``fd:NUMBER`` or ``fd:NAME``, if there is one."""
    from transship_fd import _taking, _transport, _uri

    parsed = _uri.parse(address.rest, options)
    _taking.check(parsed)
    return _transport.connect(parsed)


@hookimpl
def start_incoming(address: Address, options: Options) -> Incoming:
    """Prepare to receive from the descriptor of ``fd:NUMBER`` or ``fd:NAME``."""
    from transship_fd import _transport, _uri

    return _transport.listen(_uri.parse(address.rest, options))


@hookimpl
def channel_capabilities() -> Iterable[type]:
    """What sockets, pipes and files can do; each of them a part of it."""
    from transship.abc import Blocking, DescriptorPassing, ReturnPath, Seekable

    return Blocking, DescriptorPassing, ReturnPath, Seekable
