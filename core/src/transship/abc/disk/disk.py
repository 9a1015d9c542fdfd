"""A disk of a guest: who may write to it on this side, and what is remembered of writes."""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from threading import Condition, Lock
from typing import TYPE_CHECKING, Final, final

from transship.abc.disk.log import DiskLog, mark
from transship.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transship.abc.disk.device import BlockDevice
    from transship.abc.disk.log import DiskBitmap
    from transship.buffers import Buffer


class DiskState(Enum):
    """Who may write to a disk on this side. In all states but the first its device is acquired."""

    INACTIVE = "inactive"
    """Nobody."""
    LOADING = "loading"
    """Who holds the :class:`DiskLoad`: the guest is still to come."""
    ACTIVE = "active"
    """The guest."""
    QUIESCED = "quiesced"
    """Nobody, as the guest stands still; it may be given back to the guest, or up."""


@final
class Disk:
    """A disk of a guest.

    It begins inactive. On the source it is active until the guest stands still for the hand-over,
    then quiesced, then given up; on the destination it is active once the guest is there. In
    between nobody has it. Whoever brings the disk's bytes before that has it to itself, by
    :meth:`start_load`.

    What the guest does blocks, and is for the threads of its processors or for worker threads;
    several may call at once. For tasks there are :meth:`read` and :meth:`store`.

    Args:
        name: What the stream calls it (the name of QEMU's block backend).
        device: What holds its bytes; closed by whoever made it.
        node_name: What block bitmaps call it; the name, if not given.
        bitmaps: Dirty bitmaps that it has from the start.

    Attributes:
        bitmaps: Its named dirty bitmaps, by name, in the order in which they were made.
        marking: Held while a write is noted in bitmaps and logs.
    """

    def __init__(
        self,
        name: str,
        device: BlockDevice,
        *,
        node_name: str | None = None,
        bitmaps: Sequence[DiskBitmap] = (),
    ) -> None:
        self.name: Final = name
        self.device: Final = device
        self.node_name: Final = name if node_name is None else node_name
        self.bitmaps: Final = {bitmap.name: bitmap for bitmap in bitmaps}
        self.marking: Final = Lock()
        self._logs: tuple[DiskLog, ...] = ()
        self._state = DiskState.INACTIVE
        self._load: DiskLoad | None = None
        self._writes = 0
        self._changing = Lock()
        self._quiet = Condition(Lock())

    def __repr__(self) -> str:
        return f"<Disk {self.name!r}, {self._state.value}>"

    @property
    def size_bytes(self) -> int:
        """How many bytes it has now."""
        return self.device.size_bytes

    @property
    def state(self) -> DiskState:
        """Who may write to it on this side."""
        return self._state

    @property
    def is_active(self) -> bool:
        """Whether the guest may write to it on this side."""
        return self._state is DiskState.ACTIVE

    # Who has it. Blocking; the engine calls these, and hosts before a guest first runs.

    def activate(self) -> None:
        """Own the device, and let the guest write; idempotent.

        Waits for what is being loaded; whoever loads has no right to from then on.

        Raises:
            LocalError: Somebody else has it, or it does not answer; nothing has changed.
        """
        with self._changing:
            if self._state is DiskState.ACTIVE:
                return
            if self._state is DiskState.INACTIVE:
                self._acquire()
            self._shut()
            self._load = None
            self._state = DiskState.ACTIVE

    def quiesce(self) -> None:
        """Let the guest write no more; without effect if it may not. The device is still had.

        Waits for writes that have begun: whatever is copied from here on is all that was written.
        """
        with self._changing:
            if self._state is DiskState.ACTIVE:
                self._shut()

    def inactivate(self) -> None:
        """Let no more be written, flush, and give the device up; idempotent.

        Waits for writes that have begun; whoever loads has no right to from then on.

        Raises:
            LocalError: It could not be flushed; it stays as it was.
        """
        with self._changing:
            self._give_up()

    def start_load(self) -> DiskLoad:
        """Own the device, to write what the guest will find there.

        Returns:
            The right to write, until the guest has the disk or it is given up.

        Raises:
            LocalError: The guest has it here, somebody is loading it already, or somebody else has
                the device.
        """
        with self._changing:
            if self._state is DiskState.LOADING:
                raise LocalError(f"disk {self.name!r} is being loaded already")
            if self._state is not DiskState.INACTIVE:
                raise LocalError(f"disk {self.name!r} is the guest's, nothing can be loaded to it")
            self._acquire()
            self._load = DiskLoad(self)
            self._state = DiskState.LOADING
            return self._load

    def end_load(self, load: DiskLoad) -> None:
        """What :meth:`DiskLoad.end` does."""
        with self._changing:
            if self._load is load:
                self._give_up()

    # What the guest does.

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill the whole of ``target``."""
        self.device.read_into(offset, target)

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``; when this returns, no migration loses it.

        Raises:
            LocalError: The disk is not active.
        """
        with self._writing(offset, len(data)):
            self.device.write(offset, data)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes; as :meth:`write`."""
        with self._writing(offset, length):
            self.device.write_zeroes(offset, length)

    def discard(self, offset: int, length: int) -> None:
        """Say that nobody needs a range any more; as :meth:`write`."""
        with self._writing(offset, length):
            self.device.discard(offset, length)

    def flush(self) -> None:
        """Make sure that what was written before survives a power cut."""
        self.device.flush()

    async def read(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes, in a worker thread.

        Cancellation: noticed before it begins, not after.
        """
        data = bytearray(length)
        await _in_thread(self.read_into, offset, memoryview(data))
        return bytes(data)

    async def store(self, offset: int, data: Buffer) -> None:
        """:meth:`write` in a worker thread.

        Cancellation: noticed before it begins, not after: it was written, or not begun.
        """
        await _in_thread(self.write, offset, data)

    # What was written.

    def mark(self, offset: int, length: int) -> None:
        """Note a write that went past this object: after it, before the guest hears of it."""
        with self.marking:
            following = [log.follow for log in self._logs if log.follow is not None]
            for log in self._logs:
                if log.follow is None:
                    log.mark(offset, length)
            for bitmap in self.bitmaps.values():
                if bitmap.is_enabled:
                    mark(bitmap.bits, offset, length, bitmap.granularity_bytes)
        for follow in following:
            follow(offset, length)

    def start_log(self, granularity_bytes: int) -> DiskLog:
        """Log from now on what is written; several logs may run at once."""
        log = DiskLog(self, granularity_bytes)
        with self.marking:
            self._logs = (*self._logs, log)
        return log

    def forget_log(self, log: DiskLog) -> None:
        """What :meth:`DiskLog.stop` does."""
        with self.marking:
            self._logs = tuple(one for one in self._logs if one is not log)

    def add_bitmap(self, bitmap: DiskBitmap) -> None:
        """Have another named bitmap.

        Raises:
            LocalError: There is one of that name.
        """
        with self.marking:
            if bitmap.name in self.bitmaps:
                raise LocalError(f"disk {self.name!r} already has a bitmap {bitmap.name!r}")
            self.bitmaps[bitmap.name] = bitmap

    def remove_bitmap(self, name: str) -> None:
        """Have a named bitmap no more; idempotent."""
        with self.marking:
            self.bitmaps.pop(name, None)

    # Transitions

    def _shut(self) -> None:
        """Let nobody write any more, and wait for writes that have begun."""
        with self._quiet:
            self._state = DiskState.QUIESCED
            self._quiet.wait_for(lambda: not self._writes)

    def _acquire(self) -> None:
        try:
            self.device.acquire()
        except OSError as error:
            raise self._failure("cannot be had", error) from error

    def _give_up(self) -> None:
        if self._state is DiskState.INACTIVE:
            return
        before = self._state
        self._shut()
        try:
            self.device.release()
        except BaseException as error:
            self._state = before
            if isinstance(error, OSError):
                raise self._failure("could not be flushed and given up", error) from error
            raise
        self._load = None
        self._state = DiskState.INACTIVE

    # Writes

    @contextmanager
    def _writing(self, offset: int, length: int) -> Iterator[None]:
        with self._quiet:
            if self._state is not DiskState.ACTIVE:
                raise LocalError(
                    f"disk {self.name!r} is not active here",
                    expected="writes only on the side that has the guest",
                    found="a write",
                )
            self._writes += 1
        try:
            yield
        finally:
            try:
                # Also after a failure: a part may have been written.
                self.mark(offset, length)
            finally:
                self._end_write()

    @contextmanager
    def loading(self, load: DiskLoad) -> Iterator[None]:
        """Hold the disk in its state while something is loaded; :class:`DiskLoad` does it.

        Raises:
            LocalError: The right has ended.
        """
        with self._quiet:
            if self._load is not load or self._state is not DiskState.LOADING:
                raise LocalError(f"nothing can be loaded to disk {self.name!r} any more")
            self._writes += 1
        try:
            yield
        finally:
            self._end_write()

    def _end_write(self) -> None:
        with self._quiet:
            self._writes -= 1
            self._quiet.notify_all()

    def _failure(self, what: str, error: OSError) -> LocalError:
        return LocalError(f"disk {self.name!r} {what}", found=error.strerror or str(error))


@final
class DiskLoad:
    """The right to write what a guest will find on its disk; made by :meth:`Disk.start_load`.

    There is one at a time. It ends with :meth:`end`, and when the guest has the disk or the disk is
    given up; later writes are refused for ever. Blocking, and for several threads at once.

    Args:
        disk: Where to.

    Attributes:
        disk: The same.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk: Final = disk

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``.

        Raises:
            LocalError: The right has ended.
        """
        with self.disk.loading(self):
            self.disk.device.write(offset, data)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes; as :meth:`write`."""
        with self.disk.loading(self):
            self.disk.device.write_zeroes(offset, length)

    def end(self) -> None:
        """Flush, and give the device up; without effect once the right has ended.

        Raises:
            LocalError: It could not be flushed; the right has not ended.
        """
        self.disk.end_load(self)


async def _in_thread(function: Callable[..., None], *arguments: object) -> None:
    import trio  # what only lists plugins, or shows a help text, does without

    await trio.to_thread.run_sync(function, *arguments)
