"""What the halves of channels have in common that are in the hands of a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from transship.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class ThreadHalf:
    """One direction of a channel, which hears from it when the direction is of no more use.

    Args:
        peer: Who is at the other end, for people.
        translate: Turns the kernel's errors into the channel's.
        spoil: Tells the channel not to use this direction any more.
    """

    def __init__(
        self, peer: str, translate: Callable[[OSError], ChannelError], spoil: Callable[[], None]
    ) -> None:
        self._peer = peer
        self._translate = translate
        self._spoil = spoil
        self._is_interrupted = False

    def interrupt(self) -> None:
        """Break a call under way, and all later ones; the other direction works on."""
        self._is_interrupted = True
        self._spoil()

    def _whole(self, send: Callable[[], T]) -> T:
        """Send; what fails leaves the channel of no more use: nobody knows how much was sent."""
        try:
            return send()
        except BaseException:
            self._spoil()
            raise

    def _refuse_if_interrupted(self) -> None:
        if self._is_interrupted:
            raise ChannelError(f"the channel to {self._peer} was closed on this side")
