"""Cancels a migration and makes sure that the guest is where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from transship.cli.driving.ends import (
    CANCEL_PATIENCE_S,
    GUEST_GONE,
    guest_facts,
    is_given_up,
    lost,
    overdue,
    tell,
    where,
)
from transship.cli.driving.following import settle
from transship.cli.driving.peer import MigrationInfo, Peer, StatusInfo, reach
from transship.cli.driving.storage.jobs import jobs_of
from transship.cli.driving.storage.remains import PREFIX
from transship.cli.exits import ExitCode, exit_code
from transship.cli.results import result_of
from transship.control.client import QmpCommandError, QmpError
from transship.errors import BlockedError, MigrationError, RemoteError, UnknownOutcomeError
from transship.units import format_time

if TYPE_CHECKING:
    from transship.cli.console import Console
    from transship.control.address import QmpAddress

_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Cancelled:
    """What came of it.

    Args:
        info: The last look at the migration.
        guest: What the guest does.
        took_s: From the request until both were known; None if nothing was under way.
        copies_disks: Whether disks are copied for a migration that has yet to begin.
    """

    info: MigrationInfo
    guest: StatusInfo
    took_s: float | None
    copies_disks: bool = False

    @property
    def error(self) -> MigrationError | None:
        """Why the guest is not where it was; or why it was, but not because of us."""
        if self.info.status == "completed" and self.guest.status in GUEST_GONE:
            return BlockedError("the migration has completed")
        cause = self.info.error_desc or "the peer gives no reason"
        if is_given_up(self.info, self.guest):
            return UnknownOutcomeError(cause)
        if self.info.status == "failed" and self.took_s is not None:
            return MigrationError(cause)
        return None

    @property
    def _was_source(self) -> bool:
        """Whether the guest was to leave the peer; one that has nothing under way may be either."""
        if self.info.ram is not None or self.guest.status in GUEST_GONE:
            return True
        is_awaited = self.info.received is not None or self.guest.status == "inmigrate"
        return self.took_s is not None and not is_awaited

    def facts(self) -> dict[str, Any]:
        return result_of(
            self.info.status,
            self.error,
            was_running=self.took_s is not None,
            took_s=self.took_s,
            copies_disks=self.copies_disks,
            reason=self.info.error_desc if self.info.status == "failed" else None,
            guest=guest_facts(self.guest),
        )

    def text(self) -> str:
        status = self.info.status
        if self.took_s is None:
            happened = f"nothing to cancel: no migration is under way ({status})"
            if self.copies_disks:
                happened += "\nits disks are copied first: Ctrl-C at that command ends the copy"
        elif status == "completed":
            happened = "too late: it has completed"
        else:
            reason = f": {self.error.cause}" if status == "failed" and self.error else ""
            happened = f"{status} in {format_time(self.took_s)}{reason}"
        side = "the source" if self._was_source else "this side"
        return f"{happened}\n{where(self.guest, side)}"


async def cancel_there(address: QmpAddress, console: Console) -> int:
    """Cancel the migration of a peer, if there is one. Returns the exit code.

    Raises:
        MigrationError: The peer cannot be reached, or refuses.
    """
    async with reach(address) as peer:
        info = await peer.migration()
        if not info.is_under_way:
            copies = await _copies_disks(peer)
            return _say(console, _Cancelled(info, await settle(peer), None, copies))
        asked_s = trio.current_time()
        try:
            await peer.cancel(info)
            with trio.fail_after(CANCEL_PATIENCE_S):
                while True:
                    info = await peer.migration()
                    if not info.is_under_way:
                        break
                    await trio.sleep(_POLL_S)
            guest = await settle(peer)
        except QmpCommandError:
            raise
        except (QmpError, RemoteError) as error:
            return tell(console, lost(info, str(error)))
        except trio.TooSlowError:
            return tell(console, overdue(info))
        return _say(console, _Cancelled(info, guest, trio.current_time() - asked_s))


async def _copies_disks(peer: Peer) -> bool:
    try:
        jobs = await jobs_of(peer, PREFIX)
    except QmpCommandError:
        return False  # a QEMU before 3.0 has no such command
    return not all(job.has_ended for job in jobs.values())


def _say(console: Console, cancelled: _Cancelled) -> ExitCode:
    console.result(cancelled.facts(), cancelled.text())
    return exit_code(cancelled.error)
