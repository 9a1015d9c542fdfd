"""What only a WebSocket can do wrong."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Address
from transship.errors import ChannelError, ConnectError
from transship_websocket._address import parse_incoming, parse_outgoing
from transship_websocket._channel import MESSAGE_BYTES, WebSocketChannel, _messages
from transship_websocket._connect import connect
from transship_websocket._listen import listen

if TYPE_CHECKING:
    from certificates import Certificates

ANY = parse_incoming(Address.parse("ws:127.0.0.1:0"), {})


@pytest.mark.parametrize("size", [0, 1, MESSAGE_BYTES, MESSAGE_BYTES + 1, 3 * MESSAGE_BYTES - 1])
def test_messages_have_all_bytes_and_are_never_too_long(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    messages = list(_messages([data[:1], b"", memoryview(data)[1:size]] if size else [b""]))
    assert b"".join(messages) == data[:size]
    assert all(0 < len(message) <= MESSAGE_BYTES for message in messages)


async def test_peer_that_says_something_else_is_told_apart() -> None:
    async with listen(ANY) as listener:
        async with connect(parse_outgoing(Address.parse(listener.uri), {})) as stranger:
            assert isinstance(stranger, WebSocketChannel)
            await stranger._connection.send_message("hello")
            channel = await listener.accept()
            with pytest.raises(ChannelError, match="does not speak as Transship does"):
                await channel.receive_some_into(memoryview(bytearray(1)))
            await channel.aclose()


async def test_whoever_is_no_websocket_does_not_end_the_listening() -> None:
    async with listen(ANY) as listener:
        port = int(listener.uri.rpartition(":")[2])
        for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\xff" * 1000, b""):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(said)
            await stream.aclose()
        async with connect(parse_outgoing(Address.parse(listener.uri), {})) as source:
            with trio.fail_after(5):
                channel = await listener.accept()
            await source.send_segments([b"x"])
            assert await channel.receive_some_into(memoryview(bytearray(1))) == 1
            await channel.aclose()


async def test_server_that_is_no_websocket_is_named() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listening,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listening.socket.getsockname()[1]
        with trio.fail_after(5), pytest.raises(ConnectError, match="cannot connect"):
            async with connect(parse_outgoing(Address.parse(f"ws:127.0.0.1:{port}"), {})):
                pass
        nursery.cancel_scope.cancel()


async def test_host_with_an_unknown_certificate_is_refused(certificates: Certificates) -> None:
    secure = {"certificate": certificates.host}
    async with listen(parse_incoming(Address.parse("wss:127.0.0.1:0"), secure)) as listener:
        place = parse_outgoing(Address.parse(listener.uri), {})
        with trio.fail_after(5), pytest.raises(ConnectError, match="certificate"):
            async with connect(place):
                pass


async def test_missing_certificate_is_named() -> None:
    place = parse_incoming(Address.parse("wss:127.0.0.1:0,certificate=/nowhere.pem"), {})
    with pytest.raises(ConnectError, match="cannot listen"):
        async with listen(place):
            pass
