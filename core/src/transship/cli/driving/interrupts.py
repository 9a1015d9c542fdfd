"""Ctrl-C for verbs that have nothing to give back: they just end."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")

LEFT: Final = 128 + signal.SIGINT
"""Exit code of a process that did not wait for the end."""


def run_until_interrupted(
    body: Callable[P, Awaitable[int]], *arguments: P.args, **options: P.kwargs
) -> int:
    """Run the body of a verb; returns its exit code, or :data:`LEFT` after Ctrl-C."""
    code = LEFT
    try:
        code = trio.run(partial(body, *arguments, **options))
    except* KeyboardInterrupt:
        pass
    return code
