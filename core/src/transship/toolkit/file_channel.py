"""A channel into a file, or out of one. What it carries is there for good; nobody answers."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from contextlib import asynccontextmanager, suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import BlockingReceiver, BlockingSender
from transship.errors import ChannelError
from transship.toolkit.guarded_channel import GuardedChannel
from transship.toolkit.owned_descriptor import OwnedDescriptor
from transship.toolkit.thread_half import ThreadHalf
from transship.toolkit.vectored import Vector, as_bytes, size_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from transship.buffers import Buffer

_STEP_BYTES: Final = 4 * 1024 * 1024
"""Most that one call writes: neither a cancellation nor an interruption can break it."""

_BLANK: Final = bytes(4096)
"""What is written over the beginning of a stream that cannot be cut off."""


class FileChannel(GuardedChannel):
    """Carries the stream to a file, or from one, beginning where the descriptor stands.

    It has the :class:`~transship.abc.Seekable` and :class:`~transship.abc.Blocking` capabilities.
    A file that hangs, as one on a lost network may, holds up whoever uses it: no time-out helps.

    Args:
        peer: The file, for people.
        descriptor: Of a regular file or a block device; owned by the channel from now on.
    """

    def __init__(self, peer: str, descriptor: int) -> None:
        super().__init__(peer)
        self._file = OwnedDescriptor(descriptor)
        self._beginning = os.lseek(descriptor, 0, os.SEEK_CUR)

    # Its places.

    @property
    def descriptor(self) -> int:
        """For positional reads and writes, from any number of threads."""
        self._refuse_if_closed()
        return self._file.number

    def tell(self) -> int:
        """Where in the file the stream goes on."""
        return self._at(0, os.SEEK_CUR)

    def seek(self, offset: int) -> None:
        """Let the stream go on elsewhere."""
        self._at(offset, os.SEEK_SET)

    def _at(self, offset: int, origin: int) -> int:
        try:
            return os.lseek(self.descriptor, offset, origin)
        except (OSError, OverflowError) as error:
            raise ChannelError(f"{self._peer} cannot be positioned at {offset}: {error}") from error

    # Its bytes.

    async def _send(self, segments: Sequence[Buffer]) -> None:
        await trio.to_thread.run_sync(
            _write, self._file, segments, trio.from_thread.check_cancelled
        )

    async def _receive(self, target: memoryview) -> int:
        return await trio.to_thread.run_sync(_read, self._file, [target])

    async def _end(self) -> None:
        """Wait until all of it is on the disk, as far as the system can tell."""
        await trio.to_thread.run_sync(_sync, self._file)

    async def _close(self) -> None:
        self._file.close()

    async def take_back(self) -> None:
        """Make sure that nobody takes what was written for a guest.

        The file ends where the channel began; where it cannot be cut off, as a block device cannot,
        the beginning of the stream is blanked.

        Raises:
            ChannelError: That failed, or the channel is closed.
        """
        self._refuse_if_closed()
        try:
            await trio.to_thread.run_sync(_take_back, self._file, self._beginning)
        except OSError as error:
            raise self._broken(error) from error

    def _broken(self, error: OSError) -> ChannelError:
        if self._is_closed:
            return self._closed_here()
        return ChannelError(f"{self._peer}: {error.strerror or error}")

    # In the hands of a thread.

    def blocking_sender(self, timeout_s: float) -> BlockingSender:
        """The sending half for a thread; ``timeout_s`` has no effect on a file."""
        self._refuse_unless_sendable()
        return _FileSender(self._file, self._peer, self._broken, self._spoil_sending)

    def blocking_receiver(self, timeout_s: float) -> BlockingReceiver:
        """The receiving half for a thread; ``timeout_s`` has no effect on a file."""
        self._refuse_unless_receivable()
        return _FileReceiver(self._file, self._peer, self._broken, self._spoil_receiving)


@asynccontextmanager
async def stored_or_not(channel: FileChannel) -> AsyncIterator[FileChannel]:
    """Write to a file; it is closed when left, and what was written is taken back on failure.

    A stream may be complete before a cancellation is heard of, and a guest that runs on must not be
    in a file as well.
    """
    try:
        yield channel
    except BaseException:
        with trio.CancelScope(shield=True), suppress(ChannelError):
            await channel.take_back()
        raise
    finally:
        await channel.aclose()


class _FileHalf(ThreadHalf):
    """One direction of a file; a call under way is over after the step that it is in."""

    def __init__(
        self,
        file: OwnedDescriptor,
        peer: str,
        translate: Callable[[OSError], ChannelError],
        spoil: Callable[[], None],
    ) -> None:
        super().__init__(peer, translate, spoil)
        self._file = file


class _FileSender(_FileHalf, BlockingSender):
    def send(self, segments: Sequence[Buffer]) -> None:
        self._whole(lambda: self._write(segments))

    def _write(self, segments: Sequence[Buffer]) -> None:
        try:
            _write(self._file, segments, self._refuse_if_interrupted)
        except OSError as error:
            raise self._translate(error) from error


class _FileReceiver(_FileHalf, BlockingReceiver):
    def receive(self, targets: Sequence[memoryview]) -> int:
        return Vector(targets).move(self._read)

    def receive_some(self, target: memoryview) -> int:
        return self._read([target])

    def _read(self, targets: Sequence[Buffer]) -> int:
        self._refuse_if_interrupted()
        try:
            return _read(self._file, targets)
        except OSError as error:
            raise self._translate(error) from error


# What blocks.


def _write(file: OwnedDescriptor, segments: Sequence[Buffer], go_on: Callable[[], None]) -> None:
    """Write all of them; ``go_on`` is asked before each step, and may raise."""

    def once(rest: Sequence[Buffer]) -> int:
        go_on()
        file.check_open()
        return _write_step(descriptor, rest)

    with file.in_use() as descriptor:
        Vector(segments).move(once)


def _read(file: OwnedDescriptor, targets: Sequence[Buffer]) -> int:
    with file.in_use() as descriptor:
        return os.readv(descriptor, targets)


def _sync(file: OwnedDescriptor) -> None:
    with file.in_use() as descriptor:
        os.fsync(descriptor)


def _take_back(file: OwnedDescriptor, beginning: int) -> None:
    with file.in_use() as descriptor:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, beginning)
        else:
            os.pwrite(descriptor, _BLANK, beginning)


def _write_step(descriptor: int, rest: Sequence[Buffer]) -> int:
    """Write as many of the buffers as one step may have, or the beginning of a large one."""
    count = bisect_right(list(accumulate(map(size_of, rest))), _STEP_BYTES)
    if count:
        return os.writev(descriptor, rest[:count])
    with as_bytes(rest[0]) as whole, whole[:_STEP_BYTES] as part:
        return os.writev(descriptor, [part])
