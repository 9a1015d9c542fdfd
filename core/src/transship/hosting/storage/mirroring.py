"""Copies of a guest's disks to other devices: those devices and the jobs, by operators' names."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, final

import trio

from transship import assembly
from transship.errors import BlockedError
from transship.hosting.storage.jobs import JobStatus, MirrorJob
from transship.hosting.storage.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.abc.disk import BlockDevice, Disk
    from transship.abc.guest import Guest
    from transship.abc.security import ConnectionSecurity
    from transship.abc.transport import Options

_LOG: Final = logging.getLogger(__name__)

MOST: Final = 64
"""Nodes, and as many jobs."""


@final
class Mirroring:
    """All copies of the disks of one guest.

    Args:
        guest: Whose disks; they are only read.
        nursery: Where the jobs run.
        check: Raises ``BlockedError`` when no copy of a disk may begin.

    Attributes:
        nodes: The devices that disks are copied to.
        jobs: The jobs, those included that are over and have not been dismissed.
    """

    def __init__(self, guest: Guest, nursery: trio.Nursery, check: Callable[[], None]) -> None:
        self.nodes: dict[str, BlockDevice] = {}
        self.jobs: dict[str, MirrorJob] = {}
        self._guest = guest
        self._nursery = nursery
        self._check = check
        self._opening: set[str] = set()

    async def add_node(
        self, name: str, uri: str, options: Options, security: ConnectionSecurity | None = None
    ) -> None:
        """Open a device that a disk can be copied to.

        Args:
            name: What it is called from now on.
            uri: Its address.
            options: For the plugin of its scheme.
            security: Secures the connections to it; None for what the address itself asks for.

        Raises:
            BlockedError: The name is in use, or there are too many; the address is malformed; the
                plugin of its scheme cannot secure connections, and is to.
            ConnectError: It cannot be reached.
            PluginError: No plugin knows the scheme.

        Cancellation: nothing is added.
        """
        self._check_new(name)
        self._opening.add(name)
        try:
            device = await trio.to_thread.run_sync(
                partial(assembly.open_block_device, uri, options, security)
            )
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            except trio.Cancelled:
                device.close()
                raise
            self.nodes[name] = device
        finally:
            self._opening.discard(name)

    async def remove_node(self, name: str) -> None:
        """Close a device.

        Raises:
            BlockedError: There is none of that name, or a job uses it.
        """
        if name not in self.nodes:
            raise BlockedError(f"there is no node {name!r}")
        for job in self.jobs.values():
            if job.node == name and not job.is_over:
                raise BlockedError(f"node {name!r} is used by job {job.name!r}")
        device = self.nodes.pop(name)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(device.close)

    def start(
        self,
        name: str,
        disk: Disk,
        node: str,
        *,
        only_allocated: bool,
        follows_writes: bool,
        cap_bytes_per_s: int,
        is_dismissed_when_over: bool,
    ) -> MirrorJob:
        """Begin to copy a disk; see :class:`~transship.hosting.storage.mirror.Mirror`.

        Raises:
            BlockedError: The guest is not here, or on its way; there is a job of that name, or too
                many; or no such node, or the node or the disk is in use.
        """
        self._check()
        if name in self.jobs:
            raise BlockedError(f"there is a job {name!r} already")
        if len(self.jobs) >= MOST:
            raise BlockedError(f"there are {MOST} jobs already", hint="job-dismiss removes one")
        target = self.nodes.get(node)
        if target is None:
            raise BlockedError(f"there is no node {node!r}")
        for other in self.jobs.values():
            if not other.is_over and (other.node == node or other.disk is disk):
                raise BlockedError(
                    f"job {other.name!r} copies disk {other.disk.name!r} to node {other.node!r}"
                )
        mirror = Mirror(
            disk,
            target,
            only_allocated=only_allocated,
            follows_writes=follows_writes,
            cap_bytes_per_s=cap_bytes_per_s,
        )
        job = MirrorJob(
            name, disk, node, target, mirror, is_dismissed_when_over=is_dismissed_when_over
        )
        self.jobs[name] = job
        self._nursery.start_soon(self._run, job)
        return job

    def check_over(self) -> None:
        """Refuse to let the guest go while a copy of one of its disks is under way.

        What it writes until it goes would be in no copy; and a copy that somebody waits for would
        come to an end with the destination's guest running.

        Raises:
            BlockedError: A job is not over.
        """
        for job in self.jobs.values():
            if not job.is_over:
                raise BlockedError(
                    f"job {job.name!r} still copies disk {job.disk.name!r}",
                    found=job.status.value,
                    hint="block-job-cancel ends it; transship migrate --copy-storage hands over "
                    "what it copies",
                )

    def dismiss(self, name: str) -> None:
        """Forget a job that is over.

        Raises:
            BlockedError: It is not, or there is none of that name.
        """
        if name not in self.jobs:
            raise BlockedError(f"there is no job {name!r}")
        job = self.jobs[name]
        if not job.is_over:
            raise BlockedError(
                f"job {name!r} is not over",
                expected=JobStatus.CONCLUDED.value,
                found=job.status.value,
            )
        del self.jobs[name]

    def cancel(self) -> None:
        """Give all jobs up."""
        for job in self.jobs.values():
            if not job.is_over:
                job.cancel()

    async def close(self) -> None:
        """Close all devices, when all jobs have ended.

        Cancellation: they are closed all the same.
        """
        with trio.CancelScope(shield=True):
            while self.nodes:
                name, device = self.nodes.popitem()
                device.interrupt()
                try:
                    await trio.to_thread.run_sync(device.close)
                except Exception:
                    _LOG.exception("node %s could not be closed", name)

    async def _run(self, job: MirrorJob) -> None:
        await job.run()
        if job.is_dismissed_when_over:
            self.jobs.pop(job.name, None)

    def _check_new(self, name: str) -> None:
        taken = {*self.nodes, *self._opening}
        taken.update(disk.node_name for disk in self._guest.disks())
        if name in taken:
            raise BlockedError(f"there is a node {name!r} already")
        if len(self.nodes) + len(self._opening) >= MOST:
            raise BlockedError(f"there are {MOST} nodes already", hint="blockdev-del removes one")
