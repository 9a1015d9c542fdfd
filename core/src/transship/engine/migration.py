"""One outgoing migration, from the request to its end: the façade that users and control call."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from transship.abc.channel import ReturnPath
from transship.abc.settings import Settings
from transship.engine.attempt import Attempt
from transship.engine.blockers import Blockers, check_blockers
from transship.engine.deadlines import within
from transship.engine.disks import GuestDisks
from transship.engine.entering import entered
from transship.engine.failures import add_trouble, after_handover
from transship.engine.notifiers import GuestResumed, Notifiers
from transship.engine.preflight import check_source
from transship.engine.securing import secured
from transship.engine.source import Source
from transship.engine.status import MigrationStatus
from transship.errors import (
    LocalError,
    MigrationError,
    PeerClosedError,
    PeerFailedError,
    UnknownOutcomeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transship.abc.guest import Guest
    from transship.abc.section import SectionSet
    from transship.abc.transport import Outgoing
    from transship.engine.custody import Custodian
    from transship.engine.limiter import BandwidthLimiter


class Migration(Attempt):
    """Moves a guest away. A process may run many; an object is used once.

    Args:
        guest: What moves; it may run.
        sections: Its sections, made for this migration.
        outgoing: The transport's context manager, not entered yet.
        settings: The same that the sections were made with.
        notifiers: Who is told of what happens.
        custodian: Who has a say over the guest besides.
        blockers: What forbids it, besides what the guest says.
        limiter: What it shares its bandwidth with.

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
        settings: Settings | None = None,
        *,
        notifiers: Notifiers | None = None,
        custodian: Custodian | None = None,
        blockers: Blockers | None = None,
        limiter: BandwidthLimiter | None = None,
    ) -> None:
        super().__init__(settings or Settings(), notifiers, custodian)
        self.is_confirmed = False
        self._blockers = blockers
        self._limiter = limiter
        self._guest = guest
        self._sections = sections
        self._outgoing = outgoing
        self._disks = GuestDisks(guest, lambda: self.parameters.handover_timeout_s)
        self._source: Source | None = None
        self._has_answers = False

    @property
    def owns_guest(self) -> bool:
        """Whether the guest is still this side's."""
        return self._source is None or self._source.owns_guest

    @property
    def _had_guest_running(self) -> bool:
        return self._source is not None and self._source.was_running

    def check(self) -> None:
        """Refuse it now, where :meth:`run` would.

        Raises:
            BlockedError: It cannot succeed, or something forbids it.
        """
        check_blockers(self._guest, self._blockers)
        check_source(self._guest, self._sections, self.settings)

    def switch_over(self) -> None:
        """Let a migration that waits in ``pre-switchover`` go on.

        Raises:
            LocalError: It does not wait there.
        """
        if self._source is None or self.status is not MigrationStatus.PRE_SWITCHOVER:
            raise LocalError(
                "the migration does not wait to be let go on",
                expected=MigrationStatus.PRE_SWITCHOVER.value,
                found=self.status.value,
            )
        self._source.may_switch_over.set()

    async def _attempt(self) -> None:
        self.check()
        self.statistics.total_bytes = sum(block.used_length for block in self._guest.ram_blocks())
        limits = self.parameters
        async with (
            entered(
                self._outgoing, limits.connect_timeout_s, limits.cleanup_timeout_s
            ) as connected,
            secured(connected, self.settings.security, limits.connect_timeout_s) as channel,
        ):
            self._has_answers = channel.capability(ReturnPath) is not None
            with self._share() as cap_bytes_per_s:
                self._source = Source(
                    self._guest,
                    self._sections,
                    self._disks,
                    channel,
                    self.settings,
                    cap_bytes_per_s,
                    self.statistics,
                    self._enter,
                    self._tell,
                    self.custodian,
                )
                await self._source.run()
            self.is_confirmed = self._source.is_confirmed
            self._has_moved = True

    @contextmanager
    def _share(self) -> Iterator[Callable[[], int]]:
        """What may be sent at the moment: the cap, or a share of the limiter's."""

        def cap_bytes_per_s() -> int:
            return self.parameters.max_bandwidth_bytes_per_s

        if self._limiter is None:
            yield cap_bytes_per_s
        else:
            with self._limiter.member(cap_bytes_per_s) as share_bytes_per_s:
                yield share_bytes_per_s

    async def _clean_up(self, error: MigrationError) -> MigrationError:
        """Whatever happened: exactly one side may run the guest, and the error says which."""
        if not self.owns_guest:
            self.is_confirmed = isinstance(error, PeerFailedError) and error.has_guest
            hint = error.hint
            if not self.is_confirmed:
                stays = "; here the guest stays paused" if self._had_guest_running else ""
                hint = f"look at the destination before anything else{stays}"
            what = "the guest was handed over"
            return after_handover(UnknownOutcomeError, error, what, side="source", hint=hint)
        if isinstance(error, PeerClosedError) and self._has_answers:
            error.add_context(hint="the destination's own output says why")
        may_resume = None if self._guest.accepts_any else True
        error.add_context(side="source", source_may_resume=may_resume)
        for section in self._sections:
            try:
                self._sections.cancel(section)
            except Exception as broken:
                add_trouble(error, f"section {section.idstr!r} could not be cancelled", broken)
        try:
            await self._disks.take_back()
        except Exception as broken:
            trouble = "the guest stays paused: its disks cannot be had again"
            add_trouble(error, trouble, broken)
            return error
        if self._had_guest_running and self.custodian.may_resume():
            try:
                await within(self._guest.resume, self.parameters.guest_timeout_s, "resume")
                if self._source is not None and self._source.has_paused:
                    self.custodian.guest_resumed()
                    await self._tell(GuestResumed())
            except Exception as broken:
                add_trouble(error, "the guest could not be resumed", broken)
        return error
