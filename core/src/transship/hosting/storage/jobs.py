"""A copy of a disk as an operator sees it: a job, which stays when it is over."""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Final, final

import trio

from transship.errors import MigrationError

if TYPE_CHECKING:
    from transship.abc.disk import BlockDevice, Disk
    from transship.hosting.storage.mirror import Mirror

_LOG: Final = logging.getLogger(__name__)


class JobStatus(Enum):
    """Where a job is; the values are the words that operators see."""

    RUNNING = "running"
    READY = "ready"
    """The copy has been in step with the disk, and what is written is copied as well."""
    ABORTING = "aborting"
    CONCLUDED = "concluded"
    """It is over, and waits to be dismissed."""


@final
class MirrorJob:
    """A copy of a disk, as an operator sees it.

    Args:
        name: The operator's name of it.
        disk: What is copied.
        node: Name of the device that it is copied to.
        target: That device.
        mirror: The copy.
        is_dismissed_when_over: Whether it goes by itself when it is over.

    Attributes:
        error: Why it failed; None as long as it has not.
    """

    def __init__(
        self,
        name: str,
        disk: Disk,
        node: str,
        target: BlockDevice,
        mirror: Mirror,
        *,
        is_dismissed_when_over: bool,
    ) -> None:
        self.name = name
        self.disk = disk
        self.node = node
        self.target = target
        self.mirror = mirror
        self.is_dismissed_when_over = is_dismissed_when_over
        self.error: str | None = None
        self.is_over = False
        self._running = trio.CancelScope()

    @property
    def status(self) -> JobStatus:
        """Where it is."""
        if self.is_over:
            return JobStatus.CONCLUDED
        if self._running.cancel_called:
            return JobStatus.ABORTING
        return JobStatus.READY if self.mirror.is_ready else JobStatus.RUNNING

    async def run(self) -> None:
        """Copy until told to end."""
        try:
            with self._running:
                await self.mirror.run()
            if self._running.cancelled_caught:
                self.error = "the job was cancelled"
        except MigrationError as error:
            self.error = error.found or error.cause
        except Exception as error:
            _LOG.exception("job %s failed", self.name)
            self.error = f"the job failed: {error!r}"
        finally:
            self.is_over = True

    def cancel(self) -> None:
        """Give up; what has begun of it is interrupted."""
        self._running.cancel()
        self.target.interrupt()
