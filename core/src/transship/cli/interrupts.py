"""What Ctrl-C and SIGTERM do, in every verb.

Where a guest is under way the first of them cancels its migration, and a second Ctrl-C leaves
without waiting for the end. Where there is nothing to give back, the first one leaves.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final, TypeVarTuple

import trio

from transship.cli.exits import ExitCode
from transship.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Ts = TypeVarTuple("Ts")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Signals that come while somebody waits for the end of one migration.

    Attributes:
        is_leaving: Whether there was a second Ctrl-C: the end is not waited for.
    """

    def __init__(self) -> None:
        self.is_leaving = False
        self._ctrl_cs = 0

    def heed(self, number: int, note: Callable[[str], None]) -> None:
        """Take one of :data:`SIGNALS`; the migration is to be cancelled unless we leave.

        Args:
            number: The signal.
            note: Says what follows from it.
        """
        self._ctrl_cs += number == signal.SIGINT
        if self._ctrl_cs > 1:
            self.is_leaving = True
        else:
            note("cancelling" + ("; once more leaves at once" if self._ctrl_cs else ""))


async def until_interrupted(body: Callable[[*Ts], Awaitable[int]], *arguments: *Ts) -> int:
    """Run the body of a verb that has nothing to give back; a signal just ends it.

    Returns:
        Its exit code; :attr:`ExitCode.LEFT` if a signal came first.

    Raises:
        MigrationError: The body did.
    """
    code: int = ExitCode.LEFT
    failure: MigrationError | None = None
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave)
            try:
                code = await body(*arguments)
            except MigrationError as error:
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return code
