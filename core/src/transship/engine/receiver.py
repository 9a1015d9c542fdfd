"""The receiving half of a channel: runs parsers over it, with a time-out on every wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from transship.engine.channels.threads import blocking_of, run_in_thread
from transship.errors import ChannelError, StalledError
from transship.wire.reader import Parsing, Rendezvous, StreamReader, drive

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
    """

    def __init__(
        self,
        receive_some: _ReceiveSome,
        peer: str,
        stall_timeout_s: float,
        blocking: BlockingReceiver | None = None,
        meet: _Meet | None = None,
    ) -> None:
        self.reader = StreamReader()
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
        blocking = blocking_of(channel)
        receiver = None if blocking is None else blocking.blocking_receiver(stall_timeout_s)
        return cls(channel.receive_some_into, channel.peer, stall_timeout_s, receiver, meet)

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
            lambda: drive(parsing, self.reader, receive, meet), blocking.interrupt
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

    async def _rendezvous(self) -> None:
        if self._meet is None:
            raise self.reader.error(
                "the source sends its memory over several channels (multifd)",
                expected="one channel",
                found="a stream that waits for others",
                hint="switch the capability multifd on here, or off at the source",
            )
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
                    expected=f"{len(target) - done} more bytes",
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
