"""The return path of a channel: a certain one, or one that somebody has to ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.abc.channel import ReturnPath, ReturnPathOnRequest

if TYPE_CHECKING:
    from transship.abc.channel import Channel


def return_path_of(channel: Channel, *, is_asked_for: bool) -> ReturnPath | None:
    """The way back, if there is one.

    Args:
        channel: Borrowed.
        is_asked_for: Whether somebody knows that it is answered, where that is not certain.
    """
    certain = channel.capability(ReturnPath)
    if certain is not None or not is_asked_for:
        return certain
    possible = channel.capability(ReturnPathOnRequest)
    return None if possible is None else possible.return_path()
