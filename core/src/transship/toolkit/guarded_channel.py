"""What every channel promises, whatever moves its bytes: one task a direction, and how it ends."""

from __future__ import annotations

import errno
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

import trio

from transship.abc.channel import Channel
from transship.errors import ChannelError, PeerClosedError
from transship.toolkit.conflict import ConflictDetector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from transship.buffers import Buffer

_PEER_IS_GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED})


class GuardedChannel(Channel):
    """Keeps the rules: one task a direction, nothing after a failed send, nothing once closed.

    A subclass moves bytes, in ``_send``, ``_receive``, ``_end`` and ``_close``, and raises what the
    system says, or an error of ours for what is no ``OSError``.

    Args:
        peer: Who is at the other end, for people.
    """

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._sending = ConflictDetector("another task is sending on this channel")
        self._receiving = ConflictDetector("another task is receiving on this channel")
        self._is_closed = False
        self._has_ended = False
        self._is_poisoned = False
        self._is_deaf = False

    @property
    def peer(self) -> str:
        """Who is at the other end, for people."""
        return self._peer

    # What moves bytes. An OSError or trio.ClosedResourceError is translated; each is a checkpoint.

    @abstractmethod
    async def _send(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments."""

    @abstractmethod
    async def _receive(self, target: memoryview) -> int:
        """Receive at least one byte; 0 at the end."""

    @abstractmethod
    async def _end(self) -> None:
        """Say that nothing more will be sent."""

    @abstractmethod
    async def _close(self) -> None:
        """Close both directions, and break what waits on them."""

    # The contract.

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        """Send all bytes of all segments, in order; see :meth:`Channel.send_segments`."""
        with self._sending:
            self._refuse_unless_sendable()
            await self._or_poisoned(self._send(segments))

    async def _or_poisoned(self, sending: Awaitable[None]) -> None:
        is_through = False
        try:
            await sending
            is_through = True
        except trio.ClosedResourceError:
            raise self._closed_here() from None
        except OSError as error:
            raise self._broken(error) from error
        finally:
            if not is_through:
                self._spoil_sending()

    async def send_eof(self) -> None:
        """Say that nothing more will be sent, and keep the other direction; idempotent.

        Raises:
            ChannelError: It broke, was closed here, or an earlier send was cut short.
            trio.BusyResourceError: Another task is sending.

        Cancellation: as for :meth:`send_segments`.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            if self._has_ended and not self._is_closed:
                return
            self._refuse_unless_sendable()
            await self._or_poisoned(self._end())
            self._has_ended = True

    async def receive_some_into(self, target: memoryview) -> int:
        """Receive at least one byte; see :meth:`Channel.receive_some_into`."""
        with self._receiving:
            self._refuse_unless_receivable()
            if not target.nbytes:
                raise ValueError("the target is empty: nothing can be received into it")
            try:
                return await self._receive(target)
            except trio.ClosedResourceError:
                raise self._closed_here() from None
            except OSError as error:
                raise self._broken(error) from error

    async def aclose(self) -> None:
        """Close both directions at once, and break what still waits on them; idempotent."""
        if not self._is_closed:
            self._is_closed = True
            await self._close()
        await trio.lowlevel.cancel_shielded_checkpoint()

    # What a call that failed tells, or a thread that has a half of it.

    def _spoil_sending(self) -> None:
        """Refuse to send from now on: nobody knows how much was sent."""
        self._is_poisoned = True

    def _spoil_receiving(self) -> None:
        """Refuse to receive from now on: some of it may be lost."""
        self._is_deaf = True

    # The one place where the kernel's words become ours.

    def _broken(self, error: OSError) -> ChannelError:
        if self._is_closed:
            return self._closed_here()
        if error.errno in _PEER_IS_GONE:
            return PeerClosedError(f"{self._peer} closed the channel: {error.strerror}")
        return ChannelError(f"the channel to {self._peer} broke: {error.strerror or error}")

    def _closed_here(self) -> ChannelError:
        return ChannelError(f"the channel to {self._peer} was closed on this side")

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise self._closed_here()

    def _refuse_unless_receivable(self) -> None:
        self._refuse_if_closed()
        if self._is_deaf:
            raise self._closed_here()

    def _refuse_unless_sendable(self) -> None:
        self._refuse_if_closed()
        if self._is_poisoned:
            raise ChannelError(
                f"nothing more can be sent to {self._peer}: an earlier send was cut short"
            )
        if self._has_ended:
            raise ChannelError(f"nothing more can be sent to {self._peer}: the end was sent")
