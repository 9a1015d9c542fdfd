"""Capabilities that change the layout of the stream, so that both sides must have the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.abc.channel import Seekable
from transship.abc.settings import NO_COMPRESSION, Capability
from transship.errors import BlockedError, RemoteError

if TYPE_CHECKING:
    from transship.abc.channel import Channel
    from transship.abc.settings import Settings
    from transship.wire.events import Configuration

_OF_LAYOUT: Final = (Capability.MAPPED_RAM,)


def layout_capabilities(settings: Settings) -> tuple[str, ...]:
    """Those that are on, as the configuration of a stream lists them."""
    return tuple(one.value for one in _OF_LAYOUT if settings.has(one))


def check_layout(channel: Channel, settings: Settings) -> None:
    """Refuse a layout that the channel cannot carry (source).

    Raises:
        BlockedError: It is no file, or something is on that does not go with places in a file.
    """
    if not settings.has(Capability.MAPPED_RAM):
        return
    if channel.capability(Seekable) is None:
        raise BlockedError(
            f"the channel to {channel.peer} is no file",
            expected="one, as the capability mapped-ram is on",
            hint="switch mapped-ram off, or take file:",
        )
    if settings.parameters.multifd_compression != NO_COMPRESSION:
        raise BlockedError(
            "memory at places of a file cannot be compressed",
            expected=f"multifd-compression {NO_COMPRESSION!r}, as mapped-ram is on",
            found=repr(settings.parameters.multifd_compression),
        )


def check_same_layout(configuration: Configuration, settings: Settings) -> None:
    """Refuse a stream in another layout (destination).

    Raises:
        RemoteError: The source has a capability on that this side has off, or the other way round.
    """
    theirs, ours = set(configuration.capabilities), set(layout_capabilities(settings))
    for name in sorted(theirs ^ ours):
        raise RemoteError(
            f"the source has the capability {name} {'on' if name in theirs else 'off'}",
            expected=f"it {'on' if name in ours else 'off'}, as on this side",
            hint="switch it on at both sides or at none",
        )
