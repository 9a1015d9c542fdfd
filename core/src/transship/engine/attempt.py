"""What an outgoing and an incoming migration share: status, figures, cancel, outcome."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

import trio

from transship.engine.custody import Custodian
from transship.engine.failures import as_migration_error, collapse
from transship.engine.notifiers import Notice, Notifiers, StatusReached
from transship.engine.stats import Statistics
from transship.engine.status import MigrationStatus, check_transition
from transship.errors import CancelledError, ChannelError, PeerFailedError

if TYPE_CHECKING:
    from transship.abc.settings import Parameters, Settings
    from transship.errors import MigrationError

LOG: Final = logging.getLogger(__name__)


class Attempt(ABC):
    """One migration, seen from one side. An object is used once.

    Attributes:
        settings: Its capabilities, and its parameters as they are now.
        notifiers: Who is told of what happens.
        custodian: Who has a say over the guest besides.
        status: Where it is.
        statistics: What it has counted so far.
        error: Why it failed, once it has.
        waiting_for: What keeps it in its first status, for people.
        cancelled_text: What is said when it was cancelled.
    """

    waiting_for: ClassVar[str]
    cancelled_text: ClassVar[str]

    def __init__(
        self, settings: Settings, notifiers: Notifiers | None, custodian: Custodian | None
    ) -> None:
        self.settings = settings
        self.notifiers = notifiers or Notifiers()
        self.custodian = custodian or Custodian()
        self.status = MigrationStatus.NONE
        self.statistics = Statistics()
        self.error: MigrationError | None = None
        self._scope = trio.CancelScope()
        self._cancel_requested = False
        self._started_s = 0.0
        self._has_moved = False

    async def run(self) -> Statistics:
        """Carry it out, once.

        Returns:
            The statistics, when it has completed.

        Raises:
            CancelledError: :meth:`cancel` was called in time.
            MigrationError: It failed; the same error is in :attr:`error`.

        Cancellation: as if :meth:`cancel` had been called: up to the hand-over the guest is given
        back to the source before the cancellation goes on; after it the migration completes.
        """
        self._begin_clock()
        try:
            with self._scope:
                await self._enter(MigrationStatus.SETUP)
                await self._attempt()
            if self._scope.cancelled_caught:
                raise CancelledError(self.cancelled_text)
        except BaseException as caught:
            if not (self._has_moved and isinstance(caught, Exception)):
                await self._fail(caught)
            LOG.exception("a transport could not be left after the guest had moved")
        with trio.CancelScope(shield=True):
            await self._enter(MigrationStatus.COMPLETED)
        return self.statistics

    @property
    def parameters(self) -> Parameters:
        """Its parameters; a new set takes effect within a slice of 100 ms."""
        return self.settings.parameters

    @parameters.setter
    def parameters(self, parameters: Parameters) -> None:
        self.settings.parameters = parameters

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status.is_final

    @property
    def elapsed_s(self) -> float:
        """How long it has taken so far, or took."""
        if self.is_over:
            return self.statistics.total_s
        if self.status is MigrationStatus.NONE:
            return 0.0
        return trio.current_time() - self._started_s

    def _begin_clock(self) -> None:
        """Let the total time count from now."""
        self._started_s = trio.current_time()

    def cancel(self) -> None:
        """Ask for the end of the migration; never fails, idempotent, does not wait.

        After the hand-over it has no effect.
        """
        self._cancel_requested = True
        self._scope.cancel()

    async def _fail(self, caught: BaseException) -> NoReturn:
        """Clean up after a failure, shielded, and raise what it comes down to.

        A peer that notices a cancellation before we have ended does not make it a failure.
        """
        reason = collapse(caught)
        error = as_migration_error(reason)
        is_interrupted = self._cancel_requested and isinstance(
            error, (ChannelError, PeerFailedError)
        )
        if isinstance(reason, trio.Cancelled) or is_interrupted:
            error = CancelledError(self.cancelled_text)
        phase = self.status.value
        with trio.CancelScope(shield=True):
            if isinstance(error, CancelledError):
                await self._enter(MigrationStatus.CANCELLING)
            error = self.error = await self._clean_up(error.add_context(phase=phase))
            is_cancelled = isinstance(error, CancelledError)
            await self._enter(MigrationStatus.CANCELLED if is_cancelled else MigrationStatus.FAILED)
        if not isinstance(reason, Exception):
            raise caught
        raise error from (error.__cause__ if error is reason else reason)

    async def _enter(self, status: MigrationStatus) -> None:
        check_transition(self.status, status)
        if status.is_final:
            self.statistics.total_s = self.elapsed_s
            await self.custodian.ended(self, status)
        self.status = status
        await self._tell(StatusReached(status))

    async def _tell(self, notice: Notice) -> None:
        await self.notifiers.tell(
            notice,
            timeout_s=self.parameters.notice_timeout_s,
            may_refuse=notice == StatusReached(MigrationStatus.SETUP),
        )

    @abstractmethod
    async def _attempt(self) -> None:
        """Do it; raising is failing, until ``_has_moved`` says that the guest is where it goes."""

    @abstractmethod
    async def _clean_up(self, error: MigrationError) -> MigrationError:
        """Give the guest to exactly one side; returns the error as it is to be raised."""
