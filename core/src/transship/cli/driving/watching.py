"""Follows a migration that somebody else has started. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.cli.driving.ends import End, end_of, lost, tell
from transship.cli.driving.following import Follower
from transship.cli.driving.peer import NEVER, reach
from transship.cli.exits import ExitCode
from transship.cli.interrupts import until_interrupted
from transship.cli.progress.forecast import PARAMETER_NAMES
from transship.cli.progress.views import open_view
from transship.control.client import QmpError
from transship.errors import BlockedError, RemoteError

if TYPE_CHECKING:
    from transship.cli.console import Console
    from transship.control.address import QmpAddress


async def watch_over(address: QmpAddress, poll_s: float, console: Console) -> int:
    """Show the migration of a peer until it ends; if it has ended, tell how.

    A signal ends the watching, and nothing else.

    Returns:
        The exit code: as if we had started it; :attr:`ExitCode.LEFT` after a signal.

    Raises:
        MigrationError: There has been none, or the peer cannot be reached.
    """
    code = await until_interrupted(_watch, address, poll_s, console)
    if code == ExitCode.LEFT:
        console.note("not watching any more; the migration goes on")
    return code


async def _watch(address: QmpAddress, poll_s: float, console: Console) -> int:
    return tell(console, await _see_end(address, poll_s, console))


async def _see_end(address: QmpAddress, poll_s: float, console: Console) -> End:
    async with reach(address) as peer:
        if (await peer.migration()).status == NEVER:
            raise BlockedError(
                f"{address} has not migrated", hint="transship migrate starts a migration"
            )
        with open_view(console, str(address)) as view:
            follower = Follower(peer, view, poll_s, PARAMETER_NAMES)
            try:
                await follower.follow()
            except (QmpError, RemoteError) as error:
                return lost(follower.info, str(error))
        return await end_of(peer, follower)
