"""Removes what a copy has set up, by its names: ours when it ends, and what an earlier one left."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from transship.cli.driving.storage.jobs import POLL_S, jobs_of, wait_ended
from transship.control.client import QmpClosedError, QmpCommandError, QmpTimeoutError
from transship.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from transship.cli.driving.peer import Peer

PREFIX: Final = "transship-copy-"
"""With it begin the names of all jobs, nodes and exports that we make, in any run."""

_CANCELLING_S: Final = 10.0
"""How long a mirror may take to give up when its connection is cut."""

_CUTTING_EVERY_S: Final = 0.1

_EXPORTS_S: Final = 10.0


class _Node(msgspec.Struct, frozen=True, rename="kebab"):
    node_name: str = ""


class Export(msgspec.Struct, frozen=True, rename="kebab"):
    """An export, as ``query-block-exports`` has it."""

    id: str
    type: str = ""


@asynccontextmanager
async def cutting(source: Peer, names: Collection[str]) -> AsyncIterator[None]:
    """Break the connections of nodes, if there are such nodes, whenever they come about inside.

    A QEMU may hang for as long as the other end of such a connection does, and so may its guest.
    It hears this nevertheless. And it connects again for the next request.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_cutting, source, names)
        try:
            yield
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure  # as it is, without the nursery's group around it


async def _keep_cutting(source: Peer, names: Collection[str]) -> None:
    with suppress(QmpClosedError, QmpTimeoutError):  # whoever gives other commands notices too
        while True:
            for name in names:
                instance = {"type": "block-node", "node-name": name}
                with suppress(QmpCommandError):
                    await source.client.overtake("yank", instances=[instance])
            await trio.sleep(_CUTTING_EVERY_S)


async def clear_source(source: Peer, prefix: str) -> None:
    """End the jobs whose names begin so, whatever they have done, and remove their nodes.

    Raises:
        QmpError: The source does not do it.
        StalledError: A job does not end.
    """
    jobs = await jobs_of(source, prefix)
    async with cutting(source, jobs):
        for job in jobs.values():
            if not job.has_ended:
                with suppress(QmpCommandError):  # it has ended meanwhile
                    await source.client.execute("block-job-cancel", device=job.id, force=True)
        await wait_ended(source, prefix, _CANCELLING_S)
        await clear_ended(source, prefix)


async def clear_ended(source: Peer, prefix: str) -> None:
    """Dismiss jobs that are over, and remove their nodes."""
    for job in (await jobs_of(source, prefix)).values():
        await source.client.execute("job-dismiss", id=job.id)
    for node in await source.ask("query-named-block-nodes", list[_Node], flat=True):
        if node.node_name.startswith(prefix):
            await source.client.execute("blockdev-del", node_name=node.node_name)


async def clear_exports(destination: Peer, prefix: str) -> None:
    """Remove the exports whose names begin so, and wait until they are gone.

    Raises:
        QmpError: The destination does not do it.
        StalledError: One does not go.
    """
    for export in await exports_of(destination):
        if export.id.startswith(prefix):
            await destination.client.execute("block-export-del", id=export.id, mode="hard")
    with trio.move_on_after(_EXPORTS_S):
        while True:
            if not any(one.id.startswith(prefix) for one in await exports_of(destination)):
                return
            await trio.sleep(POLL_S)
    raise StalledError(f"{destination.address} did not end its exports within {_EXPORTS_S:g} s")


async def exports_of(peer: Peer) -> list[Export]:
    """All exports of a machine."""
    return await peer.ask("query-block-exports", list[Export])
