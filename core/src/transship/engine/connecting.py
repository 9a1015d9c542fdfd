"""The transport's context manager, with a time-out on entering and a deadline on leaving.

One cancel scope lies around the whole of it, so that a transport may keep tasks of its own.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from transship.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc.channel import Channel
    from transship.abc.transport import Outgoing
    from transship.engine.parameters import Parameters


@asynccontextmanager
async def connected(outgoing: Outgoing, parameters: Parameters) -> AsyncIterator[Channel]:
    """Connect, and close afterwards.

    Raises:
        ConnectError: There was no connection in time.
    """
    is_connected = False
    failure: BaseException | None = None
    with trio.CancelScope(deadline=trio.current_time() + parameters.connect_timeout_s) as scope:
        async with outgoing as channel:
            is_connected = True
            scope.deadline = math.inf
            try:
                yield channel
            except BaseException as error:
                failure = error
                raise
            finally:
                scope.shield = True
                scope.deadline = trio.current_time() + parameters.cleanup_timeout_s
    if failure is not None:
        raise failure
    if not is_connected:
        raise ConnectError(
            f"no connection within {parameters.connect_timeout_s:g} s",
            hint="is the destination listening, and reachable?",
        )
