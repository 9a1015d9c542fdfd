"""The source's half of a copy: a node for each of the destination's disks, and a mirror job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from transship.cli.driving.storage.jobs import jobs_of, wait_ended
from transship.cli.driving.storage.remains import clear_ended, clear_source, cutting
from transship.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transship.cli.driving.peer import Peer
    from transship.cli.driving.storage.drives import Pair
    from transship.cli.driving.storage.jobs import Job
    from transship.cli.driving.storage.order import StorageOrder
    from transship.control.address import QmpAddress

_OPEN_TIMEOUT_S: Final = 3
"""For the source to find the destination's server. A QEMU stands still while it connects."""

_LAST_WRITES_S: Final = 30.0
"""How long the last writes may take to arrive when the guest has stopped."""


class SourceHalf:
    """Mirror jobs on the source.

    Args:
        peer: The source.
        order: What is asked for.
        prefix: How the names of jobs and nodes begin.
    """

    def __init__(self, peer: Peer, order: StorageOrder, prefix: str) -> None:
        self._peer = peer
        self._order = order
        self._prefix = prefix
        self._started: list[str] = []

    async def start(self, pairs: Sequence[Pair], tls: Mapping[str, str]) -> None:
        """Begin to copy."""
        order = self._order
        options: dict[str, Any] = {
            "sync": "top" if order.is_incremental else "full",
            "copy-mode": "write-blocking" if order.is_write_blocking else "background",
            "auto-dismiss": False,
        }
        if order.bandwidth_bytes_per_s:
            options["speed"] = max(order.bandwidth_bytes_per_s // len(pairs), 1)
        for pair in pairs:
            name = f"{self._prefix}{pair.number}"
            self._started.append(name)
            await self._peer.client.execute(
                "blockdev-add",
                driver="nbd",
                node_name=name,
                server=_flat(order.address),
                export=name,
                open_timeout=_OPEN_TIMEOUT_S,
                **tls,
            )
            await self._peer.client.execute(
                "blockdev-mirror", job_id=name, device=pair.source.node, target=name, **options
            )

    async def look(self, pairs: Sequence[Pair]) -> list[Job]:
        """How far each disk is.

        Raises:
            MigrationError: One is not copied any more.
        """
        jobs = await jobs_of(self._peer, self._prefix)
        return [self._still_there(pair, jobs) for pair in pairs]

    async def finish(self, pairs: Sequence[Pair]) -> None:
        """End jobs that are ready, in step with a guest that has stopped, and cut connections.

        Raises:
            MigrationError: A job was not ready, or its last writes did not arrive.
        """
        jobs = await self.look(pairs)
        for pair, job in zip(pairs, jobs, strict=True):
            if not job.is_ready:
                raise MigrationError(
                    f"disk {pair.source.name} is not in step any more", found=job.status
                )
        for job in jobs:
            await self._peer.client.execute("block-job-cancel", device=job.id)
        ended = await wait_ended(self._peer, self._prefix, _LAST_WRITES_S)
        for pair in pairs:
            last = ended.get(f"{self._prefix}{pair.number}")
            if last is None or last.error is not None:
                raise _broken(pair, last)
        await clear_ended(self._peer, self._prefix)
        self._started.clear()

    async def abandon(self) -> None:
        """End the jobs wherever they are, and cut connections."""
        async with cutting(self._peer, self._started):
            await clear_source(self._peer, self._prefix)

    def _still_there(self, pair: Pair, jobs: Mapping[str, Job]) -> Job:
        job = jobs.get(f"{self._prefix}{pair.number}")
        if job is None or job.is_lost:
            raise _broken(pair, job)
        return job


def _broken(pair: Pair, job: Job | None) -> MigrationError:
    reason = "somebody has ended its mirror job" if job is None else job.error or job.status
    return MigrationError(f"the copy of disk {pair.source.name} broke: {reason}")


def _flat(address: QmpAddress) -> dict[str, str]:
    """An address as ``blockdev-add`` takes it."""
    if address.path:
        return {"type": "unix", "path": address.path}
    return {"type": "inet", "host": address.host, "port": str(address.port)}
