"""Cancels a migration and makes sure that the guest is where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from transship.cli.driving.ends import GUEST_GONE, conclude, guest_facts, is_given_up, lost, where
from transship.cli.driving.following import settle
from transship.cli.driving.peer import MigrationInfo, RunState, reach
from transship.cli.exits import ExitCode
from transship.control.client import QmpCommandError, QmpError
from transship.errors import RemoteError
from transship.units import format_time

if TYPE_CHECKING:
    from transship.cli.console import Console
    from transship.control.address import QmpAddress

_POLL_S: Final = 0.02
_PATIENCE_S: Final = 30.0
"""How long it may take to end. A QEMU's takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class _Cancelled:
    """What came of it.

    Args:
        info: The last look at the migration.
        guest: What the guest does.
        took_s: From the request until both were known; None if nothing was under way.
    """

    info: MigrationInfo
    guest: RunState
    took_s: float | None

    @property
    def code(self) -> ExitCode:
        """The exit code."""
        if self.info.status == "completed" and self.guest.status in GUEST_GONE:
            return ExitCode.REFUSED
        if is_given_up(self.info, self.guest):
            return ExitCode.UNKNOWN
        if self.info.status == "failed" and self.took_s is not None:
            return ExitCode.FAILED
        return ExitCode.DONE

    def facts(self) -> dict[str, Any]:
        return {
            "status": self.info.status,
            "exit_code": int(self.code),
            "was_running": self.took_s is not None,
            "took_s": self.took_s,
            "reason": self.info.error_desc if self.info.status == "failed" else None,
            "guest": guest_facts(self.guest),
        }

    def text(self) -> str:
        status = self.info.status
        if self.took_s is None:
            happened = f"nothing to cancel: no migration is under way ({status})"
        elif status == "completed":
            happened = "too late: it has completed"
        else:
            reason = f": {self.info.error_desc}" if status == "failed" else ""
            happened = f"{status} in {format_time(self.took_s)}{reason}"
        return f"{happened}\n{where(self.guest)}"


async def cancel_there(address: QmpAddress, console: Console) -> int:
    """Cancel the migration of a peer, if there is one. Returns the exit code.

    Raises:
        MigrationError: The peer cannot be reached, or refuses.
    """
    async with reach(address) as peer:
        info = await peer.migration()
        if not info.is_under_way:
            return _tell(console, _Cancelled(info, await settle(peer), None))
        asked_s = trio.current_time()
        try:
            await peer.cancel()
            with trio.fail_after(_PATIENCE_S):
                while True:
                    info = await peer.migration()
                    if not info.is_under_way:
                        break
                    await trio.sleep(_POLL_S)
            guest = await settle(peer)
        except QmpCommandError:
            raise
        except (QmpError, RemoteError) as error:
            return conclude(console, lost(info, str(error)))
        except trio.TooSlowError:
            late = f"it was cancelled {_PATIENCE_S:.0f} s ago, and has not ended"
            return conclude(console, lost(info, late))
        return _tell(console, _Cancelled(info, guest, trio.current_time() - asked_s))


def _tell(console: Console, cancelled: _Cancelled) -> int:
    console.result(cancelled.facts(), cancelled.text())
    return cancelled.code
