"""A channel over the ends of pipes: one to send to, one to receive from, or just one of them."""

from __future__ import annotations

import fcntl
import os
import select
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import BlockingReceiver, BlockingSender, C, ReturnPath
from transship.errors import ChannelError, StalledError
from transship.toolkit.guarded_channel import GuardedChannel
from transship.toolkit.owned_descriptor import OwnedDescriptor
from transship.toolkit.thread_half import ThreadHalf
from transship.toolkit.vectored import Vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.buffers import Buffer

_CAPACITY_BYTES: Final = 1024 * 1024
"""Asked for; what an unprivileged process may have by pipe(7). Writer and reader take turns less
often than with the 64 KiB that a pipe begins with."""

_FAIR_BYTES: Final = 4 * 1024 * 1024
"""Most that is sent before other tasks have a turn, and a cancellation its effect."""

_LOOK_S: Final = 0.05
"""How often a thread that waits looks whether it was interrupted."""


class PipeChannel(GuardedChannel):
    """Carries the stream over one or two descriptors that behave as pipes do.

    With two it has the :class:`~transship.abc.ReturnPath` capability.

    Args:
        peer: Who is at the other end, for people.
        sending: Where to write; owned by the channel from now on, as is the other.
        receiving: Where to read.
    """

    def __init__(
        self, peer: str, *, sending: int | None = None, receiving: int | None = None
    ) -> None:
        super().__init__(peer)
        self._out = None if sending is None else OwnedDescriptor(sending)
        self._in = None if receiving is None else OwnedDescriptor(receiving)
        for descriptor in (sending, receiving):
            if descriptor is not None:
                os.set_blocking(descriptor, False)
        if sending is not None:
            with suppress(OSError, AttributeError):
                fcntl.fcntl(sending, fcntl.F_SETPIPE_SZ, _CAPACITY_BYTES)

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        if kind is ReturnPath and None in (self._out, self._in):
            return None
        return super().capability(kind)

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source; as :meth:`send_segments`."""
        await self.send_segments((message,))

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages; as :meth:`receive_some_into`."""
        return await self.receive_some_into(target)

    async def _send(self, segments: Sequence[Buffer]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        out = self._sendable().number
        data = Vector(segments)
        sent, fair_until = 0, _FAIR_BYTES
        while sent < data.length:
            taken = data.offer(sent, partial(_unless_it_blocks, os.writev, out))
            sent += taken or 0
            if not taken or fair_until < sent < data.length:
                await trio.lowlevel.wait_writable(out)
                fair_until = sent + _FAIR_BYTES
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _receive(self, target: memoryview) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        source = self._receivable().number
        while (count := _unless_it_blocks(os.readv, source, [target])) is None:
            await trio.lowlevel.wait_readable(source)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return count

    async def wait_for_data(self) -> None:
        """Wait until something can be received, or the end.

        Raises:
            ChannelError: There is nothing to receive from, or it was closed here before.
            trio.ClosedResourceError: It was closed here meanwhile.
        """
        self._refuse_if_closed()
        await trio.lowlevel.wait_readable(self._receivable().number)

    async def _end(self) -> None:
        _close(self._sendable())

    async def _close(self) -> None:
        for descriptor in (self._out, self._in):
            if descriptor is not None:
                _close(descriptor)

    def blocking_sender(self, timeout_s: float) -> BlockingSender:
        """The sending half for a thread; see :class:`~transship.abc.Blocking`."""
        self._refuse_unless_sendable()
        return _PipeSender(
            *(self._sendable(), select.POLLOUT, self._peer, timeout_s),
            *(self._broken, self._spoil_sending),
        )

    def blocking_receiver(self, timeout_s: float) -> BlockingReceiver:
        """The receiving half for a thread; see :class:`~transship.abc.Blocking`."""
        self._refuse_unless_receivable()
        return _PipeReceiver(
            *(self._receivable(), select.POLLIN, self._peer, timeout_s),
            *(self._broken, self._spoil_receiving),
        )

    def _sendable(self) -> OwnedDescriptor:
        if self._out is None:
            raise ChannelError(f"nothing can be sent to {self._peer}: it is only read from")
        return self._out

    def _receivable(self) -> OwnedDescriptor:
        if self._in is None:
            raise ChannelError(f"nothing can be received from {self._peer}: it is only written to")
        return self._in


class _PipeHalf(ThreadHalf):
    """One direction of a pair of pipes.

    Args:
        descriptor: The channel's; does not block.
        event: What ``poll`` waits for.
        peer: Who is at the other end, for people.
        timeout_s: How long a call may make no progress.
        translate: Turns the kernel's errors into the channel's.
        spoil: Tells the channel not to use this direction any more.
    """

    def __init__(
        self,
        descriptor: OwnedDescriptor,
        event: int,
        peer: str,
        timeout_s: float,
        translate: Callable[[OSError], ChannelError],
        spoil: Callable[[], None],
    ) -> None:
        super().__init__(peer, translate, spoil)
        self._descriptor = descriptor
        self._poll = select.poll()
        with descriptor.in_use() as number:
            self._poll.register(number, event)
        self._timeout_s = timeout_s

    def _call(self, call: Callable[[int, Sequence[Buffer]], int], buffers: Sequence[Buffer]) -> int:
        """Make a system call as soon as it does not block.

        Raises:
            StalledError: It would block for too long.
            ChannelError: It failed, or was interrupted.
        """
        until_s = time.monotonic() + self._timeout_s
        while True:
            self._refuse_if_interrupted()
            try:
                with self._descriptor.in_use() as number:
                    count = _unless_it_blocks(call, number, buffers)
            except OSError as error:
                raise self._translate(error) from error
            if count is not None:
                return count
            if time.monotonic() >= until_s:
                raise StalledError(
                    f"{self._peer} did nothing for {self._timeout_s:g} s",
                    hint="the other side hangs",
                )
            self._poll.poll(_LOOK_S * 1000)


class _PipeSender(_PipeHalf, BlockingSender):
    def send(self, segments: Sequence[Buffer]) -> None:
        self._whole(lambda: Vector(segments).move(lambda rest: self._call(os.writev, rest)))


class _PipeReceiver(_PipeHalf, BlockingReceiver):
    def receive(self, targets: Sequence[memoryview]) -> int:
        return Vector(targets).move(lambda rest: self._call(os.readv, rest))

    def receive_some(self, target: memoryview) -> int:
        return self._call(os.readv, [target])


def _unless_it_blocks(
    call: Callable[[int, Sequence[Buffer]], int], descriptor: int, buffers: Sequence[Buffer]
) -> int | None:
    try:
        return call(descriptor, buffers)
    except BlockingIOError:
        return None


def _close(descriptor: OwnedDescriptor) -> None:
    if descriptor.number >= 0:
        trio.lowlevel.notify_closing(descriptor.number)
        descriptor.close()
