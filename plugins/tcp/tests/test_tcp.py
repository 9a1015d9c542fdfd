"""What only TCP can do wrong: names, several addresses, ports, lost hosts."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from transship.abc import Address, ExtraChannels
from transship.errors import ConnectError, PeerClosedError
from transship.testing.checking import blocked_receive, blocked_send, receive_exactly
from transship_tcp import _transport, plugin
from transship_tcp._uri import TcpAddress, parse_incoming, parse_outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from transship.abc import Channel, Listener

HAS_IPV6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="interfaces are chosen on Linux only")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


@asynccontextmanager
async def listening(uri: str, **options: str | int | bool) -> AsyncIterator[Listener]:
    async with plugin.start_incoming(Address.parse(uri), options) as listener:
        yield listener


@asynccontextmanager
async def connected(uri: str, **options: str | int | bool) -> AsyncIterator[Channel]:
    async with plugin.start_outgoing(Address.parse(uri), options) as channel:
        yield channel


def port_of(listener: Listener) -> int:
    port = parse_outgoing(listener.uri.removeprefix("tcp:"), {}).port
    assert isinstance(port, int)
    return port


def socket_of(channel: Channel) -> socket.socket:
    raw: socket.socket = channel._socket  # type: ignore[attr-defined]
    return raw


class Resolver(trio.abc.HostnameResolver):
    """Knows the addresses of one host."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, *question: Any, **more: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in self.addresses
        ]

    async def getnameinfo(self, *question: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that never answers: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        with socket.create_connection(full.getsockname()):
            yield full.getsockname()


# Listening


@pytest.mark.seed("S34")
async def test_port_zero_becomes_a_real_port_that_can_be_connected_to() -> None:
    async with listening("tcp:127.0.0.1:0") as listener:
        assert port_of(listener) > 0
        async with connected(listener.uri):
            await (await listener.accept()).aclose()


@needs_ipv6
async def test_empty_host_listens_on_both_families_with_one_port() -> None:
    async with listening("tcp::0") as listener:
        for host in ("127.0.0.1", "[::1]"):
            async with connected(f"tcp:{host}:{port_of(listener)}") as source:
                destination = await listener.accept()
                await source.send_segments([b"x"])
                assert await receive_exactly(destination, 1) == b"x"
                await destination.aclose()


@needs_ipv6
async def test_family_that_is_left_out_is_not_listened_on() -> None:
    async with listening("tcp::0,ipv6=off") as listener:
        with pytest.raises(ConnectError):
            async with connected(f"tcp:[::1]:{port_of(listener)}"):
                pass


@needs_ipv6
async def test_peer_over_ipv6_is_named_in_brackets() -> None:
    async with listening("tcp:[::1]:0") as listener, connected(listener.uri) as source:
        assert listener.uri == source.peer == f"tcp:[::1]:{port_of(listener)}"
        destination = await listener.accept()
        assert destination.peer.startswith("tcp:[::1]:")
        await destination.aclose()


async def test_range_of_ports_takes_the_first_that_is_free() -> None:
    async with listening("tcp:127.0.0.1:0") as first:
        port = port_of(first)
        last = min(port + 20, 65_535)
        async with listening(f"tcp:127.0.0.1:{port},to={last}") as second:
            assert port < port_of(second) <= last


async def test_port_in_use_is_refused_with_the_reason() -> None:
    async with listening("tcp:127.0.0.1:0") as first:
        with pytest.raises(ConnectError, match=r"cannot listen on tcp:.*already in use"):
            async with listening(first.uri):
                pass


async def test_port_can_be_listened_on_again_right_after_a_connection() -> None:
    async with listening("tcp:127.0.0.1:0") as listener, connected(listener.uri):
        uri = listener.uri
        destination = await listener.accept()
        await destination.aclose()  # this side closes first, and keeps the connection's remains
    async with listening(uri):
        pass


async def test_address_of_another_host_cannot_be_listened_on() -> None:
    with pytest.raises(ConnectError, match=r"cannot listen on tcp:192.0.2.1:0"):
        async with listening("tcp:192.0.2.1:0"):
            pass


async def test_all_sockets_are_closed_when_one_of_them_fails() -> None:
    async with listening("tcp:127.0.0.1:0") as first:
        before = len(os.listdir("/proc/self/fd"))
        trio.socket.set_custom_hostname_resolver(
            Resolver(("127.0.0.2", port_of(first)), ("127.0.0.1", port_of(first)))
        )
        with pytest.raises(ConnectError, match="in use"):
            async with listening(f"tcp:two-addresses:{port_of(first)}"):
                pass
        assert len(os.listdir("/proc/self/fd")) == before


async def test_host_with_several_addresses_is_listened_on_with_one_port() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(("127.0.0.1", 0), ("127.0.0.2", 0)))
    async with listening("tcp:two-addresses:0") as listener:
        assert listener.uri == f"tcp:two-addresses:{port_of(listener)}"
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, port_of(listener))):
                await (await listener.accept()).aclose()


# Connecting


@pytest.mark.seed("S42")
async def test_nobody_listening_is_refused_with_every_address_and_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    trio.socket.set_custom_hostname_resolver(Resolver(("127.0.0.1", port), ("127.0.0.2", port)))
    with pytest.raises(ConnectError) as caught:
        async with connected(f"tcp:nobody:{port}"):
            pass
    assert f"tcp:127.0.0.1:{port}: Connection refused" in str(caught.value)
    assert f"tcp:127.0.0.2:{port}: Connection refused" in str(caught.value)


async def test_unknown_name_is_refused_with_the_resolvers_reason() -> None:
    with pytest.raises(ConnectError, match=r"tcp:no-such-host.invalid:1 has no address here"):
        async with connected("tcp:no-such-host.invalid:1"):
            pass


async def test_every_address_of_a_host_is_tried() -> None:
    async with listening("tcp:127.0.0.1:0") as listener:
        port = port_of(listener)
        trio.socket.set_custom_hostname_resolver(
            Resolver(("127.0.0.2", port), ("127.0.0.3", port), ("127.0.0.1", port))
        )
        async with connected(f"tcp:many:{port}") as source:
            assert source.peer == f"tcp:127.0.0.1:{port}"
            await (await listener.accept()).aclose()


async def test_address_that_never_answers_gives_way_to_the_next(
    black_hole: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport, "ATTEMPT_S", 0.1)
    async with listening("tcp:127.0.0.1:0") as listener:
        good = ("127.0.0.1", port_of(listener))
        trio.socket.set_custom_hostname_resolver(Resolver(black_hole, good))
        with trio.fail_after(5):
            async with connected(f"tcp:two-addresses:{good[1]}") as source:
                assert source.peer == f"tcp:127.0.0.1:{good[1]}"


async def test_connecting_can_be_cancelled_and_leaves_nothing(black_hole: tuple[str, int]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    started = trio.current_time()
    with trio.move_on_after(0.1) as scope:
        async with connected(f"tcp:127.0.0.1:{black_hole[1]}"):
            pass
    assert scope.cancelled_caught
    assert trio.current_time() - started < 1
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_entering_in_a_cancelled_scope_does_not_go_through(host: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for context in (listening(f"tcp:{host}:0"), connected(f"tcp:{host}:1")):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with context:
                pass
        assert scope.cancelled_caught
    assert len(os.listdir("/proc/self/fd")) == before


# Sockets


@pytest.mark.seed("S35")
@pytest.mark.parametrize("keep_alive", [True, False])
async def test_both_ends_are_set_up_for_migration(keep_alive: bool) -> None:
    suffix = "" if keep_alive else ",keep-alive=off"
    async with listening(f"tcp:127.0.0.1:0{suffix}") as listener:
        assert listener.uri.endswith(suffix)
        async with connected(listener.uri) as source:
            destination = await listener.accept()
            for channel in (source, destination):
                raw = socket_of(channel)
                assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert bool(raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keep_alive
                if keep_alive:
                    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            await destination.aclose()


async def test_little_waits_in_extra_channels_within_one_host() -> None:
    async with listening("tcp:127.0.0.1:0") as listener, connected(listener.uri) as first:
        more: ExtraChannels | None = first.capability(ExtraChannels)
        assert more is not None
        async with more.open_channel() as extra:
            main, other = (
                socket_of(channel).getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
                for channel in (first, extra)
            )
        assert other == 512 * 1024, "the kernel doubles what it is asked for"
        assert main > other


async def test_multipath_is_used_where_the_host_has_it() -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP).close()
    except (OSError, AttributeError):
        pytest.skip("this kernel has no Multipath TCP")
    async with listening("tcp:127.0.0.1:0,mptcp") as listener:
        async with connected(listener.uri) as source:
            destination = await listener.accept()
            assert source._socket.proto == socket.IPPROTO_MPTCP  # type: ignore[attr-defined]
            await source.send_segments([b"x"])
            assert await receive_exactly(destination, 1) == b"x"
            await destination.aclose()


def test_service_name_is_looked_up_when_connecting_not_before() -> None:
    assert parse_incoming("h:http", {}) == TcpAddress("h", "http")


# A peer that is killed

SOURCE = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"half")
    time.sleep(60)
"""


@asynccontextmanager
async def channel_of_another_process() -> AsyncIterator[tuple[Channel, trio.Process]]:
    """A channel from a process that sends four bytes and then neither sends nor reads."""
    async with listening("tcp:127.0.0.1:0") as listener:
        arguments = [sys.executable, "-c", SOURCE, str(port_of(listener))]
        peer = await trio.lowlevel.open_process(arguments)
        try:
            with trio.fail_after(20):
                channel = await listener.accept()
                assert await receive_exactly(channel, 4) == b"half"
                yield channel, peer
                await channel.aclose()
        finally:
            peer.kill()
            await peer.wait()


async def test_peer_that_is_killed_ends_a_receive() -> None:
    async with channel_of_another_process() as (channel, peer):
        async with blocked_receive(channel) as attempt:
            peer.send_signal(signal.SIGKILL)
            await attempt.wait()


@pytest.mark.seed("S59")
async def test_peer_that_is_killed_breaks_a_blocked_send() -> None:
    async with channel_of_another_process() as (channel, peer):
        async with blocked_send(channel) as attempt:
            peer.send_signal(signal.SIGKILL)
            await attempt.wait()
        assert isinstance(attempt.error, PeerClosedError)


# Where a connection comes from.


async def test_connection_comes_from_the_address_that_was_asked_for() -> None:
    async with (
        listening("tcp:127.0.0.1:0") as listener,
        connected(f"{listener.uri},bind=127.0.0.2") as channel,
    ):
        assert socket_of(channel).getsockname()[0] == "127.0.0.2"
        accepted = await listener.accept()
        assert accepted.peer.startswith("tcp:127.0.0.2:")
        await accepted.aclose()


async def test_extra_channel_comes_from_there_too() -> None:
    async with (
        listening("tcp:127.0.0.1:0") as listener,
        connected(listener.uri, bind="127.0.0.2") as channel,
    ):
        extra = channel.capability(ExtraChannels)
        assert extra is not None
        async with extra.open_channel() as other:
            assert socket_of(other).getsockname()[0] == "127.0.0.2"


async def test_address_that_is_not_of_this_host_is_refused() -> None:
    async with listening("tcp:127.0.0.1:0") as listener:
        with pytest.raises(ConnectError, match=r"not from 192\.0\.2\.1: Cannot assign"):
            async with connected(f"{listener.uri},bind=192.0.2.1"):
                pytest.fail("connected")


async def test_source_of_another_family_is_refused() -> None:
    with pytest.raises(ConnectError, match="an IPv6 address"):
        async with connected("tcp:127.0.0.1:1,bind=[::1]"):
            pytest.fail("connected")


@needs_ipv6
async def test_source_chooses_among_the_addresses_of_a_name() -> None:
    trio.socket.set_custom_hostname_resolver(None)
    async with (
        listening("tcp:[::1]:0") as listener,
        connected(listener.uri, bind="::1") as channel,
    ):
        assert socket_of(channel).getsockname()[0] == "::1"


def interface_of(channel: Channel) -> bytes:
    option = socket_of(channel).getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    return option.rstrip(b"\0")


@on_linux
async def test_both_sides_can_be_kept_to_an_interface() -> None:
    async with (
        listening("tcp:127.0.0.1:0,interface=lo") as listener,
        connected(listener.uri, interface="lo") as channel,
    ):
        assert "interface" not in listener.uri
        assert interface_of(channel) == b"lo"
        accepted = await listener.accept()
        assert interface_of(accepted) == b"lo"
        await accepted.aclose()


@on_linux
async def test_interface_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConnectError, match="interface nosuch0: there is no such interface"):
        async with listening("tcp:127.0.0.1:0,interface=nosuch0"):
            pytest.fail("it listens")
    with pytest.raises(ConnectError, match="interface nosuch0: there is no such interface"):
        async with connected("tcp:127.0.0.1:1,interface=nosuch0"):
            pytest.fail("connected")


@on_linux
async def test_connection_by_another_interface_is_not_made() -> None:
    """In a network of its own, in which only the second interface leads to the listener."""
    script = (
        "ip link set lo up; ip link add name left0 type veth peer name right0;"
        "ip addr add 198.51.100.1/24 dev left0; ip link set left0 up; ip link set right0 up;"
        f"exec {sys.executable} -c '{_BY_INTERFACE}'"
    )
    result = await trio.run_process(
        ["unshare", "--net", "sh", "-ec", script],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    said = result.stderr.decode()
    if "not permitted" in said or "Unknown device type" in said or "not supported" in said:
        pytest.skip(f"no network namespace with interfaces to be had here: {said.strip()}")
    assert result.returncode == 0, said
    assert result.stdout.decode().split() == ["lo:connected", "left0:refused"]


_BY_INTERFACE = """
import trio
from transship.abc import Address
from transship.errors import ConnectError
from transship_tcp import plugin

async def main():
    async with plugin.start_incoming(Address.parse("tcp:127.0.0.1:0"), {}) as listener:
        address = Address.parse(listener.uri)
        for name in ("lo", "left0"):
            try:
                with trio.fail_after(1):
                    async with plugin.start_outgoing(address, {"interface": name}):
                        print(f"{name}:connected")
            except (ConnectError, trio.TooSlowError):
                print(f"{name}:refused")

trio.run(main)
"""
