"""Guest memory that the source writes straight into the destination's, beside the stream."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from transship.abc.channel import RemoteMemory
from transship.abc.settings import Capability
from transship.engine.entering import entered
from transship.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from transship.abc.channel import Channel, RemoteRun, RemoteWriter
    from transship.abc.section import Section
    from transship.abc.settings import Settings


class TimedWriter:
    """A writer none of whose steps may take for ever (source).

    Args:
        writer: Borrowed.
        peer: Where it writes.
        timeout_s: How long a step may take.
    """

    def __init__(self, writer: RemoteWriter, peer: str, timeout_s: float) -> None:
        self._writer = writer
        self._peer = peer
        self._timeout_s = timeout_s

    async def write(self, runs: Iterable[RemoteRun]) -> None:
        """Begin to write runs.

        Raises:
            StalledError: There was no room for them in time.
            ChannelError: The channel broke.
        """
        with trio.move_on_after(self._timeout_s) as scope:
            await self._writer.write(list(runs))
        self._check(scope)

    async def flush(self) -> None:
        """Wait until all of it is there; errors as :meth:`write`."""
        with trio.move_on_after(self._timeout_s) as scope:
            await self._writer.flush()
        self._check(scope)

    def _check(self, scope: trio.CancelScope) -> None:
        if scope.cancelled_caught:
            raise StalledError(
                f"{self._peer} took no memory for {self._timeout_s:g} s",
                hint="the destination hangs, or the network is gone",
            )


@asynccontextmanager
async def writing(
    channel: Channel, remote: RemoteMemory, sections: Iterable[Section], settings: Settings
) -> AsyncIterator[TimedWriter]:
    """Write memory of sections to what the destination exposes, while the block lasts (source).

    Raises:
        ConnectError: The destination does not expose it in time.
        ChannelError: The channel broke, or other memory is exposed.
    """
    limits = settings.parameters
    with ExitStack() as views:
        memory = _memory(sections, views)
        mirror = remote.mirror(memory, at_once=settings.has(Capability.RDMA_PIN_ALL))
        async with entered(mirror, limits.stall_timeout_s, limits.cleanup_timeout_s) as writer:
            yield TimedWriter(writer, channel.peer, limits.stall_timeout_s)


class Exposure:
    """Memory of sections that the source may write to (destination).

    Args:
        channel: Over which it does; borrowed.
        settings: Of the migration.
        nursery: Where it is held open.
    """

    def __init__(self, channel: Channel, settings: Settings, nursery: trio.Nursery) -> None:
        self._remote = channel.capability(RemoteMemory)
        self._settings = settings
        self._nursery = nursery
        self._sections: list[Section] = []
        self._has_begun = False
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def is_possible(self) -> bool:
        """Whether the channel can do it."""
        return self._remote is not None

    async def begin(self, sections: Iterable[Section]) -> bool:
        """Expose what memory they have, once; says whether there is any, and it could be done.

        Raises:
            ConnectError: It could not be registered in time.
            ChannelError: The channel broke.
        """
        if self._remote is None or self._has_begun:
            return False
        self._has_begun = True
        failure = await self._nursery.start(self._hold, self._remote, list(sections))
        if failure is not None:
            raise failure
        return bool(self._sections)

    async def _hold(
        self,
        remote: RemoteMemory,
        sections: Iterable[Section],
        *,
        task_status: trio.TaskStatus[Exception | None],
    ) -> None:
        """Expose the memory until it is over; says why, if that cannot be done."""
        limits = self._settings.parameters
        at_once = self._settings.has(Capability.RDMA_PIN_ALL)
        is_open = False
        try:
            with self._scope, ExitStack() as views:
                memory = self._take_memory(sections, views)
                if not memory:
                    task_status.started(None)
                    return
                exposed = remote.expose(memory, at_once=at_once)
                async with entered(exposed, limits.stall_timeout_s, limits.cleanup_timeout_s):
                    is_open = True
                    task_status.started(None)
                    await trio.sleep_forever()
        except Exception as error:
            if is_open:
                raise
            task_status.started(error)
        finally:
            self._ended.set()

    def _take_memory(self, sections: Iterable[Section], views: ExitStack) -> dict[str, memoryview]:
        memory: dict[str, memoryview] = {}
        for section in sections:
            own = _memory((section,), views)
            if own:
                self._sections.append(section)
            memory.update(own)
        return memory

    async def end_of(self, section: Section) -> None:
        """A section has come to its end: if memory of its is exposed, let nothing more be written.

        Shielded.
        """
        if section in self._sections:
            await self.end()

    async def end(self) -> None:
        """Let nothing be written any more; idempotent, shielded."""
        if self._has_begun:
            self._scope.cancel()
            with trio.CancelScope(shield=True):
                await self._ended.wait()


def _memory(sections: Iterable[Section], views: ExitStack) -> dict[str, memoryview]:
    memory: dict[str, memoryview] = {}
    for section in sections:
        for idstr, view in section.remote_memory().items():
            memory[idstr] = views.enter_context(view)
    return memory
