"""Events that a QMP client has received, kept for whoever subscribed. Knows none by name."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.control.client.messages import Json

_EVENTS_KEPT: Final = 1024
"""For a subscriber that is busy just now. A whole migration emits some ten."""


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """Something that happened at the peer.

    Args:
        name: Such as ``MIGRATION``.
        data: What belongs to it.
    """

    name: str
    data: Json


class QmpEvents:
    """The events from a subscription on, for ``async for``; of too many the oldest are dropped.

    Args:
        check: Raises when there will be none any more.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._kept: deque[QmpEvent] = deque(maxlen=_EVENTS_KEPT)
        self._changed = trio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QmpEvent:
        """Wait for the next one.

        Raises:
            QmpError: The connection is lost, and all that came before has been taken.

        Cancellation: no event is lost.
        """
        await trio.lowlevel.checkpoint()
        while not self._kept:
            self._check()
            self._changed = trio.Event()
            await self._changed.wait()
        return self._kept.popleft()

    def put(self, event: QmpEvent | None) -> None:
        """Add an event, or have the subscriber see that there will be none; for the client."""
        if event is not None:
            self._kept.append(event)
        self._changed.set()
