"""Who is told what happens in a migration, and what becomes of a listener that fails."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from transship.engine.failures import collapse
from transship.errors import BlockedError

if TYPE_CHECKING:
    from transship.engine.status import MigrationStatus

_LOG: Final = logging.getLogger(__name__)


class Notice:
    """Something that has happened; what it is, says the class."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StatusReached(Notice):
    """The migration has entered a status."""

    status: MigrationStatus


@dataclass(frozen=True, slots=True)
class PassBegun(Notice):
    """The dirty log has been synchronised: a pass over memory begins.

    Args:
        number: 1 for the first; the one after the pause counts.
    """

    number: int


@dataclass(frozen=True, slots=True)
class HandoverBegins(Notice):
    """The source is about to pause the guest."""


@dataclass(frozen=True, slots=True)
class GuestPaused(Notice):
    """The guest stands still."""


@dataclass(frozen=True, slots=True)
class GuestResumed(Notice):
    """The guest runs: it has arrived, or it stays after all."""


Notifier: TypeAlias = Callable[[Notice], Awaitable[None] | None]
"""A function, or an async one, which the migration waits for."""


class Notifiers:
    """Calls everybody who wants to know, one after the other, in the order of their coming.

    One that fails, or takes too long, is logged under its name and changes nothing, with one
    exception: :class:`~transship.errors.BlockedError` at ``setup`` refuses the migration, as a
    hook that prepares the other host may want to.

    Args:
        then: Told after those added here.
    """

    def __init__(self, then: Notifiers | None = None) -> None:
        self._notifiers: list[tuple[str, Notifier]] = []
        self._then = then

    def add(self, notifier: Notifier, name: str | None = None) -> Callable[[], None]:
        """Tell ``notifier`` from now on.

        Args:
            notifier: Called with each notice; an async one is awaited.
            name: For the log; that of the function, if not given.

        Returns:
            A function that takes it away again; idempotent.
        """
        entry = (name or str(getattr(notifier, "__qualname__", notifier)), notifier)
        self._notifiers.append(entry)

        def remove() -> None:
            self._notifiers[:] = [other for other in self._notifiers if other is not entry]

        return remove

    async def tell(self, notice: Notice, *, timeout_s: float, may_refuse: bool = False) -> None:
        """Tell everybody.

        Args:
            notice: What has happened.
            timeout_s: How long the async ones may take together; then the rest are not waited for.
            may_refuse: Whether ``BlockedError`` is passed on.

        Raises:
            BlockedError: One of them refuses.

        Cancellation: those whose turn has not come are not told.
        """
        deadline = trio.current_time() + timeout_s
        for name, notifier in list(self._notifiers):
            try:
                await _call(notifier, notice, deadline)
            except Exception as error:
                refusal = collapse(error)
                if may_refuse and isinstance(refusal, BlockedError):
                    raise refusal from refusal.__cause__
                _LOG.exception("notifier %s failed at %s", name, notice)
        if self._then is not None:
            left_s = max(0.0, deadline - trio.current_time())
            await self._then.tell(notice, timeout_s=left_s, may_refuse=may_refuse)


async def _call(notifier: Notifier, notice: Notice, deadline: float) -> None:
    result = notifier(notice)
    if inspect.isawaitable(result):
        with trio.fail_at(deadline):
            await result
