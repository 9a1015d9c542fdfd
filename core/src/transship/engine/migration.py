"""One outgoing migration, from the request to its end: the façade that users and control call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.engine.attempt import Attempt
from transship.engine.deadlines import within
from transship.engine.entering import entered
from transship.engine.failures import add_trouble
from transship.engine.parameters import QEMU_10_0, Parameters
from transship.engine.preflight import check_source
from transship.engine.source import Source
from transship.errors import (
    MigrationError,
    PeerClosedError,
    UnknownOutcomeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.transport import Outgoing
    from transship.engine.status import MigrationStatus


class Migration(Attempt):
    """Moves a guest away. A process may run many; an object is used once.

    Args:
        guest: What moves; it may run.
        sections: Its sections, made for this migration.
        outgoing: The transport's context manager, not entered yet.
        parameters: Limits.
        observer: Called with each status as it is reached; must not block or raise.

    Attributes:
        is_confirmed: Whether the destination said that it has the guest.
    """

    waiting_for = "connecting"
    cancelled_text = "the migration was cancelled"

    def __init__(
        self,
        guest: Guest,
        sections: SectionSet,
        outgoing: Outgoing,
        parameters: Parameters = QEMU_10_0,
        observer: Callable[[MigrationStatus], None] | None = None,
    ) -> None:
        super().__init__(parameters, observer)
        self.is_confirmed = False
        self._guest = guest
        self._sections = sections
        self._outgoing = outgoing
        self._source: Source | None = None

    @property
    def owns_guest(self) -> bool:
        """Whether the guest is still this side's."""
        return self._source is None or self._source.owns_guest

    @property
    def _had_guest_running(self) -> bool:
        return self._source is not None and self._source.was_running

    async def _attempt(self) -> None:
        check_source(self._guest, self._sections)
        self.statistics.total_bytes = sum(block.used_length for block in self._guest.ram_blocks())
        limits = self.parameters
        async with entered(
            self._outgoing, limits.connect_timeout_s, limits.cleanup_timeout_s
        ) as channel:
            self._source = Source(
                self._guest, self._sections, channel, limits, self.statistics, self._enter
            )
            await self._source.run()
            self.is_confirmed = self._source.is_confirmed
            self._has_moved = True

    async def _clean_up(self, error: MigrationError) -> MigrationError:
        """Whatever happened: exactly one side may run the guest, and the error says which."""
        if not self.owns_guest:
            return UnknownOutcomeError(
                f"the guest was handed over, but then: {error.cause}",
                side="source",
                phase=error.phase,
                expected=error.expected,
                found=error.found,
                source_may_resume=False,
                hint="look at the destination before anything else"
                + ("; here the guest stays paused" if self._had_guest_running else ""),
            )
        if isinstance(error, PeerClosedError):
            error.add_context(hint="the destination's own output says why")
        may_resume = None if self._guest.accepts_any else True
        error.add_context(side="source", source_may_resume=may_resume)
        for section in self._sections:
            try:
                self._sections.cancel(section)
            except Exception as broken:
                add_trouble(error, f"section {section.idstr!r} could not be cancelled", broken)
        if self._had_guest_running:
            try:
                await within(self._guest.resume, self.parameters.guest_timeout_s, "resume")
            except Exception as broken:
                add_trouble(error, "the guest could not be resumed", broken)
        return error
