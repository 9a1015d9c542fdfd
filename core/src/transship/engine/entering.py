"""A transport's context manager, with a time-out on entering and a deadline on leaving.

One cancel scope lies around the whole of it, so that a transport may keep tasks of its own.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from transship.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

T = TypeVar("T")


@asynccontextmanager
async def entered(
    context: AbstractAsyncContextManager[T], timeout_s: float, cleanup_timeout_s: float
) -> AsyncIterator[T]:
    """Enter, and leave afterwards, shielded; what leaving raises hides no failure of the body.

    Raises:
        ConnectError: It was not entered in time.
    """
    late = ConnectError(
        f"no connection within {timeout_s:g} s", hint="is the destination listening, and reachable?"
    )
    has_begun = False
    failure: BaseException | None = None
    with trio.CancelScope(deadline=trio.current_time() + timeout_s) as scope:
        try:
            async with context as what:
                if scope.cancel_called:
                    raise late
                has_begun = True
                scope.deadline = math.inf
                try:
                    yield what
                except BaseException as error:
                    failure = error
                    raise
                finally:
                    scope.shield = True
                    scope.deadline = trio.current_time() + cleanup_timeout_s
        except BaseException as leaving:
            if failure is None or leaving is failure:
                raise
            raise failure from leaving
    if failure is not None:
        raise failure
    if not has_begun:
        raise late
