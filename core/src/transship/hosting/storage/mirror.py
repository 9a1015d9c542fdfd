"""Copies a disk to another device while its guest writes, until the two are the same."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, final

import trio

from transship.errors import BlockedError, LocalError, MigrationError
from transship.memory.bitmap import DirtyBitmap
from transship.toolkit import RangeLocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transship.abc.disk import BlockDevice, Disk
    from transship.memory.runs import PageRun

_T = TypeVar("_T")

GRANULE_BYTES: Final = 64 << 10
"""What one write at least makes dirty."""

_STEP_BYTES: Final = 1 << 20
"""What is read at once."""

_PIECE_BYTES: Final = 4 << 20
"""What is asked about, and taken by a thread, at once; only a step where there is a cap."""

_THREADS: Final = 4

_IN_STEP_BYTES: Final = 1 << 20
"""What may be left of a disk that counts as copied: the guest may write all the time."""

_LOOK_EVERY_S: Final = 0.02
"""How often a disk that is in step is asked for new writes."""

_FLUSH_EVERY_S: Final = 1.0
"""What was copied since has still to be flushed when the guest stands still."""


@final
class Mirror:
    """One copy of a disk: from when it is made until :meth:`run`, which is to be called, returns.

    First everything is copied, then what the guest has written meanwhile, and so on. Once
    :meth:`finish` has been called, or from the beginning if so asked for, a write of the guest is
    in the copy before the guest hears that it has written; then the copy comes to an end.

    Args:
        disk: What is copied; only read.
        target: Where to, at least as large; the caller's. Is acquired, and released when the copy
            has come to its end; after a failure it is still acquired.
        only_allocated: Whether only that is copied which the disk does not have from its base.
        follows_writes: Whether the guest's writes wait for the copy from the beginning.
        cap_bytes_per_s: How fast it may be copied; 0 for as fast as it goes.

    Attributes:
        copied_bytes: What has been copied, what was written again counted again.
        is_ready: Whether the copy has been in step with the disk. A guest that writes faster than
            it is copied may be ahead again, unless its writes wait.
    """

    def __init__(
        self,
        disk: Disk,
        target: BlockDevice,
        *,
        only_allocated: bool = False,
        follows_writes: bool = False,
        cap_bytes_per_s: int = 0,
    ) -> None:
        self.copied_bytes = 0
        self.is_ready = False
        self._disk = disk
        self._target = target
        self._only_allocated = only_allocated
        self._follows_writes = follows_writes
        self._log = disk.start_log(GRANULE_BYTES)
        self._dirty = DirtyBitmap(-(-disk.size_bytes // GRANULE_BYTES))
        self._ranges = RangeLocks()
        self._threads = trio.CapacityLimiter(_THREADS)
        self._failure: Exception | None = None
        self._is_over = False
        self._is_finishing = trio.Event()
        self._cap_bytes_per_s = cap_bytes_per_s
        self._cap_has_changed = trio.Event()
        self._may_go_on_s = 0.0

    @property
    def cap_bytes_per_s(self) -> int:
        """How fast it may be copied; 0 for as fast as it goes. May be set at any time."""
        return self._cap_bytes_per_s

    @cap_bytes_per_s.setter
    def cap_bytes_per_s(self, cap_bytes_per_s: int) -> None:
        self._cap_bytes_per_s = cap_bytes_per_s
        self._may_go_on_s = 0.0
        self._cap_has_changed.set()
        self._cap_has_changed = trio.Event()

    @property
    def remaining_bytes(self) -> int:
        """What is known to be left."""
        granules = self._dirty.count() + self._log.count_dirty()
        return min(granules * GRANULE_BYTES, self._disk.size_bytes)

    def finish(self) -> None:
        """Come to an end as soon as the two are the same; what is left is copied without a cap."""
        self.cap_bytes_per_s = 0
        self._is_finishing.set()

    async def run(self) -> None:
        """Copy until :meth:`finish` has been called, and the two are the same.

        Raises:
            BlockedError: The target is smaller, or cannot be written.
            LocalError: The disk cannot be read, or the target not be written. The guest has its
                disk as before; a write that waited for the copy has waited for that to fail.

        Cancellation: waits for reads and writes that have begun; the target's ``interrupt`` ends
        those. The guest's writes go into the copy no more.
        """
        try:
            await self._in_thread(self._target.acquire)
            self._check_target()
            await self._in_thread(self._mark_what_there_is)
            if self._follows_writes:
                self._log.follow_with(self._follow)
            await self._keep_in_step()
            self._log.follow_with(self._follow)
            await self._copy_until_clean()
            self._log.stop()
            await self._in_thread(self._end)
        except Exception as error:
            await trio.lowlevel.checkpoint_if_cancelled()  # then it is what has been interrupted
            if isinstance(error, MigrationError):
                raise
            raise self._broken(error) from error
        finally:
            self._log.stop()
            self._is_over = True

    def _check_target(self) -> None:
        if self._target.size_bytes < self._disk.size_bytes:
            raise BlockedError(
                f"disk {self._disk.name!r} does not fit its copy",
                expected=f"at least {self._disk.size_bytes} bytes",
                found=f"{self._target.size_bytes} bytes",
            )
        if self._target.is_read_only:
            raise BlockedError(f"the copy of disk {self._disk.name!r} cannot be written")

    def _mark_what_there_is(self) -> None:
        if not self._only_allocated:
            self._dirty.mark_all()
            return
        for extent in self._disk.device.extents(0, self._disk.size_bytes):
            if extent.is_allocated:
                first, end = extent.offset // GRANULE_BYTES, -(-extent.end // GRANULE_BYTES)
                self._dirty.mark(first, end - first)

    async def _keep_in_step(self) -> None:
        flushed_s = -_FLUSH_EVERY_S
        while not self._is_finishing.is_set():
            await self._copy_round()
            if self._log.count_dirty() * GRANULE_BYTES > _IN_STEP_BYTES:
                continue
            if trio.current_time() - flushed_s >= _FLUSH_EVERY_S:
                await self._in_thread(self._target.flush)
                flushed_s = trio.current_time()
            self.is_ready = True
            with trio.move_on_after(_LOOK_EVERY_S):
                await self._is_finishing.wait()

    async def _copy_until_clean(self) -> None:
        """What is noted no more, as writes are followed, becomes less with every round."""
        while not (self._log.is_clean and self._dirty.is_clean):
            await self._copy_round()

    async def _copy_round(self) -> None:
        """Copy what was dirty when this began."""
        if self._log.is_clean and self._dirty.is_clean:
            self._check_failure()
            return
        await self._in_thread(self._gather)
        pieces = self._pieces()
        async with trio.open_nursery() as nursery:
            for _ in range(_THREADS):
                nursery.start_soon(self._copy_some, pieces)
        self._check_failure()

    def _gather(self) -> None:
        self._dirty.merge(self._log.take())

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _pieces(self) -> Iterator[PageRun]:
        """What is dirty; it is so until it has been copied."""
        place = 0
        while True:
            most = _STEP_BYTES if self._cap_bytes_per_s else _PIECE_BYTES
            run = self._dirty.next_run(place, most // GRANULE_BYTES)
            if run is None:
                return
            place = run.end
            yield run

    async def _copy_some(self, pieces: Iterator[PageRun]) -> None:
        for run in pieces:
            await self._wait_for_turn()
            if self._failure is not None:
                return
            start = run.first * GRANULE_BYTES
            end = min(run.end * GRANULE_BYTES, self._disk.size_bytes)
            try:
                carried_bytes = await self._in_thread(partial(self._copy, start, end))
            except Exception as error:
                self._failure = error
                return
            self._dirty.clear(run.first, run.count)
            self.copied_bytes += end - start
            self._charge(carried_bytes)

    async def _wait_for_turn(self) -> None:
        while (left_s := self._may_go_on_s - trio.current_time()) > 0:
            with trio.move_on_after(left_s):
                await self._cap_has_changed.wait()

    def _charge(self, carried_bytes: int) -> None:
        if self._cap_bytes_per_s:
            earliest_s = max(self._may_go_on_s, trio.current_time())
            self._may_go_on_s = earliest_s + carried_bytes / self._cap_bytes_per_s

    def _copy(self, start: int, end: int) -> int:
        """Copy a range as it is now, while nobody else copies any of it; all but zeroes count."""
        carried_bytes = 0
        with self._ranges.held(range(start, end)):
            for extent in self._disk.device.extents(start, end - start):
                if extent.reads_as_zero:
                    self._target.write_zeroes(extent.offset, extent.length)
                else:
                    self._copy_bytes(extent.offset, extent.end)
                    carried_bytes += extent.length
        return carried_bytes

    def _copy_bytes(self, start: int, end: int) -> None:
        room = memoryview(bytearray(min(_STEP_BYTES, end - start)))
        for place in range(start, end, _STEP_BYTES):
            data = room[: min(_STEP_BYTES, end - place)]
            self._disk.read_into(place, data)
            self._target.write(place, data)

    def _follow(self, offset: int, length: int) -> None:
        """Have in the copy what the guest has just written, in its thread."""
        start, end = max(offset, 0), min(offset + length, self._disk.size_bytes)
        if start >= end:
            return
        try:
            with self._ranges.held(range(start, end)):
                if self._failure is None and not self._is_over:
                    self._copy_bytes(start, end)
        except Exception as error:
            self._failure = error

    def _end(self) -> None:
        """Have all of it on the medium there; a write of the guest that is later is not copied."""
        with self._ranges.held(range(self._disk.size_bytes)):
            self._is_over = True
            self._check_failure()
            self._target.release()

    def _broken(self, error: Exception) -> LocalError:
        reason = getattr(error, "strerror", None) or str(error)
        return LocalError(f"the copy of disk {self._disk.name!r} broke", found=reason)

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(function, limiter=self._threads)
