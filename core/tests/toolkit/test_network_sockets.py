"""Names become socket addresses, and those become sockets that are connected or listen."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
import trio

from transship.errors import ConnectError
from transship.toolkit import (
    NetworkAddress,
    connect_to,
    keep_alive,
    listen_on,
    new_socket,
    resolve,
    uri_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.toolkit import SocketAddress

HAS_IPV6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
ANYWHERE = NetworkAddress("", 0)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


# Looking names up


async def test_literal_is_its_own_address() -> None:
    assert await resolve(NetworkAddress("192.0.2.7", 4444)) == [("192.0.2.7", 4444)]
    assert await resolve(NetworkAddress("::1", 4444)) == [("::1", 4444, 0, 0)]


async def test_empty_host_is_the_loopback_interface_or_all_interfaces() -> None:
    over_ipv4 = NetworkAddress("", 4444, ipv6=False)
    assert await resolve(over_ipv4) == [("127.0.0.1", 4444)]
    assert await resolve(over_ipv4, to_listen=True) == [("0.0.0.0", 4444)]


async def test_family_that_is_left_out_is_not_among_the_addresses() -> None:
    found = await resolve(NetworkAddress("", 4444, ipv4=False))
    assert found
    assert all(len(where) == 4 for where in found)
    with pytest.raises(ConnectError, match="has no address here"):
        await resolve(NetworkAddress("127.0.0.1", 1, ipv4=False))


async def test_address_that_a_resolver_repeats_is_there_once() -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *question: Any, **more: Any) -> Any:
            where = ("192.0.2.7", 1)
            return [(socket.AF_INET, socket.SOCK_STREAM, proto, "", where) for proto in (6, 262)]

        async def getnameinfo(self, *question: Any) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    assert await resolve(NetworkAddress("twice", 1)) == [("192.0.2.7", 1)]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 100, ".", "x..y"])
async def test_name_without_an_address_is_refused(host: str) -> None:
    with pytest.raises(ConnectError, match=r"has no address here: \S"):
        await resolve(NetworkAddress(host, 1))


async def test_no_name_is_looked_up_if_there_are_to_be_numbers() -> None:
    assert await resolve(NetworkAddress("127.0.0.1", 7), numeric=True) == [("127.0.0.1", 7)]
    for address in (NetworkAddress("localhost", 7), NetworkAddress("127.0.0.1", "http")):
        with pytest.raises(ConnectError, match="has no address here"):
            await resolve(address, numeric=True)


# Connecting


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.usefixtures("nothing_is_left")
async def test_connection_is_made_and_does_not_block() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(new_socket(server.getsockname())) as connection,
    ):
        await connect_to(connection, server.getsockname())
        assert connection.getpeername() == server.getsockname()
        with pytest.raises(BlockingIOError):
            connection.recv(1)


@pytest.mark.usefixtures("nothing_is_left")
async def test_nobody_listening_is_refused_and_the_socket_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = free.getsockname()
    connection = new_socket(where)
    with pytest.raises(ConnectionRefusedError):
        await connect_to(connection, where)
    assert connection.fileno() == -1


async def test_connection_to_itself_is_nobody_listening() -> None:
    """A free port from the kernel's own range may be given to the very socket that asks for it."""
    connection = new_socket(("127.0.0.1", 0))
    connection.bind(("127.0.0.1", 0))
    with pytest.raises(ConnectionRefusedError):
        await connect_to(connection, connection.getsockname())
    assert connection.fileno() == -1


async def test_cancelled_connection_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        where = full.getsockname()
        with socket.create_connection(where):
            connection = new_socket(where)
            with trio.move_on_after(0.05) as scope:
                await connect_to(connection, where)
    assert scope.cancelled_caught
    assert connection.fileno() == -1


# Listening


@pytest.mark.usefixtures("nothing_is_left")
def test_all_addresses_are_listened_on_with_one_port() -> None:
    places: list[SocketAddress] = [("127.0.0.1", 0), ("127.0.0.2", 0)]
    with ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in listen_on(ANYWHERE, places)]
        assert [one.getsockname()[0] for one in sockets] == ["127.0.0.1", "127.0.0.2"]
        assert len({one.getsockname()[1] for one in sockets}) == 1
        for one in sockets:
            socket.create_connection(one.getsockname()).close()


@needs_ipv6
def test_both_families_are_listened_on_with_one_port() -> None:
    with ExitStack() as stack:
        places: list[SocketAddress] = [("::", 0, 0, 0), ("0.0.0.0", 0)]
        sockets = [stack.enter_context(one) for one in listen_on(ANYWHERE, places)]
        assert len({one.getsockname()[1] for one in sockets}) == 1


@pytest.mark.usefixtures("nothing_is_left")
def test_address_that_this_machine_lacks_is_left_out_unless_it_is_the_only_one() -> None:
    with ExitStack() as stack:
        places: list[SocketAddress] = [("192.0.2.1", 0), ("127.0.0.1", 0)]
        (only,) = (stack.enter_context(one) for one in listen_on(ANYWHERE, places))
        assert only.getsockname()[0] == "127.0.0.1"
    with pytest.raises(ConnectError, match="cannot listen on "):
        listen_on(ANYWHERE, [("192.0.2.1", 0)])


@pytest.mark.usefixtures("nothing_is_left")
def test_port_that_one_address_lacks_is_taken_at_none_of_them(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    before = open_descriptors()
    with pytest.raises(ConnectError, match="in use"):
        listen_on(ANYWHERE, [("127.0.0.2", port), ("127.0.0.1", port)])
    assert open_descriptors() == before
    listening.close()


def test_ports_up_to_the_last_are_tried(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    (found,) = listen_on(ANYWHERE, [("127.0.0.1", port)], last_port=min(port + 50, 65_535))
    with found:
        assert port < found.getsockname()[1] <= port + 50


def test_ports_that_are_all_taken_are_named() -> None:
    def refuse(where: SocketAddress) -> socket.socket:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    with pytest.raises(ConnectError, match=r"in use, each port from 7 to 9$"):
        listen_on(ANYWHERE, [("127.0.0.1", 7)], last_port=9, make_socket=refuse)
    with pytest.raises(ConnectError, match=r"in use$"):
        listen_on(ANYWHERE, [("127.0.0.1", 7)], last_port=7, make_socket=refuse)


def test_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ConnectError, match="expected a last port of 80 or higher; found 79"):
        listen_on(ANYWHERE, [("127.0.0.1", 80)], last_port=79)


def test_failure_that_another_port_does_not_mend_ends_it() -> None:
    asked: list[SocketAddress] = []

    def refuse(where: SocketAddress) -> socket.socket:
        asked.append(where)
        raise PermissionError(errno.EPERM, "not for you")

    with pytest.raises(ConnectError, match="not for you"):
        listen_on(ANYWHERE, [("127.0.0.1", 7)], last_port=9, make_socket=refuse)
    assert asked == [("127.0.0.1", 7)]


# The rest


def test_silent_peer_is_asked_for_a_sign_of_life(listening: socket.socket) -> None:
    with socket.create_connection(listening.getsockname()) as connection:
        assert not connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        keep_alive(connection, idle_s=7, interval_s=8, probes=9)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [connection.getsockopt(socket.IPPROTO_TCP, one) for one in options] == [7, 8, 9]


def test_peer_is_named_as_a_uri() -> None:
    assert uri_of("tcp", ("192.0.2.7", 4444)) == "tcp:192.0.2.7:4444"
    assert uri_of("rdma", ("::1", 4444, 0, 0)) == "rdma:[::1]:4444"
