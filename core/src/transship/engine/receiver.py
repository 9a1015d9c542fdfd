"""The receiving half of a channel: runs parsers over it, with a time-out on every wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from transship.abc.channel import Blocking, Seekable
from transship.engine.channels.threads import run_in_thread
from transship.errors import ChannelError, StalledError
from transship.units import counted
from transship.wire.reader import (
    InFile,
    InThread,
    Parsing,
    Rendezvous,
    StreamReader,
    drive,
    not_a_file,
    not_several_channels,
)

if TYPE_CHECKING:
    from transship.abc.channel import BlockingReceiver, Channel, ReturnPath

T = TypeVar("T")
_ReceiveSome = Callable[[memoryview], Awaitable[int]]
_Meet = Callable[[], Awaitable[None]]


class StreamReceiver:
    """Feeds one reader from one direction of a channel.

    Args:
        receive_some: Receives at least one byte, or returns 0 at the end.
        peer: Who sends, for messages.
        stall_timeout_s: How long to wait for the next byte.
        blocking: The same direction for a thread, if it can be had there.
        meet: Waits for the extra channels, if there are any.
        file: The channel, if it is a file.

    Attributes:
        file_bytes: How much was read at places of the file.
    """

    def __init__(
        self,
        receive_some: _ReceiveSome,
        peer: str,
        stall_timeout_s: float,
        blocking: BlockingReceiver | None = None,
        meet: _Meet | None = None,
        file: Seekable | None = None,
    ) -> None:
        self.reader = StreamReader()
        self._file = file
        self.file_bytes = 0
        self._blocking = blocking
        self._meet = meet
        self._receive_some = receive_some
        self._peer = peer
        self._stall_timeout_s = stall_timeout_s

    @classmethod
    def of_stream(
        cls, channel: Channel, stall_timeout_s: float, meet: _Meet | None = None
    ) -> StreamReceiver:
        """Over the stream that the channel carries."""
        blocking = channel.capability(Blocking)
        receiver = None if blocking is None else blocking.blocking_receiver(stall_timeout_s)
        file = channel.capability(Seekable)
        return cls(channel.receive_some_into, channel.peer, stall_timeout_s, receiver, meet, file)

    @classmethod
    def of_return_path(cls, path: ReturnPath, peer: str) -> StreamReceiver:
        """Over the messages from destination to source; these may take for ever."""
        return cls(path.receive_return_into, peer, float("inf"))

    async def run_long(self, parsing: Parsing[T]) -> T:
        """Run a parser that takes much, in a thread where the channel can be had there.

        Receiving and parsing take turns: what has just come is still in the cache when it goes to
        its place, and the kernel's buffers take in more meanwhile. Errors as :meth:`run`.
        """
        blocking = self._blocking
        if blocking is None:
            return await self.run(parsing)

        def receive(target: memoryview) -> int:
            try:
                return blocking.receive_some(target)
            except ChannelError as error:
                error.add_context(section=self.reader.section, offset=self.reader.offset)
                raise

        def meet() -> None:
            trio.from_thread.run(self._rendezvous)

        return await run_in_thread(
            lambda: drive(parsing, self.reader, receive, meet, self._visit), blocking.interrupt
        )

    async def run(self, parsing: Parsing[T]) -> T:
        """Run a parser of :attr:`reader` to its result.

        Raises:
            StreamError: What came is wrong, or ends too early.
            StalledError: Nothing came for too long.
            ChannelError: The channel broke.
        """
        try:
            want = next(parsing)
            while True:
                if isinstance(want, memoryview):
                    with want:
                        await self._fill(want)
                elif isinstance(want, Rendezvous):
                    await self._rendezvous()
                elif isinstance(want, InFile):
                    await trio.to_thread.run_sync(self._visit, want)
                elif isinstance(want, InThread):
                    await trio.to_thread.run_sync(want.do)
                elif want == 0:
                    await trio.lowlevel.checkpoint()
                elif count := await self._receive(self.reader.writable()):
                    self.reader.received(count)
                else:
                    self.reader.finish()
                want = next(parsing)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            parsing.close()

    def _visit(self, want: InFile) -> None:
        """Let a parser read in the file, from a thread; the stream goes on where it says."""
        file = self._file
        if file is None:
            raise not_a_file(self.reader)
        position = file.tell() - self.reader.discard()
        try:
            file.seek(want.do(file.descriptor, position))
            self.file_bytes += want.size_bytes
        except OSError as error:
            raise ChannelError(f"{self._peer}: {error.strerror or error}") from error

    async def _rendezvous(self) -> None:
        if self._meet is None:
            raise not_several_channels(self.reader.error)
        await self._meet()

    async def _fill(self, target: memoryview) -> None:
        done = 0
        while done < len(target):
            with target[done:] as rest:
                count = await self._receive(rest)
            if not count:
                raise self.reader.error(
                    "the stream ends early",
                    offset=self.reader.offset + done,
                    expected=counted(len(target) - done, "more byte", "more bytes"),
                    found="the end",
                )
            done += count
        self.reader.landed(done)

    async def _receive(self, target: memoryview) -> int:
        with trio.move_on_after(self._stall_timeout_s) as scope:
            return await self._receive_some(target)
        assert scope.cancelled_caught
        raise StalledError(
            f"{self._peer} sent nothing for {self._stall_timeout_s:g} s",
            section=self.reader.section,
            offset=self.reader.offset,
            hint="the source hangs, or the network is gone",
        )
