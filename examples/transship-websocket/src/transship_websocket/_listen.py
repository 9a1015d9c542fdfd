"""Listens for WebSockets."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from trio_websocket import wrap_server_stream

from transship.errors import ConnectError
from transship.toolkit import OwnedNursery, introducing_listener
from transship_websocket._channel import WebSocketChannel
from transship_websocket._connect import RECEIVE_BYTES, give_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Listener
    from transship_websocket._address import Place

_HANDSHAKE_S: Final = 10.0
"""Whoever connects and says nothing must not be kept for ever."""


@asynccontextmanager
async def listen(place: Place) -> AsyncIterator[Listener]:
    """Listen when entered, stop when left; channels that were accepted stay open.

    Raises:
        ConnectError: The address cannot be listened on, or there is no certificate.
    """
    try:
        context = _context(place)
        listeners = await trio.open_tcp_listeners(place.port, host=place.host)
    except OSError as error:
        raise ConnectError(f"cannot listen on {place}", found=str(error)) from error
    if place.port == 0:  # each address of the host would get a port of its own
        for other in listeners[1:]:
            await other.aclose()
        del listeners[1:]
    here = place.for_source(listeners[0].socket.getsockname()[1])
    try:
        async with introducing_listener(
            str(here),
            [one.accept for one in listeners],
            partial(_shake_hands, here, context),
            timeout_s=_HANDSHAKE_S,
            name=partial(_name, here),
        ) as listener:
            yield listener
    finally:
        for one in listeners:
            await trio.aclose_forcefully(one)


async def _shake_hands(
    here: Place, context: ssl.SSLContext | None, connection: trio.SocketStream
) -> Channel:
    """The channel of a connection, which is closed if it is no WebSocket."""
    peer = _name(here, connection)
    stream: trio.abc.Stream = connection
    if context is not None:
        stream = trio.SSLStream(connection, context, server_side=True, https_compatible=True)
    tasks: OwnedNursery | None = None
    try:
        tasks = await OwnedNursery.open()
        request = await wrap_server_stream(tasks.nursery, stream, receive_buffer_size=RECEIVE_BYTES)
        return WebSocketChannel(await request.accept(), stream, tasks, peer)
    except BaseException:
        await give_up(stream, tasks)
        raise


def _name(here: Place, connection: trio.SocketStream) -> str:
    try:
        host, port, *_ = connection.socket.getpeername()
    except OSError:
        return "somebody who hung up"
    return f"{here.scheme}:{host}:{port}"


def _context(place: Place) -> ssl.SSLContext | None:
    if place.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place.certificate, place.key)
    return context
