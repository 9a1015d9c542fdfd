"""What only RDMA can do wrong: providers, introductions, endpoints that are left behind."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

pytest.importorskip("transship_rdma", reason="transship-rdma is not installed")

from rdma_helpers import (
    PROVIDERS,
    connected,
    listening,
    loads_seen,
    needs_ipv6,
    needs_provider,
    pair_over,
    until,
)

from transship.errors import ChannelError, ConnectError, PeerClosedError
from transship.testing import Belongings
from transship.testing.checking import blocked_receive, blocked_send, receive_exactly
from transship_rdma import _fabric, _transport
from transship_rdma._greeting import FRAME, Greeting, Hello, pack_frame
from transship_rdma._messages import MESSAGE_BYTES
from transship_rdma._uri import parse_outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Listener


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    needs_provider(name)
    return name


def port_of(listener: Listener) -> int:
    port = parse_outgoing(listener.uri.removeprefix("rdma:"), {}).port
    assert isinstance(port, int)
    return port


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Listening and connecting


async def test_port_zero_becomes_a_real_port_that_keeps_the_options(provider: str) -> None:
    async with listening(f"rdma:127.0.0.1:0,provider={provider}") as listener:
        assert port_of(listener) > 0
        assert listener.uri.endswith(f",provider={provider}")


async def test_little_is_on_its_way_where_the_provider_gets_stuck_easily(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than TCP's smallest window: the kernel's buffer must never be full amid a header."""
    loads = loads_seen(monkeypatch)
    async with pair_over(provider) as (source, destination), trio.open_nursery() as nursery:
        nursery.start_soon(source.send_segments, [bytes(1 << 20)])
        await receive_exactly(destination, 1 << 20)
    most = max(load.operations for load in loads)
    if provider == "sockets":
        assert 0 < most * (MESSAGE_BYTES + 24) < 1 << 16
    else:
        assert most > 3


async def test_both_sides_agree_about_a_provider_without_being_told() -> None:
    needs_provider(PROVIDERS[0])
    async with listening("rdma:127.0.0.1:0") as listener, connected(listener.uri) as source:
        await (await listener.accept()).aclose()
        assert source.provider == _fabric.providers_at("127.0.0.1")[0]


async def test_side_that_insists_decides() -> None:
    needs_provider("sockets")
    async with listening("rdma:127.0.0.1:0", provider="sockets") as listener:
        async with connected(f"rdma:127.0.0.1:{port_of(listener)}") as source:
            await (await listener.accept()).aclose()
            assert source.provider == "sockets"
            assert source.peer.endswith(" (sockets)")


async def test_sides_without_a_common_provider_are_told_so() -> None:
    for provider in PROVIDERS:
        needs_provider(provider)
    async with listening(f"rdma:127.0.0.1:0,provider={PROVIDERS[0]}") as listener:
        with pytest.raises(ConnectError, match="no provider in common"):
            async with connected(f"rdma:127.0.0.1:{port_of(listener)},provider={PROVIDERS[1]}"):
                pass


async def test_provider_that_is_not_there_is_refused_with_those_that_are() -> None:
    async with listening("rdma:127.0.0.1:0") as listener:
        with pytest.raises(ConnectError, match=r"no usable provider.*carrier-pigeon.*found"):
            async with connected(listener.uri + ",provider=carrier-pigeon"):
                pass


async def test_nobody_listening_is_refused_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectError, match=r"rdma:127.0.0.1:\d+: .*refused"):
        async with connected(f"rdma:127.0.0.1:{port}"):
            pass


async def test_port_in_use_is_refused_with_the_reason() -> None:
    async with listening("rdma:127.0.0.1:0") as first:
        with pytest.raises(ConnectError, match=r"cannot listen on rdma:.*in use"):
            async with listening(first.uri):
                pass


async def test_unknown_name_is_refused_with_the_resolvers_reason() -> None:
    with pytest.raises(ConnectError, match=r"no-such-host.invalid:1 has no address here"):
        async with connected("rdma:no-such-host.invalid:1"):
            pass


@needs_ipv6
async def test_peer_over_ipv6_is_named_in_brackets() -> None:
    async with listening("rdma:[::1]:0") as listener, connected(listener.uri) as source:
        assert source.peer == f"rdma:[::1]:{port_of(listener)} ({source.provider})"
        destination = await listener.accept()
        assert destination.peer.startswith("rdma:[::1]:")
        await source.send_segments([b"x"])
        assert await receive_exactly(destination, 1) == b"x"
        await destination.aclose()


# Strangers at the listener


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 4096,
        pack_frame(Greeting.HELLO, b""),
        pack_frame(Greeting.HELLO, b"1234567"),
        pack_frame(Greeting.HELLO, Hello(1, ["no-such-provider"] * 50).pack()),
        pack_frame(Greeting.HELLO, b"\xff" * 1000),
        pack_frame(Greeting.WELCOME, b"\xff" * 100),
        FRAME.pack(b"TSRD", 1, Greeting.HELLO, 65_535),
        FRAME.pack(b"TSRD", 2, Greeting.HELLO, 0),
    ],
)
async def test_stranger_is_dropped_and_the_next_source_comes_through(
    words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening("rdma:127.0.0.1:0") as listener:
        stranger = await trio.open_tcp_stream("127.0.0.1", port_of(listener))
        async with stranger:
            with suppress(trio.BrokenResourceError):  # hung up on already
                await stranger.send_all(words)
                await stranger.send_eof()
            with trio.fail_after(5):
                async with connected(listener.uri) as source:
                    destination = await listener.accept()
                    await source.send_segments([b"x"])
                    assert await receive_exactly(destination, 1) == b"x"
                    await destination.aclose()
    (message,) = caplog.messages
    assert message.startswith("a connection from rdma:127.0.0.1:")
    assert "was turned away: " in message


@pytest.mark.parametrize("name", [b"", b"\0" * 16, b"\xff" * 255, b"\2\0" + bytes(200)])
async def test_source_that_names_no_endpoint_is_dropped(provider: str, name: bytes) -> None:
    async with listening(f"rdma:127.0.0.1:0,provider={provider}") as listener:
        before = descriptors()
        stranger = await trio.open_tcp_stream("127.0.0.1", port_of(listener))
        async with stranger:
            await stranger.send_all(pack_frame(Greeting.HELLO, Hello(1, [provider]).pack()))
            with trio.fail_after(5):
                assert await stranger.receive_some(1) == b"T"
                await stranger.send_all(pack_frame(Greeting.ENDPOINT, name))
                while await stranger.receive_some(4096):
                    pass
        await until(lambda: descriptors() <= before)


async def test_silent_strangers_keep_nobody_waiting_and_are_dropped_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_transport, "INTRODUCTION_S", 2.0)
    async with listening("rdma:127.0.0.1:0") as listener:
        silent = [await trio.open_tcp_stream("127.0.0.1", port_of(listener)) for _ in range(8)]
        with trio.fail_after(1.9):
            async with connected(listener.uri):
                await (await listener.accept()).aclose()
        with trio.fail_after(5):
            for stranger in silent:
                assert await stranger.receive_some(1) == b""
                await stranger.aclose()


async def test_listener_that_speaks_another_protocol_is_named_as_such() -> None:
    async def speak_http(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.receive_some(1000)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, speak_http, listeners)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(ConnectError, match="speaks another protocol"):
            async with connected(f"rdma:127.0.0.1:{port}"):
                pass
        nursery.cancel_scope.cancel()


async def test_connecting_to_one_who_never_answers_can_be_cancelled_and_leaves_nothing() -> None:
    _fabric.providers_at("127.0.0.1")  # what libfabric opens once, for good
    with socket.create_server(("127.0.0.1", 0)) as mute:
        before = descriptors()
        with trio.move_on_after(0.3) as scope:
            async with connected(f"rdma:127.0.0.1:{mute.getsockname()[1]}"):
                pass
        assert scope.cancelled_caught
        assert descriptors() == before


# What is left behind


async def test_many_connections_leave_neither_descriptors_nor_memory(provider: str) -> None:
    async with listening(f"rdma:127.0.0.1:0,provider={provider}") as listener:

        async def meet() -> None:
            async with connected(listener.uri) as source:
                destination = await listener.accept()
                await source.send_segments([b"x" * 50_000])
                assert len(await receive_exactly(destination, 50_000)) == 50_000
                await destination.aclose()

        for _ in range(40):  # until allocators have all that they come to keep, some 100 MiB
            await meet()
        gc.collect()
        before = Belongings.now()
        for _ in range(15):
            await meet()
        gc.collect()
        after = Belongings.now()
        assert after.descriptors == before.descriptors
        growth = after.resident_bytes - before.resident_bytes
        assert growth < 15 * 1024 * 1024, "more than 1 MiB a connection stays"


async def test_opening_cancelled_at_any_moment_leaves_nothing(provider: str) -> None:
    async with listening(f"rdma:127.0.0.1:0,provider={provider}") as listener:
        async with connected(listener.uri):
            await (await listener.accept()).aclose()
        before = descriptors()
        for turn in range(12):
            with trio.move_on_after(0.02 * turn):
                async with connected(listener.uri):
                    pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_turn_all_away, listener)
            await until(lambda: descriptors() <= before)
            nursery.cancel_scope.cancel()


async def _turn_all_away(listener: Listener) -> None:
    while True:
        await (await listener.accept()).aclose()


# Signals

LOADING = """
import os, signal, sys
from pathlib import Path

def caught():
    return [line for line in Path("/proc/self/status").read_text().splitlines() if "SigCgt" in line]

heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
before = caught()
from transship_rdma import _fabric
_fabric.providers_at("127.0.0.1")
assert caught() == before, (before, caught())
os.kill(os.getpid(), signal.SIGTERM)
assert heard == [signal.SIGTERM]
"""


def test_libraries_that_are_loaded_do_not_take_over_signals() -> None:
    subprocess.run([sys.executable, "-c", LOADING], check=True, timeout=60)


# A peer that is killed

SOURCE = """
import sys, trio
from transship.abc import Address
from transship_rdma import plugin

async def main():
    async with plugin.start_outgoing(Address.parse(sys.argv[1]), {}) as channel:
        await channel.send_segments([b"half"])
        await trio.sleep(60)

trio.run(main)
"""


@asynccontextmanager
async def channel_of_another_process(provider: str) -> AsyncIterator[tuple[Channel, trio.Process]]:
    """A channel from a process that sends four bytes and then neither sends nor reads."""
    async with listening(f"rdma:127.0.0.1:0,provider={provider}") as listener:
        peer = await trio.lowlevel.open_process([sys.executable, "-c", SOURCE, listener.uri])
        try:
            with trio.fail_after(30):
                channel = await listener.accept()
                assert await receive_exactly(channel, 4) == b"half"
                yield channel, peer
                await channel.aclose()
        finally:
            peer.kill()
            await peer.wait()


async def test_peer_that_is_killed_ends_a_receive(provider: str) -> None:
    async with channel_of_another_process(provider) as (channel, peer):
        async with blocked_receive(channel) as attempt:
            peer.send_signal(signal.SIGKILL)
            await attempt.wait(2)
        assert isinstance(attempt.error, PeerClosedError)


async def test_peer_that_is_killed_breaks_a_blocked_send(provider: str) -> None:
    async with channel_of_another_process(provider) as (channel, peer):
        async with blocked_send(channel) as attempt:
            peer.send_signal(signal.SIGKILL)
            await attempt.wait(2)
        assert isinstance(attempt.error, ChannelError)


async def test_last_words_arrive_although_the_sender_closes_at_once(provider: str) -> None:
    words = os.urandom(1_000_000)
    async with pair_over(provider) as (source, destination), trio.open_nursery() as nursery:

        async def say_and_go() -> None:
            await source.send_segments([words])
            await source.aclose()

        nursery.start_soon(say_and_go)
        assert await receive_exactly(destination, len(words)) == words
        assert await destination.receive_some_into(memoryview(bytearray(1))) == 0
