"""The jobs of a machine. A job that has ended stays there until somebody dismisses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from transship.errors import StalledError

if TYPE_CHECKING:
    from transship.cli.driving.peer import Peer

POLL_S: Final = 0.01

_READY: Final = frozenset({"ready", "standby"})
_LOST: Final = frozenset({"concluded", "null"})


class Job(msgspec.Struct, frozen=True, rename="kebab"):
    """A job, as ``query-jobs`` has it."""

    id: str
    status: str
    current_progress: int = 0
    total_progress: int = 0
    error: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a mirror has been in step with its disk; it copies what is written since."""
        return self.status in _READY

    @property
    def is_lost(self) -> bool:
        """Whether it copies nothing any more, and was not told to end."""
        return self.status in _LOST

    @property
    def has_ended(self) -> bool:
        """Whether it is over, and can be dismissed."""
        return self.status == "concluded"


async def jobs_of(peer: Peer, prefix: str) -> dict[str, Job]:
    """The jobs whose names begin so."""
    jobs = await peer.ask("query-jobs", list[Job])
    return {job.id: job for job in jobs if job.id.startswith(prefix)}


async def wait_ended(peer: Peer, prefix: str, patience_s: float) -> dict[str, Job]:
    """Wait until all jobs whose names begin so are over.

    Raises:
        StalledError: They are not, in time.
    """
    with trio.move_on_after(patience_s):
        while True:
            jobs = await jobs_of(peer, prefix)
            if all(job.has_ended for job in jobs.values()):
                return jobs
            await trio.sleep(POLL_S)
    raise StalledError(
        f"{peer.address} did not end its mirror jobs within {patience_s:g} s",
        hint="it may wait for a destination that hangs: end that one, and copy again",
    )
