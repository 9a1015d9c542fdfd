"""A listener for connections that introduce themselves first: by a handshake, or a greeting.

Several do so at a time, and whoever says nothing keeps nobody out. This file knows neither where
connections come from nor what an introduction is: both are handed to it.
"""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

import trio

from transship.abc.transport import Listener
from transship.errors import BlockedError, ChannelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from transship.abc.channel import Channel

C = TypeVar("C")

LOG: Final = logging.getLogger(__name__)

_AT_ONCE: Final = 16
"""Introductions under way; more connections wait to be taken."""

_UNHURRIED_S: Final = 2.0
"""How long an introduction may take when others wait; a good one takes some milliseconds."""

_READY: Final = 256
"""Channels that nobody has accepted yet; a source has at most as many besides its stream's."""

_PAUSE_S: Final = 0.1
"""After no connection could be taken, for want of descriptors, say."""


@asynccontextmanager
async def introducing_listener(
    uri: str,
    connections: Sequence[Callable[[], Awaitable[C]]],
    introduce: Callable[[C], Awaitable[Channel]],
    *,
    timeout_s: float,
    name: Callable[[C], str],
    accepts_more: bool = True,
    ready: int = _READY,
) -> AsyncIterator[Listener]:
    """Take connections while entered, and let each of them introduce itself.

    One that does not is turned away, and others may come. A ``BlockedError`` is raised by
    ``accept``, as it would be for all of them; so is any error if no other connection can come.

    Args:
        uri: The address that a source can use.
        connections: Each waits for the next one, again and again. An ``OSError`` is no more than a
            pause; another error ends the waiting, and ``accept`` raises it.
        introduce: Makes a channel of a connection, which it owns: it closes it where it fails or is
            cancelled.
        timeout_s: How long that may take; when others wait, it may be cancelled before.
        name: Names a connection, for people.
        accepts_more: Whether another may come when one was no good.
        ready: How many channels may wait to be accepted.
    """
    # Whoever waits for a connection has room for it already.
    room = trio.Semaphore(_AT_ONCE + len(connections))
    listener = _IntroducingListener(uri, introduce, timeout_s, name, accepts_more, room, ready)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(listener.take_from, connection)
            try:
                yield listener
            except BaseException as error:
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        await listener.aclose()
    if failure is not None:
        raise failure


@final
class _IntroducingListener(Listener, Generic[C]):
    def __init__(
        self,
        uri: str,
        introduce: Callable[[C], Awaitable[Channel]],
        timeout_s: float,
        name: Callable[[C], str],
        accepts_more: bool,
        room: trio.Semaphore,
        ready: int,
    ) -> None:
        self._uri = uri
        self._introduce = introduce
        self._timeout_s = timeout_s
        self._name = name
        self._accepts_more = accepts_more
        self._room = room
        self._under_way: dict[trio.CancelScope, float] = {}
        self._ready, self._waiting = trio.open_memory_channel["Channel | Exception"](ready)

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def accepts_more(self) -> bool:
        return self._accepts_more

    async def accept(self) -> Channel:
        try:
            found = await self._waiting.receive()
        except trio.ClosedResourceError:
            raise ChannelError(f"{self._uri} is no longer listened on") from None
        if isinstance(found, Exception):
            raise found
        return found

    async def take_from(self, connection: Callable[[], Awaitable[C]]) -> None:
        """Take one connection after the other, until there will be no more."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._make_room()
                try:
                    taken = await connection()
                except OSError:
                    self._room.release()
                    await trio.sleep(_PAUSE_S)
                except Exception as error:
                    nursery.start_soon(self._ready.send, error)
                    return
                else:
                    nursery.start_soon(self._welcome, taken)

    async def _make_room(self) -> None:
        """Wait for room; whoever does nothing in it must not keep the others out."""
        while True:
            oldest_s = min(self._under_way.values(), default=math.inf)
            with trio.move_on_at(oldest_s + _UNHURRIED_S):
                await self._room.acquire()
                return
            for scope, since_s in self._under_way.items():
                if since_s == oldest_s:
                    scope.cancel()
            await trio.lowlevel.checkpoint()

    async def _welcome(self, connection: C) -> None:
        """Let a connection introduce itself, and offer its channel; until then it takes up room."""
        who = self._name(connection)
        try:
            found: Channel | Exception = await self._introduced(connection)
        except Exception as error:
            if self._accepts_more and not isinstance(error, BlockedError):
                LOG.warning("a connection from %s was turned away: %s", who, error)
                self._room.release()
                return
            found = error
        try:
            await self._ready.send(found)
        except BaseException:
            if not isinstance(found, Exception):
                await _close(found)
            raise
        self._room.release()

    async def _introduced(self, connection: C) -> Channel:
        began_s = trio.current_time()
        with trio.CancelScope(deadline=began_s + self._timeout_s) as scope:
            self._under_way[scope] = began_s
            try:
                return await self._introduce(connection)
            finally:
                del self._under_way[scope]
        took_s = trio.current_time() - began_s
        raise ChannelError(f"it did not introduce itself within {took_s:.1f} s")

    async def aclose(self) -> None:
        """Break a waiting :meth:`accept`, and close what nobody has accepted."""
        with suppress(trio.WouldBlock):
            while True:
                found = self._waiting.receive_nowait()
                if not isinstance(found, Exception):
                    await _close(found)
        self._waiting.close()


async def _close(channel: Channel) -> None:
    with trio.CancelScope(shield=True), suppress(Exception):
        await channel.aclose()
