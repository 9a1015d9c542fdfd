"""Remote memory within this process, for tests of what uses it.

Runs are copied as late as they may be: whoever does not flush, or counts on the moment of a write,
finds out here.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

import trio

from transship.abc.channel import RemoteRun, RemoteWriter
from transship.errors import ChannelError
from transship.toolkit.conflict import ConflictDetector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence


@final
class SharedMemory:
    """Where the two ends of a pair of channels meet: one exposes, the other mirrors."""

    def __init__(self) -> None:
        self._exposed: Mapping[str, memoryview] | None = None
        self._broken: ChannelError | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def break_(self, reason: ChannelError) -> None:
        """End all use: the channel is at its end; the first reason is kept."""
        self._broken = self._broken or reason
        self._changed.unpark_all()

    def target_of(self, exposed: Mapping[str, memoryview]) -> Mapping[str, memoryview]:
        """The memory to write to, for as long as it is the same that was mirrored.

        Raises:
            ChannelError: It is not.
        """
        if self._broken is not None:
            raise ChannelError(self._broken.cause)
        if self._exposed is not exposed:
            raise ChannelError("the destination does not expose its memory any more")
        return exposed

    @asynccontextmanager
    async def expose(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[None]:
        """See :meth:`transship.abc.RemoteMemory.expose`."""
        await trio.lowlevel.checkpoint()
        if self._broken is not None:
            raise ChannelError(self._broken.cause)
        if self._exposed is not None:
            raise trio.BusyResourceError("this channel exposes memory already")
        self._exposed = dict(blocks)
        self._changed.unpark_all()
        try:
            yield
        finally:
            self._exposed = None
            self._changed.unpark_all()

    @asynccontextmanager
    async def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AsyncIterator[RemoteWriter]:
        """See :meth:`transship.abc.RemoteMemory.mirror`."""
        await trio.lowlevel.checkpoint()
        while self._exposed is None:
            if self._broken is not None:
                raise ChannelError(self._broken.cause)
            await self._changed.park()
        theirs = {idstr: block.nbytes for idstr, block in self._exposed.items()}
        ours = {idstr: block.nbytes for idstr, block in blocks.items()}
        if ours != theirs:
            raise ChannelError(
                "the two sides have different blocks", expected=str(theirs), found=str(ours)
            )
        writer = _LateWriter(self, blocks, self._exposed)
        try:
            yield writer
        finally:
            writer.stop()


@final
class _LateWriter(RemoteWriter):
    """Copies when flushed."""

    def __init__(
        self,
        meeting: SharedMemory,
        here: Mapping[str, memoryview],
        there: Mapping[str, memoryview],
    ) -> None:
        self._meeting = meeting
        self._here = here
        self._there = there
        self._waiting: list[RemoteRun] = []
        self._using = ConflictDetector("another task is writing")
        self._has_stopped = False

    def stop(self) -> None:
        """Copy nothing any more."""
        self._has_stopped = True
        self._waiting.clear()

    async def write(self, runs: Sequence[RemoteRun]) -> None:
        """Begin to write runs; see :meth:`RemoteWriter.write`."""
        for run in runs:
            block = self._here.get(run.idstr)
            if block is None:
                raise ValueError(f"{run.idstr!r} is none of the blocks that were mirrored")
            if run.offset < 0 or run.length < 0 or run.offset + run.length > block.nbytes:
                raise ValueError(f"{run} is not within its block")
        with self._using:
            await self._checkpoint()
            self._waiting += runs

    async def flush(self) -> None:
        """Wait until all is there; see :meth:`RemoteWriter.flush`."""
        with self._using:
            await self._checkpoint()
            there = self._meeting.target_of(self._there)
            for idstr, offset, length in self._waiting:
                with (
                    self._here[idstr][offset : offset + length] as source,
                    there[idstr][offset : offset + length] as target,
                ):
                    target[:] = source
            self._waiting.clear()

    async def _checkpoint(self) -> None:
        if self._has_stopped:
            raise ChannelError("this writer is of no more use")
        try:
            await trio.lowlevel.checkpoint()
            self._meeting.target_of(self._there)
        except BaseException:
            self.stop()
            raise
