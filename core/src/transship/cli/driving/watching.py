"""Follows a migration that somebody else has started. Changes nothing."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import trio

from transship.cli.driving.ends import End, conclude, end_of, lost
from transship.cli.driving.following import Follower
from transship.cli.driving.peer import NEVER, reach
from transship.cli.progress.views import open_view
from transship.control.client import QmpError
from transship.errors import BlockedError, MigrationError, RemoteError

if TYPE_CHECKING:
    from transship.cli.console import Console
    from transship.control.address import QmpAddress

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


async def watch_over(address: QmpAddress, poll_s: float, console: Console) -> int:
    """Show the migration of a peer until it ends; if it has ended, tell how.

    A signal ends the watching, and nothing else.

    Returns:
        The exit code: as if we had started it; after a signal, 128 more than the signal.

    Raises:
        MigrationError: There has been none, or the peer cannot be reached.
    """
    end: End | None = None
    refusal: MigrationError | None = None
    caught = 0
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                nonlocal caught
                caught = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave)
            try:
                end = await _watch(address, poll_s, console)
            except MigrationError as error:
                refusal = error
            nursery.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    if end is not None:
        return conclude(console, end)
    console.note("not watching any more; the migration goes on")
    return 128 + caught


async def _watch(address: QmpAddress, poll_s: float, console: Console) -> End:
    async with reach(address) as peer:
        if (await peer.migration()).status == NEVER:
            raise BlockedError(
                f"{address} has not migrated", hint="transship migrate starts a migration"
            )
        with open_view(console, str(address)) as view:
            follower = Follower(peer, view, poll_s)
            try:
                await follower.follow()
            except (QmpError, RemoteError) as error:
                return lost(follower.info, str(error))
        return await end_of(peer, follower)
