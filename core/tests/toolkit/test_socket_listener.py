from __future__ import annotations

import errno
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship.errors import ChannelError
from transship.testing.checking import blocked
from transship.toolkit import SocketChannel, SocketListener

if TYPE_CHECKING:
    from collections.abc import Iterator


def listening_socket() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@contextmanager
def listener_on(count: int) -> Iterator[tuple[SocketListener, list[socket.socket]]]:
    sockets = [listening_socket() for _ in range(count)]
    listener = SocketListener(sockets, "test:", lambda one: SocketChannel(one, "a peer"))
    try:
        yield listener, sockets
    finally:
        listener.close()


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_accept_takes_connections_to_any_of_its_sockets(count: int) -> None:
    with listener_on(count) as (listener, sockets):
        for listening in sockets:
            with socket.create_connection(listening.getsockname()):
                with trio.fail_after(5):
                    channel = await listener.accept()
                await channel.aclose()


@pytest.mark.parametrize("count", [1, 2])
async def test_accept_that_waits_takes_a_connection_to_the_last_socket(count: int) -> None:
    with listener_on(count) as (listener, sockets):

        async def accept_one() -> None:
            channel = await listener.accept()
            await channel.aclose()

        async with blocked("accepting", accept_one) as attempt:
            with socket.create_connection(sockets[-1].getsockname()):
                await attempt.wait()
            assert attempt.error is None


@pytest.mark.parametrize("count", [1, 2])
async def test_accept_that_waits_fails_when_listening_stops(count: int) -> None:
    with listener_on(count) as (listener, _):
        async with blocked("accepting", listener.accept) as attempt:
            listener.close()
            await attempt.wait()
        assert "no longer listened on" in str(attempt.error)
        with pytest.raises(ChannelError, match="no longer listened on"):
            await listener.accept()


@pytest.mark.parametrize("count", [1, 2])
async def test_accept_that_waits_can_be_cancelled(count: int) -> None:
    with listener_on(count) as (listener, _):
        async with blocked("accepting", listener.accept) as attempt:
            attempt.scope.cancel()
            await attempt.wait(1)


async def test_connection_lost_before_it_became_a_channel_is_passed_over() -> None:
    listening = listening_socket()
    failures = [OSError(errno.ENOTCONN, "gone")]

    def make_channel(connection: socket.socket) -> SocketChannel:
        if failures:
            raise failures.pop()
        return SocketChannel(connection, "a peer")

    listener = SocketListener([listening], "test:", make_channel)
    try:
        address = listening.getsockname()
        with socket.create_connection(address) as lost, socket.create_connection(address):
            with trio.fail_after(5):
                channel = await listener.accept()
            assert lost.recv(1) == b""  # it was closed, not leaked
            await channel.aclose()
    finally:
        listener.close()


async def test_listening_that_breaks_is_an_error_that_names_the_address() -> None:
    with listener_on(1) as (listener, sockets):
        sockets[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises(ChannelError, match="test: cannot accept") as caught:
            await listener.accept()
        assert isinstance(caught.value.__cause__, OSError)
