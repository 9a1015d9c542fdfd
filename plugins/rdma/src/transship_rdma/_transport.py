"""Connects and listens: finds the interface, agrees about a provider, introduces the endpoints."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from transship.errors import ChannelError, ConnectError
from transship.toolkit import (
    connect_to,
    introducing_listener,
    keep_alive,
    listen_on,
    new_socket,
    resolve,
    uri_of,
)
from transship_rdma import _fabric
from transship_rdma._channel import SLOTS, FabricChannel
from transship_rdma._greeting import (
    FRAME,
    Greeting,
    Hello,
    Welcome,
    pack_frame,
    text_of,
    unpack_frame_header,
)
from transship_rdma._link import new_identity
from transship_rdma._messages import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transship.abc import Channel, Listener
    from transship.toolkit import SocketAddress
    from transship_rdma._uri import RdmaAddress

INTRODUCTION_S: Final = 10.0
"""How long the two sides may take from the first byte over TCP to the first message over the
fabric; and how long one address of a host may keep us from trying its next."""

_READY: Final = 16
"""Channels that nobody has accepted yet; each has its buffers registered."""

_KEEP_ALIVE_IDLE_S: Final = 5
_KEEP_ALIVE_INTERVAL_S: Final = 5
_KEEP_ALIVE_PROBES: Final = 3
"""Together: a host that vanished is noticed after 20 s."""


# Connecting


@asynccontextmanager
async def connect(address: RdmaAddress) -> AsyncIterator[Channel]:
    """Connect to the first of the host's addresses that answers; the channel closes when left.

    Raises:
        ConnectError: The name has no address, none of them answers, there is no common provider,
            or the fabric carries nothing; says why for each.

    Cancellation: nothing is left behind.
    """
    channel = await _connect_to_any(address)
    try:
        yield channel
    finally:
        await channel.aclose()


async def _connect_to_any(address: RdmaAddress) -> FabricChannel:
    failures: list[str] = []
    for where in await resolve(address):
        try:
            with trio.fail_after(INTRODUCTION_S):
                return await _introduce_to(address, await _call(where))
        except trio.TooSlowError:
            failures.append(f"{uri_of('rdma', where)}: no answer in {INTRODUCTION_S:.0f} s")
        except OSError as error:
            failures.append(f"{uri_of('rdma', where)}: {error.strerror or error}")
        except ChannelError as error:
            failures.append(f"{uri_of('rdma', where)}: {error}")
    raise ConnectError(f"cannot connect to {address}", found="; ".join(failures))


async def _call(where: SocketAddress) -> trio.SocketStream:
    connection = new_socket(where)
    await connect_to(connection, where)
    try:
        return _lifeline(trio.socket.from_stdlib_socket(connection))
    except OSError:  # it hung up again at once
        connection.close()
        raise


async def _introduce_to(address: RdmaAddress, lifeline: trio.SocketStream) -> FabricChannel:
    """The source's part of the introduction; owns the connection.

    Raises:
        ConnectError: The destination refuses, or is none of ours.
        ChannelError: It broke.
    """
    channel: FabricChannel | None = None
    try:
        host = lifeline.socket.getsockname()[0]
        providers = await _providers(host, address)
        hello = Hello(new_identity(), providers)
        await _say(lifeline, Greeting.HELLO, hello.pack())
        kind, body = await _hear(lifeline)
        if kind == Greeting.REFUSAL:
            raise ConnectError(f"the destination refuses: {text_of(body)}")
        if kind != Greeting.WELCOME:
            raise ConnectError("the destination does not answer the greeting", found=f"kind {kind}")
        welcome = Welcome.unpack(body)
        if welcome.provider not in providers:
            raise ConnectError("the destination chose a provider that was not offered")
        peer = uri_of("rdma", lifeline.socket.getpeername())
        endpoint = await _open(welcome.provider, host)
        channel = FabricChannel(endpoint, hello.identity, host, welcome.provider, lifeline, peer)
        channel.start()
        await _say(lifeline, Greeting.ENDPOINT, endpoint.name)
        await channel.meet(welcome.name, welcome.identity, is_source=True)
    except BaseException:
        await _abandon(channel, lifeline)
        raise
    return channel


# Listening


@asynccontextmanager
async def listen(address: RdmaAddress) -> AsyncIterator[Listener]:
    """Listen on all addresses of the host, on one port; stops when left.

    Raises:
        ConnectError: The name has no address, no port is free, or it is not allowed.
    """
    listening = listen_on(address, await resolve(address, to_listen=True))
    port: int = listening[0].getsockname()[1]
    with ExitStack() as stack:
        sockets = [stack.enter_context(trio.socket.from_stdlib_socket(one)) for one in listening]
        async with introducing_listener(
            str(address.with_port(port)),
            [partial(_accept, one) for one in sockets],
            partial(_introduce_from, address),
            timeout_s=INTRODUCTION_S,
            name=_name,
            ready=_READY,
        ) as listener:
            yield listener


async def _accept(listening: trio.socket.SocketType) -> trio.socket.SocketType:
    connection, _ = await listening.accept()
    return connection


def _name(connection: trio.socket.SocketType) -> str:
    try:
        return uri_of("rdma", connection.getpeername())
    except OSError:
        return "somebody who hung up"


async def _introduce_from(address: RdmaAddress, accepted: trio.socket.SocketType) -> FabricChannel:
    """The destination's part of the introduction; owns the connection.

    Raises:
        ConnectError: The source is none of ours, or there is no common provider.
        ChannelError: It broke.
        OSError: It broke.
    """
    channel: FabricChannel | None = None
    try:
        lifeline = _lifeline(accepted)
        peer = uri_of("rdma", accepted.getpeername())
    except OSError:  # it hung up again at once
        accepted.close()
        raise
    try:
        kind, body = await _hear(lifeline)
        if kind != Greeting.HELLO:
            raise ConnectError("the source does not greet", found=f"kind {kind}")
        hello = Hello.unpack(body)
        host = accepted.getsockname()[0]
        own = await _providers(host, address)
        common = [provider for provider in hello.providers if provider in own]
        if not common:
            raise ConnectError(
                "the two sides have no provider in common", expected=f"one of {', '.join(own)}"
            )
        endpoint = await _open(common[0], host)
        identity = new_identity()
        channel = FabricChannel(endpoint, identity, host, common[0], lifeline, peer)
        channel.start()
        welcome = Welcome(identity, common[0], endpoint.name)
        await _say(lifeline, Greeting.WELCOME, welcome.pack())
        kind, name = await _hear(lifeline)
        if kind != Greeting.ENDPOINT:
            raise ConnectError("the source does not name its endpoint", found=f"kind {kind}")
        await channel.meet(name, hello.identity, is_source=False)
    except BaseException as error:
        if channel is None and isinstance(error, ConnectError):
            await _refuse(lifeline, error)
        await _abandon(channel, lifeline)
        raise
    return channel


async def _refuse(lifeline: trio.SocketStream, error: ConnectError) -> None:
    with trio.move_on_after(1, shield=True):
        try:
            await _say(lifeline, Greeting.REFUSAL, str(error).encode()[:500])
        except OSError:
            return


# What both do


async def _providers(host: str, address: RdmaAddress) -> list[str]:
    """Those that may be used, the best first.

    Raises:
        ConnectError: There is none.
    """
    found = await trio.to_thread.run_sync(_fabric.providers_at, host)
    wanted = [name for name in found if address.provider in (None, name)]
    if not wanted:
        raise ConnectError(
            f"libfabric has no usable provider at {host}",
            expected=address.provider,
            found=", ".join(found) or "none",
        )
    return wanted


async def _open(provider: str, host: str) -> _fabric.Endpoint:
    return await trio.to_thread.run_sync(_fabric.Endpoint, provider, host, SLOTS, MESSAGE_BYTES)


async def _say(lifeline: trio.SocketStream, kind: Greeting, body: bytes) -> None:
    try:
        await lifeline.send_all(pack_frame(kind, body))
    except trio.BrokenResourceError as error:
        raise ConnectError("the peer hung up during the introduction") from error


async def _hear(lifeline: trio.SocketStream) -> tuple[int, bytes]:
    kind, length = unpack_frame_header(await _receive_exactly(lifeline, FRAME.size))
    return kind, await _receive_exactly(lifeline, length)


async def _receive_exactly(lifeline: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            more = await lifeline.receive_some(count - len(data))
        except trio.BrokenResourceError as error:
            raise ConnectError("the peer hung up during the introduction") from error
        if not more:
            raise ConnectError("the peer hung up during the introduction")
        data += more
    return data


async def _abandon(channel: FabricChannel | None, lifeline: trio.SocketStream) -> None:
    with trio.CancelScope(shield=True):
        if channel is not None:
            await channel.aclose()
        await trio.aclose_forcefully(lifeline)


def _lifeline(connection: trio.socket.SocketType) -> trio.SocketStream:
    """A connection that tells soon that the peer, or its host, is gone."""
    keep_alive(
        connection,
        idle_s=_KEEP_ALIVE_IDLE_S,
        interval_s=_KEEP_ALIVE_INTERVAL_S,
        probes=_KEEP_ALIVE_PROBES,
    )
    return trio.SocketStream(connection)
