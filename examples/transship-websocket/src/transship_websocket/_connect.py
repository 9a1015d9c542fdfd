"""Connects to a WebSocket."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from trio_websocket import HandshakeError, WebSocketConnection, wrap_client_stream

from transship.errors import ConnectError
from transship.toolkit import OwnedNursery
from transship_websocket._channel import WebSocketChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel
    from transship_websocket._address import Place

RECEIVE_BYTES: Final = 256 * 1024
"""Asked of the stream at once; the library's own 4 KiB would be a call for each page."""

_POLL_S: Final = 0.05

PATH: Final = "/transship"


@asynccontextmanager
async def connect(place: Place) -> AsyncIterator[Channel]:
    """Connect when entered, close when left.

    Raises:
        ConnectError: Nobody answers there, or not as a WebSocket, or TLS says no.
    """
    stream: trio.abc.Stream | None = None
    tasks = await OwnedNursery.open()
    try:
        stream = await _open_stream(place)
        connection = await _shake_hands(place, stream, tasks)
    except (OSError, ssl.SSLError, trio.BrokenResourceError, HandshakeError) as error:
        await give_up(stream, tasks)
        raise ConnectError(f"cannot connect to {place}", found=_reason(error)) from error
    except BaseException:
        await give_up(stream, tasks)
        raise
    channel = WebSocketChannel(connection, stream, tasks, str(place), partial(connect, place))
    try:
        yield channel
    finally:
        await channel.aclose()


async def _open_stream(place: Place) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    if not place.is_secure:
        return await trio.open_tcp_stream(place.host, place.port)
    context = ssl.create_default_context(cafile=place.ca)
    stream = await trio.open_ssl_over_tcp_stream(
        place.host, place.port, ssl_context=context, https_compatible=True
    )
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _shake_hands(
    place: Place,
    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream],
    tasks: OwnedNursery,
) -> WebSocketConnection:
    connection: WebSocketConnection | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_idle, tasks.nursery, nursery.cancel_scope)
        connection = await wrap_client_stream(
            tasks.nursery,
            stream,
            f"{place.host}:{place.port}",
            PATH,
            receive_buffer_size=RECEIVE_BYTES,
        )
        nursery.cancel_scope.cancel()
    if connection is None or connection.closed is not None:
        raise HandshakeError
    return connection


async def _cancel_when_idle(nursery: trio.Nursery, scope: trio.CancelScope) -> None:
    """The library waits for an answer also when the task that reads it has ended."""
    await trio.sleep(_POLL_S)
    while nursery.child_tasks:  # noqa: ASYNC110 (nothing is set when they end)
        await trio.sleep(_POLL_S)
    scope.cancel()


async def give_up(stream: trio.abc.Stream | None, tasks: OwnedNursery | None) -> None:
    """Close what there is of a channel that will be none."""
    try:
        if stream is not None:
            await trio.aclose_forcefully(stream)
    finally:
        if tasks is not None:
            await tasks.aclose()


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else None
    return str(cause or error) or "no WebSocket"
