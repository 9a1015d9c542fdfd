"""Where a server listens: its socket file, its port, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest
import trio

from transship.control.address import QmpAddress
from transship.control.server.serving import serve
from transship.errors import BlockedError, ConnectError

from .control_helpers import NO_HOST, Client, Workshop, connected, negotiated, serving

if TYPE_CHECKING:
    from pathlib import Path


async def refusal(address: str, error: type[Exception] = ConnectError) -> str:
    """What is said of an address that is refused."""
    with pytest.raises(error) as refused:
        await serve(address, NO_HOST, Workshop().table)
    return str(refused.value)


async def test_socket_file_is_for_its_owner_alone_and_goes_in_the_end(socket_path: Path) -> None:
    before = os.umask(0)
    try:
        async with serving(f"unix:{socket_path}", Workshop()) as server:
            mode = socket_path.stat().st_mode
            assert server.address == f"unix:{socket_path}"
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert not socket_path.exists()


async def test_stale_socket_file_is_replaced(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(socket_path))
    async with serving(f"unix:{socket_path}", Workshop()), negotiated(socket_path):
        pass


async def test_path_where_somebody_listens_is_refused(socket_path: Path) -> None:
    async with serving(f"unix:{socket_path}", Workshop()):
        assert "somebody else listens" in await refusal(f"unix:{socket_path}")
        async with negotiated(socket_path):
            pass


async def test_file_that_is_no_socket_is_refused_and_kept(socket_path: Path) -> None:
    socket_path.write_text("precious")
    assert "no socket" in await refusal(f"unix:{socket_path}")
    assert socket_path.read_text() == "precious"


async def test_path_that_cannot_be_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    await refusal(f"unix:{tmp_path}/no/such/folder")
    await refusal(f"unix:{tmp_path}/{'x' * 200}")
    assert "a zero byte" in await refusal(f"unix:{tmp_path}/a\0b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["", "tcp:", "tcp:host", "tcp:host:port", "unix:", "udp:a:1"])
async def test_malformed_address_is_refused(address: str) -> None:
    await refusal(address, BlockedError)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
async def test_port_zero_is_any_that_is_free_and_reported(host: str) -> None:
    async with serving(f"tcp:{host}:0", Workshop()) as server:
        address = QmpAddress.parse(server.address)
        assert address.port > 0
        stream = await trio.open_tcp_stream(address.host, address.port)
        async with stream:
            client = Client(stream.socket)
            await client.negotiate()
            assert await client.execute("say", text="a") == {"return": "a"}


async def test_every_address_of_a_host_is_listened_on_with_one_port() -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *question: Any, **more: Any) -> Any:
            places = [("127.0.0.1", 0), ("127.0.0.2", 0)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in places]

        async def getnameinfo(self, *question: Any) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    async with serving("tcp:both:0", Workshop()) as server:
        port = QmpAddress.parse(server.address).port
        for host in ("127.0.0.1", "127.0.0.2"):
            stream = await trio.open_tcp_stream(host, port)
            async with stream:
                await Client(stream.socket).negotiate()


async def test_port_that_is_taken_is_refused() -> None:
    async with serving("tcp:127.0.0.1:0", Workshop()) as server:
        assert f"cannot listen on {server.address}: " in await refusal(server.address)


async def test_unknown_host_is_refused() -> None:
    await refusal("tcp:256.256.256.256:1")


async def test_server_outlives_its_socket_file(socket_path: Path) -> None:
    async with serving(f"unix:{socket_path}", Workshop()):
        async with connected(socket_path) as client:
            socket_path.unlink()
            await client.negotiate()
