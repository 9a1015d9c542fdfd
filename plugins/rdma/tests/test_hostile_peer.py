"""A peer that says what it may not: the channel ends with the reason, and nothing else happens.

The peer is a real one, whose links are made to say anything; or an endpoint without a link.
"""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

pytest.importorskip("transship_rdma", reason="transship-rdma is not installed")

from hypothesis import given, strategies as st
from rdma_helpers import PROVIDERS, listening, needs_provider, pair_over, until

from transship.abc import RemoteRun
from transship.errors import ChannelError
from transship.testing.checking import is_resizable, receive_exactly
from transship_rdma._channel import CREDITS
from transship_rdma._fabric import Endpoint
from transship_rdma._greeting import FRAME, Greeting, Hello, Welcome, pack_frame
from transship_rdma._messages import (
    CHUNKS_PER_REQUEST,
    HEADER,
    MESSAGE_BYTES,
    MOST_BLOCKS,
    Chunks,
    Exposed,
    Kind,
    MalformedError,
    Mirror,
    Mirrored,
    Refused,
    pack_chunks,
    pack_count,
    pack_places,
    unpack_chunks,
    unpack_count,
    unpack_places,
)
from transship_rdma._uri import parse_outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transship_rdma._channel import FabricChannel
    from transship_rdma._link import Link
    from transship_rdma._writer import FabricWriter


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    needs_provider(name)
    return name


# Bodies


@pytest.mark.parametrize(
    "unpack",
    [
        Exposed.unpack,
        Mirror.unpack,
        Mirrored.unpack,
        Refused.unpack,
        unpack_chunks,
        unpack_count,
        lambda body: unpack_places(body, CHUNKS_PER_REQUEST),
    ],
)
@given(body=st.binary(max_size=64) | st.binary(min_size=1000, max_size=1100))
def test_any_body_is_read_or_refused(unpack: Callable[[bytes], object], body: bytes) -> None:
    try:
        unpack(body)
    except MalformedError:
        return


names = st.binary(max_size=255)
numbers = st.integers(0, 2**32 - 1)
identities = st.integers(0, 2**64 - 1)
endpoints = st.builds(Exposed, numbers, identities, names)
tables = st.lists(st.tuples(st.text(max_size=60), identities), max_size=20).map(tuple)


@given(endpoints, tables)
def test_bodies_are_read_back(endpoint: Exposed, table: tuple[tuple[str, int], ...]) -> None:
    assert Exposed.unpack(endpoint.pack()) == endpoint
    mirror = Mirror(endpoint, table)
    assert Mirror.unpack(mirror.pack()) == mirror


@given(identities, st.lists(st.tuples(identities, identities), max_size=MOST_BLOCKS))
def test_places_are_read_back(identity: int, places: list[tuple[int, int]]) -> None:
    assert Mirrored.unpack(Mirrored(identity, places).pack()) == Mirrored(identity, places)


def test_reason_of_a_refusal_has_one_line_and_an_end() -> None:
    refused = Refused.unpack(Refused(1, "a\nb\x1b[31m" + "c" * 5000).pack())
    assert refused.reason.isprintable()
    assert len(refused.reason) <= 1000


# Messages of the channel


async def say(link: Link, kind: int, body: bytes = b"") -> None:
    with trio.fail_after(5):
        while not link.try_send(kind, (body,)):  # type: ignore[arg-type]
            await link.change()


class Stranger:
    """An endpoint without a link: nobody sees to it that what it says is right."""

    SLOTS = 16

    def __init__(self, provider: str) -> None:
        self.endpoint = Endpoint(provider, "127.0.0.1", self.SLOTS, MESSAGE_BYTES)
        self.identity = 0
        self.heard: list[bytes] = []
        self._said = 0
        for slot in range(self.SLOTS // 2):
            assert self.endpoint.receive(slot)

    def header(self, **other: int) -> bytes:
        """That of an honest message, but for what is said otherwise."""
        honest = {
            "identity": self.identity,
            "number": self._said,
            "kind": Kind.END,
            "zero": 0,
            "length": 0,
        }
        return HEADER.pack(*(honest | other).values())

    async def say(self, message: bytes) -> None:
        """Send a message as it is, header and all."""
        slot = self.SLOTS // 2 + self._said
        start = slot * MESSAGE_BYTES
        self.endpoint.memory[start : start + len(message)] = message
        await until(lambda: self.endpoint.send(slot, len(message)))
        self._said += 1

    async def run(self) -> None:
        """Make progress until cancelled; keeps what is heard."""
        while True:
            for slot, length in self.endpoint.poll()[0]:
                if length is not None:
                    start = slot * MESSAGE_BYTES
                    self.heard.append(bytes(self.endpoint.memory[start : start + length]))
            await trio.sleep(0.001)


@asynccontextmanager
async def stranger(provider: str) -> AsyncIterator[tuple[Stranger, FabricChannel]]:
    """One that introduced itself as a source does, and the destination's channel to it."""
    async with listening("rdma:127.0.0.1:0") as listener, trio.open_nursery() as nursery:
        port = parse_outgoing(listener.uri.removeprefix("rdma:"), {}).port
        assert isinstance(port, int)
        async with await trio.open_tcp_stream("127.0.0.1", port) as lifeline:
            await lifeline.send_all(pack_frame(Greeting.HELLO, Hello(1, [provider]).pack()))
            welcome = Welcome.unpack((await lifeline.receive_some())[FRAME.size :])
            source = Stranger(provider)
            source.endpoint.connect(welcome.name)
            source.identity = welcome.identity
            nursery.start_soon(source.run)
            await lifeline.send_all(pack_frame(Greeting.ENDPOINT, source.endpoint.name))
            await source.say(source.header(kind=Kind.OPEN))
            with trio.fail_after(10):
                destination = await listener.accept()
            yield source, destination  # type: ignore[misc]
            await destination.aclose()
            nursery.cancel_scope.cancel()
        source.endpoint.close()


async def ends_with(channel: FabricChannel, reason: str) -> None:
    """The channel fails, soon, for all who use it."""
    with trio.fail_after(5):
        with pytest.raises(ChannelError, match=reason):
            await receive_exactly(channel, 1 << 20)
        with pytest.raises(ChannelError, match=reason):
            await channel.send_segments([b"x"])
    assert not channel._link._endpoint.is_open, "nothing listens to such a peer any more"


HEADERS: dict[str, tuple[Callable[[Stranger], bytes], str]] = {
    "no header": (lambda source: b"", "shorter than its header"),
    "half a header": (lambda source: source.header()[:11], "shorter than its header"),
    "another identity": (lambda source: source.header(identity=1), "not from"),
    "a number said before": (lambda source: source.header(number=0), "out of order"),
    "a number left out": (lambda source: source.header(number=3), "out of order"),
    "bits without a meaning": (lambda source: source.header(zero=1), "not from"),
    "less than it says": (lambda source: source.header(length=1), "another length"),
    "more than it says": (lambda source: source.header() + b"x", "another length"),
}


@pytest.mark.parametrize("what", list(HEADERS))
async def test_message_with_a_wrong_header_ends_the_channel(provider: str, what: str) -> None:
    make, reason = HEADERS[what]
    async with stranger(provider) as (source, destination):
        await source.say(source.header(kind=Kind.DATA, length=1) + b"x")
        assert await receive_exactly(destination, 1) == b"x"
        await source.say(make(source))
        await ends_with(destination, reason)


SAYINGS: dict[str, list[tuple[int, bytes]]] = {
    "an unknown kind": [(77, b"")],
    "kind 0": [(0, b"")],
    "an empty piece": [(Kind.DATA, b"")],
    "a piece after the end": [(Kind.END, b""), (Kind.DATA, b"x")],
    "the end twice": [(Kind.END, b""), (Kind.END, b"")],
    "an end with a body": [(Kind.END, b"x")],
    "credit for nothing": [(Kind.CREDIT, pack_count(1))],
    "no credit": [(Kind.CREDIT, pack_count(0))],
    "malformed credit": [(Kind.CREDIT, b"\0\0")],
    "a farewell with a body": [(Kind.CLOSE, b"x")],
    "a farewell twice": [(Kind.CLOSE, b""), (Kind.CLOSE, b"")],
    "the opening twice": [(Kind.OPEN, b"")],
    "a message of memory": [(Kind.REGISTER, pack_chunks([Chunks(0, 0, 1)]))],
    "malformed exposure": [(Kind.EXPOSED, b"\0" * 5)],
    "an exposure out of turn": [(Kind.EXPOSED, Exposed(2, 0, b"").pack())],
    "exposures without end": [
        (Kind.EXPOSED, Exposed(1, 0, b"").pack()),
        (Kind.EXPOSED, Exposed(2, 0, b"").pack()),
    ],
    "what was never exposed": [(Kind.MIRROR, Mirror(Exposed(1, 0, b""), ()).pack())],
    "an answer nobody asked for": [(Kind.MIRRORED, Mirrored(0, []).pack())],
    "a refusal nobody asked for": [(Kind.REFUSED, Refused(0, "no").pack())],
    "a withdrawal of nothing": [(Kind.WITHDRAWN, pack_count(1))],
}


@pytest.mark.parametrize("what", list(SAYINGS))
async def test_message_that_may_not_come_ends_the_channel(provider: str, what: str) -> None:
    async with pair_over(provider) as (source, destination):
        for kind, body in SAYINGS[what]:
            await say(source._link, kind, body)
        await until(lambda: destination._link.failure is not None)
        with pytest.raises(ChannelError):
            await destination.send_segments([b"x"])
        assert isinstance(destination._link.failure, MalformedError)


async def test_sender_that_does_not_wait_for_credit_ends_the_channel(provider: str) -> None:
    async with pair_over(provider) as (source, destination):
        for _ in range(CREDITS + 1):
            await say(source._link, Kind.DATA, b"x" * 1000)
        await until(lambda: destination._link.failure is not None)
        assert await receive_exactly(destination, CREDITS * 1000) == b"x" * CREDITS * 1000
        await ends_with(destination, "may not come")


async def test_peer_that_speaks_over_tcp_ends_the_channel(provider: str) -> None:
    async with pair_over(provider) as (source, destination):
        await source._lifeline.send_all(b"hello?")
        await ends_with(destination, "spoke out of turn")


# Messages of the memory


@asynccontextmanager
async def joined(
    provider: str, there: bytearray
) -> AsyncIterator[tuple[FabricChannel, FabricChannel, FabricWriter]]:
    """A source that mirrors memory, and the destination that exposes it; they end badly."""
    async with pair_over(provider) as (source, destination):
        with memoryview(bytearray(there)) as ours, memoryview(there) as theirs:
            async with destination.expose({"ram": theirs}, at_once=False):
                async with source.mirror({"ram": ours}, at_once=False) as writer:
                    yield source, destination, writer  # type: ignore[misc]
        gc.collect()
        assert is_resizable(there), "memory stays registered"


REQUESTS: dict[str, tuple[int, bytes]] = {
    "of another block": (Kind.REGISTER, pack_chunks([Chunks(1, 0, 1)])),
    "beyond the block": (Kind.REGISTER, pack_chunks([Chunks(0, 3, 1)])),
    "across its end": (Kind.REGISTER, pack_chunks([Chunks(0, 2, 2)])),
    "far away": (Kind.REGISTER, pack_chunks([Chunks(0, 2**32 - 1, 1)])),
    "for nothing": (Kind.REGISTER, b""),
    "for no chunks": (Kind.REGISTER, pack_chunks([Chunks(0, 0, 0)])),
    "for no chunks among others": (
        Kind.REGISTER,
        pack_chunks([Chunks(0, 0, 1), Chunks(0, 0, 0)]),
    ),
    "for too many chunks": (Kind.REGISTER, pack_chunks([Chunks(0, 0, 65_535)])),
    "for the same too often": (
        Kind.REGISTER,
        pack_chunks([Chunks(0, 0, 1)] * (CHUNKS_PER_REQUEST + 1)),
    ),
    "cut short": (Kind.REGISTER, pack_chunks([Chunks(0, 0, 1)])[:-1]),
    "malformed to flush": (Kind.FLUSH, b"\0"),
    "that is an answer": (Kind.REGISTERED, pack_places([(0, 0)])),
    "that is a piece of the stream": (Kind.DATA, b"x"),
    "that nobody knows": (99, b""),
}


@pytest.mark.parametrize("what", list(REQUESTS))
async def test_request_that_may_not_come_ends_the_channel(provider: str, what: str) -> None:
    there = bytearray(3 * 2**20)
    async with joined(provider, there) as (_, destination, writer):
        await say(writer.link, *REQUESTS[what])
        await until(lambda: destination._link.failure is not None)
        assert isinstance(destination._link.failure, MalformedError)
    assert not any(there)


async def test_source_that_asks_and_takes_no_answers_ends_the_channel(provider: str) -> None:
    there = bytearray(4096)
    async with joined(provider, there) as (_, destination, writer):
        link = destination._memory._exposure.link  # type: ignore[union-attr]
        link._free.clear()  # as if no answer had left
        with trio.fail_after(10):
            for number in range(200):
                if destination._link.failure is not None:
                    break
                await say(writer.link, Kind.FLUSH, pack_count(number))
                await trio.sleep(0.001)
        await until(lambda: destination._link.failure is not None)
        assert "takes no answers" in str(destination._link.failure)


async def test_stranger_who_finds_the_memorys_endpoint_ends_the_channel(provider: str) -> None:
    """Who does not know how its messages begin is not the source."""
    there = bytearray(4096)
    async with stranger(provider) as (source, destination), trio.open_nursery() as nursery:
        with memoryview(there) as theirs:
            async with destination.expose({"ram": theirs}, at_once=False):
                await until(lambda: len(source.heard) == 2)
                exposed = Exposed.unpack(source.heard[1][HEADER.size :])
                other = Stranger(provider)
                other.endpoint.connect(exposed.name)
                nursery.start_soon(other.run)
                await other.say(other.header(identity=1, kind=Kind.REGISTER))
                await ends_with(destination, "not from")
        nursery.cancel_scope.cancel()
        other.endpoint.close()
    assert not any(there)


ANSWERS: dict[str, tuple[int, bytes]] = {
    "too few places": (Kind.REGISTERED, b""),
    "too many places": (Kind.REGISTERED, pack_places([(1, 1)] * 2)),
    "far too many places": (Kind.REGISTERED, pack_places([(1, 1)] * 500)),
    "half a place": (Kind.REGISTERED, pack_places([(1, 1)])[:-1]),
    "to another question": (Kind.FLUSHED, pack_count(0)),
    "that is a request": (Kind.FLUSH, pack_count(0)),
}


@pytest.mark.parametrize("what", list(ANSWERS))
async def test_answer_that_may_not_come_ends_the_writing(
    provider: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = bytearray(4096)
    async with joined(provider, there) as (source, destination, writer):
        exposure = destination._memory._exposure
        assert exposure is not None
        monkeypatch.setattr(
            type(exposure), "_answer", lambda self, *_: self.link.send_soon(*ANSWERS[what])
        )
        with trio.fail_after(5):
            with pytest.raises(ChannelError):
                await writer.write([RemoteRun("ram", 0, 1)])
        assert isinstance(source._link.failure, MalformedError)


async def test_answer_that_places_other_blocks_is_refused(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transship_rdma._exposure import Exposure

    monkeypatch.setattr(Exposure, "admit", lambda *_: [(1, 1), (2, 2)])
    with memoryview(bytearray(4096)) as memory:
        async with pair_over(provider) as (source, destination):
            async with destination.expose({"ram": memory}, at_once=False):
                with pytest.raises(MalformedError, match="another number of blocks"):
                    async with source.mirror({"ram": memory}, at_once=False):
                        pass


async def test_destination_that_is_nobody_is_refused(provider: str) -> None:
    with memoryview(bytearray(4096)) as memory:
        async with pair_over(provider) as (source, destination):
            for name in (b"", b"\xff" * 255):
                if destination._link.failure is None:
                    await say(destination._link, Kind.EXPOSED, Exposed(1, 0, name).pack())
                with trio.fail_after(5), pytest.raises(ChannelError):
                    async with source.mirror({"ram": memory}, at_once=False):
                        pass
