"""Detects that two tasks do at once what only one may do at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from types import TracebackType


@final
class ConflictDetector:
    """A guard around an operation that one task at a time may be in; it never waits.

    A queue would hide the mistake: two senders on one byte path have no order that is right.

    Args:
        message: What the second task is told.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        self._is_held = False

    def __enter__(self) -> None:
        """Take the guard.

        Raises:
            trio.BusyResourceError: Another task holds it.
        """
        if self._is_held:
            raise trio.BusyResourceError(self._message)
        self._is_held = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_held = False
