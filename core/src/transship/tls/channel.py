"""TLS over any channel that leads both ways."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import (
    Blocking,
    BlockingReceiver,
    BlockingSender,
    C,
    Channel,
    ExtraChannels,
    ReturnPath,
)
from transship.errors import BlockedError, ChannelError, PeerClosedError, TlsError
from transship.tls.session import RECORD_BYTES, STEP_BYTES, Session
from transship.toolkit import GuardedChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from transship.abc.transport import Outgoing
    from transship.buffers import Buffer

_FAREWELL_S: Final = 0.3
"""How long closing may take to tell the peer that this is the end, and no cut."""

_OFFERED: Final[tuple[type, ...]] = (ReturnPath, ExtraChannels, Blocking)
"""Capabilities that go on over TLS, where the channel below has them."""


class TlsChannel(GuardedChannel):
    """Encrypts what goes over another channel.

    Args:
        inner: Connected; owned by this one.
        session: Its handshake is over.
        source_side: Whether this side sends the stream.
        secure: Secures further channels.
    """

    def __init__(
        self,
        inner: Channel,
        session: Session,
        *,
        source_side: bool,
        secure: Callable[[Channel], Awaitable[Channel]],
    ) -> None:
        super().__init__(f"{inner.peer} ({session.version})")
        self.session = session
        self._inner = inner
        self._wire = Wire(inner, source_side=source_side)
        self._scratch = memoryview(bytearray(STEP_BYTES))
        self._secure = secure

    def capability(self, kind: type[C]) -> C | None:
        """The capabilities of the channel below that can be had over TLS."""
        if kind in _OFFERED and self._inner.capability(kind) is None:
            return None
        return super().capability(kind)

    async def _send(self, segments: Sequence[Buffer]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        for piece in self.session.encrypt(segments):
            await self._wire.send((piece,))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _receive(self, target: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        while (count := self.session.decrypt_into(target)) is None:
            got = await self._wire.receive_some(self._scratch)
            self.session.arrived(self._scratch[:got])
        return count

    async def _end(self) -> None:
        await self._wire.send((self.session.farewell(),))
        await self._inner.send_eof()

    async def _close(self) -> None:
        if not (self._has_ended or self._is_poisoned):
            with trio.move_on_after(_FAREWELL_S, shield=True), suppress(ChannelError):
                with suppress(trio.BusyResourceError):
                    await self._wire.send((self.session.farewell(),))
        await self._inner.aclose()

    # The other direction, and more channels.

    async def send_return(self, message: Buffer) -> None:
        """Send a whole message towards the source; as :meth:`send_segments`."""
        await self.send_segments((message,))

    async def receive_return_into(self, target: memoryview) -> int:
        """Receive some bytes of messages; as :meth:`receive_some_into`."""
        return await self.receive_some_into(target)

    def open_channel(self) -> Outgoing:
        """Prepare another channel, secured as this one."""
        extra = self._inner.capability(ExtraChannels)
        if extra is None:
            raise ChannelError(f"there is only one channel to {self._peer}")
        return self._another(extra)

    @asynccontextmanager
    async def _another(self, extra: ExtraChannels) -> AsyncIterator[Channel]:
        async with extra.open_channel() as inner:
            channel = await self._secure(inner)
            try:
                yield channel
            finally:
                await channel.aclose()

    # In the hands of a thread.

    def blocking_sender(self, timeout_s: float) -> BlockingSender:
        """The sending half for a thread; see :class:`~transship.abc.Blocking`."""
        self._refuse_unless_sendable()
        sender = self._blocking().blocking_sender(timeout_s)
        return _TlsSender(sender, self.session, self._spoil_sending)

    def blocking_receiver(self, timeout_s: float) -> BlockingReceiver:
        """The receiving half for a thread; see :class:`~transship.abc.Blocking`."""
        self._refuse_unless_receivable()
        receiver = self._blocking().blocking_receiver(timeout_s)
        return _TlsReceiver(receiver, self._scratch, self.session, self._spoil_receiving)

    def _blocking(self) -> Blocking:
        blocking = self._inner.capability(Blocking)
        if blocking is None:
            raise ChannelError(f"the channel to {self._peer} cannot be used from a thread")
        return blocking


class _TlsSender(BlockingSender):
    def __init__(self, inner: BlockingSender, session: Session, spoil: Callable[[], None]) -> None:
        self._inner = inner
        self._session = session
        self._spoil = spoil

    def send(self, segments: Sequence[Buffer]) -> None:
        try:
            for piece in self._session.encrypt(segments):
                self._inner.send((piece,))
        except BaseException:
            self._spoil()
            raise

    def interrupt(self) -> None:
        self._spoil()
        self._inner.interrupt()


class _TlsReceiver(BlockingReceiver):
    def __init__(
        self,
        inner: BlockingReceiver,
        scratch: memoryview,
        session: Session,
        spoil: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._scratch = scratch
        self._session = session
        self._spoil = spoil

    def receive_some(self, target: memoryview) -> int:
        while (count := self._session.decrypt_into(target)) is None:
            got = self._inner.receive_some(self._scratch)
            self._session.arrived(self._scratch[:got])
        return count

    def interrupt(self) -> None:
        self._spoil()
        self._inner.interrupt()


class Wire:
    """Both directions of a channel, whichever of them carries the stream.

    Args:
        channel: Borrowed.
        source_side: Whether this side sends the stream.

    Raises:
        BlockedError: There is only one direction.
    """

    def __init__(self, channel: Channel, *, source_side: bool) -> None:
        path = channel.capability(ReturnPath)
        if path is None:
            raise BlockedError(
                f"the channel to {channel.peer} cannot be secured",
                expected="one that leads both ways, as TLS needs",
                hint="leave tls-creds empty, or take tcp: or unix:",
            )
        self._channel = channel
        self._path = path
        self._source_side = source_side

    async def send(self, segments: Sequence[bytes]) -> None:
        if self._source_side:
            await self._channel.send_segments(segments)
        else:
            for segment in segments:
                await self._path.send_return(segment)

    async def receive_some(self, target: memoryview) -> int:
        if self._source_side:
            return await self._path.receive_return_into(target)
        return await self._channel.receive_some_into(target)


async def shake_hands(session: Session, wire: Wire, peer: str) -> None:
    """Agree with the peer.

    Raises:
        TlsError: The two sides do not agree, or one does not trust the other.
        ChannelError: The channel broke.
    """
    scratch = memoryview(bytearray(RECORD_BYTES))
    is_over = False
    while not is_over:
        try:
            is_over = session.shake_hands()
        except TlsError:
            with suppress(ChannelError):
                await wire.send((session.leaving(),))
            raise
        if leaving := session.leaving():
            await wire.send((leaving,))
        if not is_over:
            count = await wire.receive_some(scratch)
            if not count:
                raise PeerClosedError(
                    f"{peer} closed the channel during the TLS handshake",
                    hint="is TLS on at both sides, and does each trust the other?",
                )
            session.arrived(scratch[:count])
