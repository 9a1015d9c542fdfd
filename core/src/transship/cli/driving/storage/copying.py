"""A copy of disks from before a migration to its switchover.

At no moment have two a right to write a disk on the destination: until the switchover it is the
source's mirror jobs, and the guest is let go to the destination only when they have ended, their
connections are cut, and nothing is exported any more. The source's disks are only read.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from transship.cli.driving.peer import BEFORE_SWITCHOVER, refusal_of
from transship.cli.driving.storage.destination_half import DestinationHalf
from transship.cli.driving.storage.drives import pair_disks
from transship.cli.driving.storage.remains import PREFIX, clear_source
from transship.cli.driving.storage.source_half import SourceHalf
from transship.cli.driving.storage.surroundings import EVENTS, PAUSE, check_peers, encryption
from transship.cli.progress.disks import DiskProgress, StorageProgress
from transship.control.client import QmpClosedError, QmpCommandError, QmpError
from transship.errors import BlockedError, MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from transship.cli.driving.peer import MigrationInfo, Peer
    from transship.cli.driving.storage.drives import Pair
    from transship.cli.driving.storage.order import StorageOrder

_CLEARING_S: Final = 15.0
"""How long each side may take to remove what the copy has set up there."""


class StorageCopy:
    """The disks of one migration.

    Args:
        source: Whose disks.
        destination: Where to.
        order: What is asked for.

    Attributes:
        progress: The last look.
        was_handed_over: Whether we let the guest go, when the disks were the same and nobody wrote
            to them any more.
    """

    def __init__(self, source: Peer, destination: Peer, order: StorageOrder) -> None:
        prefix = f"{PREFIX}{secrets.token_hex(4)}-"
        self.progress = StorageProgress()
        self.was_handed_over = False
        self._source = source
        self._destination = destination
        self._order = order
        self._mirroring = SourceHalf(source, order, prefix)
        self._serving = DestinationHalf(destination, order.address, prefix)
        self._pairs: list[Pair] = []
        self._began_s = 0.0
        self._is_over = False
        self._switched: dict[str, bool] = {}

    async def prepare(self, capabilities: Mapping[str, bool]) -> None:
        """Make sure that it can be done. Removes what an earlier copy has left on the source.

        Args:
            capabilities: What will be switched at the source before the migration.

        Raises:
            BlockedError: It cannot. Nothing has been set up.
            QmpError: A peer is lost.
        """
        await check_peers(self._source, self._destination, capabilities)
        self._pairs = await pair_disks(self._source, self._destination, self._order)
        await clear_source(self._source, PREFIX)

    async def copy(self, show: Callable[[StorageProgress], None], poll_s: float) -> None:
        """Copy the disks until all are in step, and have the migration wait for them at its end.

        Args:
            show: Is told how far it is.
            poll_s: Pause between two looks.

        Raises:
            MigrationError: It failed.
            QmpError: A peer is lost, or refuses.
        """
        here, there = await encryption(self._source, self._destination)
        self._began_s = trio.current_time()
        with _naming(self._destination):
            await self._serving.start(there)
            for pair in self._pairs:
                await self._serving.export(pair)
        with _naming(self._source):
            await self._mirroring.start(self._pairs, here)
        while True:
            await self._look()
            show(self.progress)
            if self.progress.is_ready:
                break
            await trio.sleep(poll_s)
        known = await self._source.capabilities()
        self._switched = {name: known[name] for name in (PAUSE, EVENTS) if not known[name]}
        if self._switched:
            await self._source.set_capabilities(dict.fromkeys(self._switched, True))

    async def accompany(self, info: MigrationInfo) -> MigrationError | None:
        """Look after the disks while the migration is under way, and hand them over at its end.

        Args:
            info: Where the migration is.

        Returns:
            Why the migration must be cancelled; None if it need not.

        Raises:
            QmpError: The source is lost.
        """
        if self._is_over:
            return None
        try:
            if info.status == BEFORE_SWITCHOVER:
                self._is_over = True
                await self._hand_over()
            else:
                await self._look()
        except MigrationError as error:
            return error
        except QmpError as error:
            self._source.client.check()
            is_refused = isinstance(error, QmpCommandError)
            return MigrationError(str(error)) if is_refused else refusal_of(error)
        return None

    async def remove(self) -> list[str]:
        """Remove what is still set up, on both sides; without effect where nothing is.

        Returns:
            What could not be removed, and why, each as a sentence.
        """
        self._is_over = True
        left = []
        for peer, clear in (
            (self._source, self._mirroring.abandon),
            (self._source, self._restore),
            (self._destination, self._serving.stop),
        ):
            try:
                with trio.fail_after(_CLEARING_S):
                    await clear()
            except QmpClosedError:
                pass  # what it was has gone with it
            except (QmpError, MigrationError, trio.TooSlowError) as error:
                reason = str(error) or f"no answer within {_CLEARING_S:g} s"
                left.append(f"not everything could be removed from {peer.address}: {reason}")
        return left

    async def _look(self) -> None:
        jobs = await self._mirroring.look(self._pairs)
        self.progress = StorageProgress(
            tuple(
                DiskProgress(
                    pair.source.name, job.current_progress, job.total_progress, job.is_ready
                )
                for pair, job in zip(self._pairs, jobs, strict=True)
            ),
            trio.current_time() - self._began_s,
        )

    async def _hand_over(self) -> None:
        await self._look()
        await self._mirroring.finish(self._pairs)
        await self._serving.stop()
        await self._source.go_on()
        self.was_handed_over = True

    async def _restore(self) -> None:
        if self._switched:
            await self._source.set_capabilities(self._switched)
            self._switched = {}


@contextmanager
def _naming(peer: Peer) -> Iterator[None]:
    """Say which of the two it is that refuses a command."""
    try:
        yield
    except QmpCommandError as error:
        raise BlockedError(f"{peer.address} refuses {error}") from error
