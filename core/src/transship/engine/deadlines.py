"""What a guest is asked to do under a shield has a deadline, so that nothing waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from transship.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def within(action: Callable[[], Awaitable[None]], timeout_s: float, name: str) -> None:
    """Let the guest do something that must not be cut short by a cancellation, but must end.

    Raises:
        StalledError: It did not end in time; what the guest does now, nobody knows.
    """
    with trio.move_on_after(timeout_s, shield=True) as scope:
        await action()
    if scope.cancelled_caught:
        raise StalledError(f"the guest did not {name} within {timeout_s:g} s")
