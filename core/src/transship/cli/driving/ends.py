"""How a migration that was followed has ended: for people, for programs, and as an exit code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from transship.cli.driving.following import settle
from transship.cli.driving.peer import MigrationInfo
from transship.cli.exits import ExitCode, exit_code
from transship.cli.results import result_of
from transship.control.client import QmpError
from transship.errors import (
    CancelledError,
    MigrationError,
    NotConvergedError,
    RemoteError,
    UnknownOutcomeError,
)
from transship.units import counted, format_size, format_time

if TYPE_CHECKING:
    from transship.cli.console import Console
    from transship.cli.driving.following import Follower
    from transship.cli.driving.peer import Limits, Peer, StatusInfo
    from transship.cli.driving.storage.copying import StorageCopy
    from transship.cli.progress.disks import StorageProgress

GUEST_GONE: Final = frozenset({"postmigrate"})
"""Run states of a guest that is elsewhere."""

CANCEL_PATIENCE_S: Final = 30.0
"""How long a migration that is cancelled may take to end. A QEMU's takes some milliseconds."""

_LOOK: Final = (
    "the guest may be on either side: look at both with transship status before anything is "
    "started again"
)


_NOBODY_TO_ASK: Final = "the source does not answer any more: whether its guest runs is not known"


@dataclass(frozen=True, slots=True)
class End:
    """How it ended.

    Args:
        info: The last that was heard of it.
        guest: What the guest does on this side; None if nobody knows.
        error: Why it did not complete; None if it did.
        limits: The limits in force at the end; None if nobody knows.
        storage: How far its disks were copied; None if they were not to be.
    """

    info: MigrationInfo
    guest: StatusInfo | None = None
    error: MigrationError | None = None
    limits: Limits | None = None
    storage: StorageProgress | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code."""
        if self.info.status == "postcopy-paused" and not isinstance(
            self.error, UnknownOutcomeError
        ):
            return ExitCode.SPLIT
        return exit_code(self.error)

    def facts(self) -> dict[str, Any]:
        """It as plain data, of the shape of the other verbs' results."""
        return result_of(
            self._status,
            self.error,
            code=self.code,
            guest=guest_facts(self.guest),
            statistics=statistics(self.info),
            limits=limits_facts(self.limits),
            **({} if self.storage is None else {"storage": self.storage.facts()}),
        )

    def text(self) -> str:
        """It for people."""
        if self.error is None:
            return f"{self.info.status}: {_summary(self.info, self.storage)}"
        place = where(self.guest) if self.guest else _NOBODY_TO_ASK
        is_said = isinstance(self.error, UnknownOutcomeError) and not self.guest
        return f"{self._status}: {_reason(self.error)}" + ("" if is_said else f"\n{place}")

    @property
    def _status(self) -> str:
        is_lost = self.guest is None and isinstance(self.error, UnknownOutcomeError)
        return "unknown" if is_lost else self.info.status


def tell(console: Console, end: End) -> int:
    """Print how it ended; returns the exit code."""
    console.result(end.facts(), end.text())
    if end.error is not None and console.as_json:
        console.note(f"transship: {_reason(end.error)}")
    return end.code


async def end_of(peer: Peer, follower: Follower, reason: MigrationError | None = None) -> End:
    """How a migration that was followed to its end has ended.

    Args:
        peer: Who had it.
        follower: Who followed it.
        reason: Why we cancelled it; None if we did not.
    """
    guest = limits = None
    try:
        guest = await settle(peer)
        limits = await peer.limits()
    except (QmpError, RemoteError):  # it has ended meanwhile, and whoever ran in it does not
        guest = None
    info = follower.info
    error = _error(info, follower.phase)
    if isinstance(error, CancelledError) and reason is not None:
        error = reason
    if is_given_up(info, guest):
        error = UnknownOutcomeError(
            info.error_desc or "it failed after the source had given the guest up",
            phase=follower.phase or None,
            hint=_LOOK,
        )
    elif error is not None and guest is not None and info.status in ("failed", "cancelled"):
        error.add_context(source_may_resume=guest.status not in GUEST_GONE)
    return End(info, guest, error, limits)


async def unmoved(peer: Peer, reason: MigrationError | None) -> End:
    """How a migration has ended that could not begin after all, when its disks were under way.

    Args:
        peer: Who was to have it.
        reason: Why; None if it was cancelled, and nobody has said why.
    """
    error = reason or CancelledError("the migration was cancelled")
    status = "cancelled" if isinstance(error, CancelledError | NotConvergedError) else "failed"
    guest = limits = None
    try:
        guest = await settle(peer)
        limits = await peer.limits()
    except (QmpError, RemoteError):
        guest = None
    return End(MigrationInfo(status=status), guest, error, limits)


def lost(info: MigrationInfo, cause: str) -> End:
    """How a migration has ended whose end nobody here has seen.

    Args:
        info: The last look.
        cause: Why nobody has.
    """
    error = UnknownOutcomeError(
        f"how the migration ends is not known here: {cause}",
        phase=info.status,
        hint=_LOOK,
    )
    return End(info, error=error)


def with_storage(end: End, storage: StorageCopy) -> End:
    """The same end, and what became of the disks that were copied beside the migration."""
    error = end.error
    if error is None and not storage.was_handed_over:
        error = UnknownOutcomeError(
            "somebody else let the guest go before its disks were handed over",
            hint="the destination's disks may lack what was written last: stop its guest, and "
            "compare them with the source's",
        )
    return replace(end, error=error, storage=storage.progress)


def overdue(info: MigrationInfo) -> End:
    """How a migration has ended that was cancelled :data:`CANCEL_PATIENCE_S` ago, and has not."""
    return lost(info, f"it was cancelled {CANCEL_PATIENCE_S:.0f} s ago, and has not ended")


def is_given_up(info: MigrationInfo, guest: StatusInfo | None) -> bool:
    """Whether a migration has failed, and the guest is not the source's any more all the same."""
    return info.status == "failed" and guest is not None and guest.status in GUEST_GONE


def _error(info: MigrationInfo, phase: str) -> MigrationError | None:
    """Why a migration did not complete; None if it did."""
    match info.status:
        case "completed":
            return None
        case "cancelled":
            return CancelledError("the migration was cancelled")
        case "postcopy-paused":
            return MigrationError(
                info.error_desc or "the channel broke",
                phase=phase,
                source_may_resume=False,
                hint="parts of the guest are on both sides: have the destination listen again "
                "with migrate-recover, then give the source migrate with resume, over QMP",
            )
        case _:
            return MigrationError(
                info.error_desc or "the peer gives no reason", phase=phase or None
            )


def where(guest: StatusInfo, side: str = "the source") -> str:
    """Say where the guest is.

    Args:
        guest: What it does at the peer.
        side: What the peer is.
    """
    if guest.running:
        return f"the guest runs on {side}"
    if guest.status in GUEST_GONE:
        return f"{side} does not run the guest (postmigrate)"
    if guest.status == "inmigrate":
        return "the guest has not arrived"
    return f"the guest stands still on {side} ({guest.status})"


def guest_facts(guest: StatusInfo | None) -> dict[str, Any] | None:
    """What the guest does, as plain data."""
    if guest is None:
        return None
    return {"run_state": guest.status, "is_running": guest.running}


def limits_facts(limits: Limits | None) -> dict[str, Any] | None:
    """The limits as plain data; no cap is null."""
    if limits is None:
        return None
    return {
        "max_bandwidth_bytes_per_s": limits.cap_bytes_per_s,
        "downtime_limit_s": limits.downtime_limit_s,
    }


def statistics(info: MigrationInfo) -> dict[str, Any]:
    """The peer's figures, under the names and in the units of the other verbs."""
    ram = info.ram
    return {
        "total_s": _seconds(info.total_time),
        "setup_s": _seconds(info.setup_time),
        "downtime_s": _seconds(info.downtime),
        "transferred_bytes": ram and ram.transferred,
        "remaining_bytes": ram and ram.remaining,
        "total_bytes": ram and ram.total,
        "dirty_syncs": ram and ram.dirty_sync_count,
        "bandwidth_bytes_per_s": ram and ram.mbps * 1e6 / 8,
        "dirty_rate_bytes_per_s": ram and ram.dirty_pages_rate * ram.page_size,
        "throttle_percent": info.cpu_throttle_percentage,
    }


def _reason(error: MigrationError) -> str:
    """Its sentence, without what is said beside it: the status, and where the guest is."""
    found = f": {error.found}" if error.found else ""
    hint = f" ({error.hint})" if error.hint else ""
    return f"{error.cause}{found}{hint}"


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _summary(info: MigrationInfo, storage: StorageProgress | None) -> str:
    parts = []
    if info.ram is not None:
        took = f" in {format_time(info.total_time / 1000)}" if info.total_time is not None else ""
        parts.append(f"{format_size(info.ram.transferred)}{took}")
    if info.downtime is not None:
        parts.append(f"downtime {format_time(info.downtime / 1000)}")
    if info.ram is not None:
        parts.append(counted(info.ram.dirty_sync_count, "pass", "passes"))
    if storage is not None:
        count = counted(len(storage.disks), "disk", "disks")
        parts.append(f"{count} with {format_size(storage.copied_bytes)}")
    return ", ".join(parts) or "the guest has arrived"
