"""Exit codes, and which error ends in which."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from transship.errors import (
    BlockedError,
    CancelledError,
    HandoverError,
    MigrationError,
    NotConvergedError,
    NotStartedError,
    PluginError,
)


class ExitCode(IntEnum):
    """How a verb ended."""

    DONE = 0
    """It did what was asked."""
    FAILED = 1
    """It failed; a guest that was to move is still on the source."""
    USAGE = 2
    """The command line makes no sense."""
    REFUSED = 3
    """Refused before anything was touched: a plugin is missing, an address is malformed."""
    NOT_CONVERGED = 4
    """The guest dirties memory faster than the channel carries it; it is on the source."""
    CANCELLED = 5
    """Cancelled; the guest is on the source."""
    SPLIT = 6
    """The guest's memory is on both sides; recoverable. Postcopy only."""
    UNKNOWN = 7
    """The outcome cannot be known from here: never retry, look at the other side."""
    NOT_STARTED = 8
    """The guest arrived whole, paused, and was not started."""
    LEFT = 130
    """Left by Ctrl-C without waiting for the end; 128 + SIGINT, as shells have it."""


_CODES: Final[tuple[tuple[type[MigrationError], ExitCode], ...]] = (
    (BlockedError, ExitCode.REFUSED),
    (PluginError, ExitCode.REFUSED),
    (CancelledError, ExitCode.CANCELLED),
    (NotConvergedError, ExitCode.NOT_CONVERGED),
    (NotStartedError, ExitCode.NOT_STARTED),
    (HandoverError, ExitCode.UNKNOWN),
)


def exit_code(error: MigrationError | None) -> ExitCode:
    """The exit code for how something ended; None is success."""
    if error is None:
        return ExitCode.DONE
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
