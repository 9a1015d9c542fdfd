"""A channel: one path of bytes between the two sides, and what some channels can do besides.

This file knows nothing of schemes. What not every channel has is a capability, asked for by
type: ``channel.capability(ReturnPath)`` gives the object, or None.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar, runtime_checkable

from transship.errors import PeerClosedError
from transship.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from transship.buffers import Buffer

C = TypeVar("C")

NO_DESCRIPTOR: Final = -1
"""Stands for a number of bytes where no descriptor carries the bytes of a channel as they are."""


class Channel(ABC):
    """Carries the stream in one direction; what a transport's author implements.

    One task sends and one task receives at a time: concurrent misuse is detected, not queued.
    A channel whose send was cancelled or failed is poisoned, since nobody knows how much was
    sent: only :meth:`aclose` is legal then.
    """

    @property
    @abstractmethod
    def peer(self) -> str:
        """Who is at the other end, for people (``tcp:192.0.2.7:4444``)."""

    @property
    def host(self) -> str | None:
        """The other host as the operator named it, whom its certificate is to name, or None."""
        return None

    @abstractmethod
    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments, in order.

        Args:
            segments: Contiguous buffers, any number, any of them empty. Borrowed until the call
                returns; no view is held after that, also not after an error.

        Raises:
            PeerClosedError: The peer closed the channel.
            ChannelError: It broke in another way, or was closed here.
            trio.BusyResourceError: Another task is sending.

        Cancellation: a part may have been sent; the channel is poisoned.
        """

    @abstractmethod
    async def receive_some_into(self, target: memoryview) -> int:
        """Receive at least one byte to the start of ``target``, which is not empty.

        Returns:
            How many bytes came; 0 when the peer ended its direction.

        Raises:
            ChannelError: It broke, or was closed here.
            trio.BusyResourceError: Another task is receiving.

        Cancellation: nothing was received, or it is in ``target`` and lost to the caller, who
        drops the channel.
        """

    async def receive_into(self, target: memoryview) -> None:
        """Receive exactly ``len(target)`` bytes.

        Raises:
            PeerClosedError: The peer ended its direction before that.
            ChannelError: It broke, or was closed here.

        Cancellation: a part may have been received; the channel is to be dropped.
        """
        done = 0
        while done < len(target):
            with target[done:] as rest:
                count = await self.receive_some_into(rest)
            if count == 0:
                raise PeerClosedError(
                    f"{self.peer} closed the channel",
                    expected=counted(len(target) - done, "more byte", "more bytes"),
                    found="the end",
                )
            done += count

    @abstractmethod
    async def send_eof(self) -> None:
        """Say that nothing more will be sent; the other direction stays open.

        Raises:
            ChannelError: It broke, or was closed here.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close both directions at once, and break what still waits on them; idempotent.

        Cancellation: it is closed all the same.
        """

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        return self if isinstance(self, kind) else None


@runtime_checkable
class ReturnPath(Protocol):
    """Carries messages from destination to source, beside the stream."""

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source. Errors and cancellation as ``send_segments``."""

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages. Errors and cancellation as ``receive_some_into``."""


@runtime_checkable
class ReturnPathOnRequest(Protocol):
    """Leads back as well, though perhaps nobody answers there: a command may be ``cat`` or ``nc``.

    The source uses it only if its operator asks for a return path, the destination if the source
    does.
    """

    def return_path(self) -> ReturnPath:
        """The way back."""


@runtime_checkable
class ExtraChannels(Protocol):
    """Can open more channels to the same destination (source's side).

    The destination's listener accepts each of them as it accepted the first.
    """

    def open_channel(self) -> AbstractAsyncContextManager[Channel]:
        """Prepare another; connects when entered, closes when left, as :data:`Outgoing`."""


@runtime_checkable
class DescriptorPassing(Protocol):
    """Can carry open files to another process of this host, beside the stream.

    A channel has it only if the process at the other end could help itself anyway: one of the same
    user. The other side must be waiting for them: it has received everything sent before.
    """

    async def send_descriptors(self, descriptors: Sequence[int]) -> None:
        """Send duplicates of descriptors, with one byte of the stream.

        Args:
            descriptors: At least one; borrowed.

        Errors and cancellation as ``send_segments``.
        """

    async def receive_descriptors(self, count: int) -> Sequence[int]:
        """Receive that byte, and what comes with it.

        Returns:
            Exactly ``count`` descriptors, the caller's to close; or none at all, where somebody in
            between carries bytes only.

        Raises:
            PeerClosedError: The peer ended its direction.
            ChannelError: It broke, was closed here, or another number of descriptors came; then
                all of them have been closed.
            trio.BusyResourceError: Another task is receiving.

        Cancellation: nothing was received; the channel is to be dropped.
        """


@runtime_checkable
class Seekable(Protocol):
    """Is a file: every byte of the stream has a place in it, and there may be gaps."""

    @property
    def descriptor(self) -> int:
        """For positional reads and writes, from any number of threads; the channel's to close."""

    def tell(self) -> int:
        """Where in the file the stream goes on, in bytes from its beginning."""

    def seek(self, offset: int) -> None:
        """Let the stream go on elsewhere.

        Raises:
            ChannelError: It was closed here, or cannot be positioned there.
        """


class RemoteRun(NamedTuple):
    """Some memory of a block, that is to be at the same place in the destination's.

    Args:
        idstr: Name of the RAM block.
        offset: Where in it, in bytes.
        length: How many bytes.
    """

    idstr: str
    offset: int
    length: int


class RemoteWriter(ABC):
    """Writes memory of this side's to the same place in the destination's (source's side).

    One task uses it at a time. After a failure or a cancellation, or once the context manager that
    gave it is left, it is of no more use; nothing reads this side's memory any more then.
    """

    @abstractmethod
    async def write(self, runs: Sequence[RemoteRun]) -> None:
        """Begin to write runs; waits only for room for more.

        Args:
            runs: Within the blocks that were mirrored. Their memory is read some time before the
                next ``flush`` returns, and may change meanwhile: then either arrives.

        Raises:
            ChannelError: The channel broke, or the destination refuses a run.
            trio.BusyResourceError: Another task is writing.

        Cancellation: some may have been written; the channel is to be dropped.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until all that was written is in the destination's memory, for its processors too.

        Errors and cancellation as :meth:`write`.
        """


@runtime_checkable
class RemoteMemory(Protocol):
    """Can write memory of the source's straight into memory of the destination's.

    The stream goes on beside it. Between the two there is no order, but for what ``flush`` says.
    """

    def expose(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AbstractAsyncContextManager[None]:
        """Prepare to let the source write to memory, while entered (destination's side).

        Args:
            blocks: Writable, by the name of the RAM block; borrowed until left. From then on
                nothing is written to them any more, whatever the source does.
            at_once: Register all of the memory when entered, not each part when it is wanted.

        Raises:
            ChannelError: The channel broke, or the memory cannot be registered.
        """

    def mirror(
        self, blocks: Mapping[str, memoryview], *, at_once: bool
    ) -> AbstractAsyncContextManager[RemoteWriter]:
        """Prepare to write to what the destination has exposed (source's side).

        Entering waits until it has. What is withdrawn before this side got there does not count.

        Args:
            blocks: The same names, with the same lengths; borrowed until left.
            at_once: As for ``expose``; each side decides for its own memory.

        Raises:
            ChannelError: The channel broke, the memory cannot be registered, or the destination
                has exposed something else.
        """


class BlockingSender(ABC):
    """The sending half of a channel in the hands of a thread, without an event loop."""

    @abstractmethod
    def send(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments; as :meth:`Channel.send_segments`.

        Raises:
            PeerClosedError: The peer closed the channel.
            StalledError: The peer took nothing for too long.
            ChannelError: It broke, or was interrupted.
        """

    def send_with(self, send: Callable[[int], int]) -> int:
        """Let a function send over the descriptor that carries the same bytes, if there is one.

        Args:
            send: Called with the descriptor, which blocks as the other methods do; returns how
                many bytes went.

        Returns:
            The same; :data:`NO_DESCRIPTOR` if there is no such descriptor. Errors as above.
        """
        return NO_DESCRIPTOR

    @abstractmethod
    def interrupt(self) -> None:
        """Break a call under way, and all later ones; from any thread, idempotent.

        The other half of the channel works on.
        """


class BlockingReceiver(ABC):
    """The receiving half of a channel in the hands of a thread, without an event loop."""

    def receive(self, targets: Sequence[memoryview]) -> int:
        """Fill all targets, in order.

        Returns:
            How many bytes came: fewer than there is room for only if the peer ended its direction.

        Raises:
            StalledError: Nothing came for too long.
            ChannelError: It broke, or was interrupted.
        """
        received = 0
        for target in targets:
            done = 0
            while done < len(target):
                with target[done:] as rest:
                    count = self.receive_some(rest)
                if not count:
                    return received
                done += count
                received += count
        return received

    def receive_with(self, receive: Callable[[int], int]) -> int:
        """Let a function receive from the descriptor that carries the same bytes, if there is one.

        Args:
            receive: Called with the descriptor, which blocks as the other methods do; returns how
                many bytes came.

        Returns:
            The same; :data:`NO_DESCRIPTOR` if there is no such descriptor.

        Raises:
            StalledError: Nothing came for too long.
            ChannelError: It broke, or was interrupted.
        """
        return NO_DESCRIPTOR

    @abstractmethod
    def receive_some(self, target: memoryview) -> int:
        """Receive at least one byte; as :meth:`Channel.receive_some_into`. Errors as above."""

    @abstractmethod
    def interrupt(self) -> None:
        """Break a call under way, and all later ones; from any thread, idempotent.

        The other half of the channel works on.
        """


@runtime_checkable
class Blocking(Protocol):
    """Can be used from a thread, which then sends or receives at the speed of the system calls.

    Between two calls of the thread the channel's own methods work as ever; what was interrupted
    stays broken for them too.
    """

    def blocking_sender(self, timeout_s: float) -> BlockingSender:
        """The sending half.

        Args:
            timeout_s: How long a call may make no progress.
        """

    def blocking_receiver(self, timeout_s: float) -> BlockingReceiver:
        """The receiving half; arguments as above."""


CHANNEL_CAPABILITIES: Final[tuple[type, ...]] = (
    Blocking,
    DescriptorPassing,
    ExtraChannels,
    RemoteMemory,
    ReturnPath,
    ReturnPathOnRequest,
    Seekable,
)
"""All capabilities that the engine asks channels for."""
