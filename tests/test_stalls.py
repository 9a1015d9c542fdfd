"""A peer that hangs or goes: nobody waits longer than was said, and nobody loses a guest."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from engine_channels import Wrap, connected, listening
from faults_support import Host, Hosts, record_ends, takes_at_most, until
from tls_certificates import SERVER, make_folder
from tls_pair import destination_security, source_security

from transship.abc.settings import Parameters, Settings
from transship.assembly import sections_for
from transship.engine.incoming import IncomingMigration
from transship.engine.migration import Migration
from transship.errors import HandoverError, MigrationError
from transship.guests.synthetic import SyntheticGuest
from transship.testing import ChannelWrapper, CloseAfter, memory_channel_pair
from transship.tls import Endpoint, X509Credentials
from transship.wire import encoder
from transship.wire.constants import CommandType, RecordType
from transship.wire.events import Configuration, SectionHeader
from transship.wire.returnpath import pong, shut

if TYPE_CHECKING:
    from transship.abc import Channel
    from transship.abc.security import ChannelSecurity
    from transship.buffers import Buffer

STALL: Final = ("--stall-timeout", "1s")
STALLED_S: Final = 1 + 1 + 1.5
"""A second of waiting, one of cleaning up, and what a loaded machine adds."""

SECURED_S: Final = STALLED_S + 2.0
"""The same behind TLS: shaking hands, and encrypting at both ends, come before the stall."""

CANCELLED_S: Final = 1.0

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Peer = Callable[[Any], Awaitable[None]]


# Destinations that are none.


@asynccontextmanager
async def false_destination(hosts: Hosts, peer: Peer) -> AsyncIterator[str]:
    """Listen, and let ``peer`` deal with the source; gives the address."""
    uri = hosts.unix("false")
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(uri.removeprefix("unix:"))
    listening.listen()

    async def answer() -> None:
        connection, _ = await listening.accept()
        async with trio.SocketStream(connection) as stream:
            await peer(stream)
            await trio.sleep_forever()

    with listening:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            yield uri
            nursery.cancel_scope.cancel()


async def never_reads(stream: Stream) -> None:
    await trio.lowlevel.checkpoint()


async def stops_in_the_middle(stream: Stream) -> None:
    left = 1 << 20
    while left > 0:
        left -= len(await stream.receive_some(min(left, 1 << 16)))


async def never_answers(stream: Stream) -> None:
    with suppress(trio.BrokenResourceError):
        async for _ in stream:
            pass


async def answers_once(stream: Stream) -> None:
    said = bytearray()
    while encoder.ping(1) not in said:
        said += await stream.receive_some(1 << 16)
    await stream.send_all(pong(1).encode())
    await never_answers(stream)


def over_tls(peer: Peer, pki: str) -> Peer:
    """A peer that shakes hands first."""
    context = X509Credentials(Path(pki), Endpoint.SERVER).context()

    async def shake_hands(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True)
        await secured.do_handshake()
        await peer(secured)

    return shake_hands


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_folder(tmp_path_factory.mktemp("pki"))


def with_credentials(pki: str) -> tuple[str, ...]:
    return ("--set", f"tls-creds={pki}", "--set", f"tls-hostname={SERVER}")


def start_source(hosts: Hosts, uri: str, *options: str, ram: str = "16MiB") -> Host:
    guest = f"synthetic:ram={ram},dirty-rate=1MiB/s,journal={hosts.journal}"
    return hosts.start(
        *("source", "run", guest, "--migrate-to", uri, "--bandwidth", "unlimited", *options)
    )


@pytest.mark.parametrize(
    ("peer", "section", "cause"),
    [
        (never_reads, "ram", "1 s"),
        (stops_in_the_middle, "ram", "1 s"),
        (never_answers, None, "did not answer PING 1 within 1 s"),
    ],
)
async def test_destination_that_hangs_is_given_up_in_time_and_the_guest_runs_on(
    peer: Peer, section: str | None, cause: str
) -> None:
    await hangs(peer, section, cause)


@pytest.mark.parametrize(
    ("peer", "section", "cause", "ram"),
    [
        (stops_in_the_middle, "ram", "1 s", "16MiB"),
        # All of it is decrypted here, and the stall is timed, not that.
        (never_answers, None, "did not answer PING 1", "3MiB"),
    ],
)
async def test_destination_that_hangs_behind_tls_is_given_up_in_time_and_the_guest_runs_on(
    peer: Peer, section: str | None, cause: str, ram: str, pki: str
) -> None:
    secured = over_tls(peer, pki)
    await hangs(secured, section, cause, *with_credentials(pki), ram=ram, within_s=SECURED_S)


async def hangs(
    peer: Peer,
    section: str | None,
    cause: str,
    *options: str,
    ram: str = "16MiB",
    within_s: float = STALLED_S,
) -> None:
    with Hosts() as hosts:
        async with false_destination(hosts, peer) as uri:
            source = start_source(hosts, uri, *STALL, *options, ram=ram)
            await until(lambda: hosts.ticks() > 0, "the guest runs")
            with takes_at_most(within_s, "giving up"):
                failed = await source.event("left", "failed")
            error = failed["error"]
            assert (error["kind"], error["side"]) == ("StalledError", "source")
            assert (error["phase"], error["section"]) == ("active", section)
            assert cause in error["cause"]
            assert error["source_may_resume"] is True
            await goes_on_in(hosts, source, exit_code=1)


@pytest.mark.seed("S43")
@pytest.mark.parametrize("peer", [never_reads, stops_in_the_middle, never_answers])
async def test_source_that_waits_for_a_hanging_destination_is_cancelled_at_once(
    peer: Peer,
) -> None:
    await waits_in_vain(peer)


async def never_shakes_hands(stream: trio.SocketStream) -> None:
    await stream.receive_some(1)


@pytest.mark.parametrize("peer", [never_reads, never_answers])
async def test_source_that_waits_behind_tls_is_cancelled_at_once(peer: Peer, pki: str) -> None:
    await waits_in_vain(over_tls(peer, pki), *with_credentials(pki))


async def test_source_that_waits_for_a_handshake_is_cancelled_at_once(pki: str) -> None:
    await waits_in_vain(never_shakes_hands, *with_credentials(pki))


async def waits_in_vain(peer: Peer, *options: str) -> None:
    with Hosts() as hosts:
        async with false_destination(hosts, peer) as uri:
            source = start_source(hosts, uri, *options)
            await until(lambda: hosts.ticks() > 0, "the guest runs")
            await trio.sleep(0.7)
            assert source.events() == []
            await cancelled(hosts, source)


@pytest.mark.seed("S43")
async def test_source_whose_guest_is_paused_for_an_answer_is_cancelled_at_once() -> None:
    with Hosts() as hosts:
        async with false_destination(hosts, answers_once) as uri:
            source = start_source(hosts, uri)
            await until(lambda: hosts.ticks() > 0, "the guest runs")
            await trio.sleep(0.7)
            await hosts.stands_still()
            await cancelled(hosts, source)


async def cancelled(hosts: Hosts, source: Host) -> None:
    """Cancel the migration; the guest goes on."""
    source.send(signal.SIGINT)
    with takes_at_most(CANCELLED_S, "cancelling"):
        failed = await source.event("failed")
    assert failed["status"] == "cancelled"
    assert failed["error"]["kind"] == "CancelledError"
    await goes_on_in(hosts, source, exit_code=5)


async def goes_on_in(hosts: Hosts, source: Host, *, exit_code: int) -> None:
    """The guest runs in the source, whole, until it is told to end."""
    await hosts.ticks_on(source)
    stopped = await source.stop()
    assert stopped["exit_code"] == exit_code
    assert stopped["guest"]["consistent"] is True
    hosts.judge()


async def test_second_interrupt_leaves_at_once_with_130() -> None:
    with Hosts() as hosts:
        async with false_destination(hosts, answers_once) as uri:
            source = hosts.start(
                *("source", "run", "test_stalls:reluctant_guest", "--migrate-to", uri),
                environment={"PYTHONPATH": os.pathsep.join(sys.path)},
            )
            await until(lambda: hosts.folder.joinpath("source.err").stat().st_size > 0, "it runs")
            await trio.sleep(1)
            source.send(signal.SIGINT)
            await until(lambda: "cancelling" in source.notes(), "it cancels")
            source.send(signal.SIGINT)
            assert await source.ended() == 128 + signal.SIGINT
            assert "Traceback" not in source.notes()


async def test_signal_to_run_that_comes_before_the_guest_does_not_end_the_process() -> None:
    with Hosts() as hosts:
        uri = hosts.unix("destination")
        waiting = hosts.start("destination", "run", "synthetic:ram=1MiB", "--incoming", uri)
        await waiting.listening()
        waiting.send(signal.SIGUSR1)
        await trio.sleep(0.2)
        assert not waiting.has_ended
        waiting.send(signal.SIGTERM)
        assert await waiting.ended() == 5


def reluctant_guest() -> SyntheticGuest:
    """A guest that takes a second to go on after it was paused."""

    class ReluctantGuest(SyntheticGuest):
        async def resume(self) -> None:
            if self.counter:
                await trio.sleep(1)
            await super().resume()

    return ReluctantGuest(1 << 20)


# Sources that are none.


def beginning() -> bytes:
    """The head of a stream for a synthetic guest of 1 MiB, up to the table of its RAM blocks."""
    ram = SectionHeader(RecordType.SECTION_START, 1, "ram", 0, 4)
    return b"".join(
        [
            encoder.stream_header(),
            encoder.configuration(Configuration(machine="transship-synthetic-1")),
            encoder.command(CommandType.OPEN_RETURN_PATH),
            encoder.ping(1),
            encoder.section_header(ram),
        ]
    )


class Receiving:
    """A destination that waits: a process that hosts a guest, or one that writes a folder."""

    def __init__(self, hosts: Hosts, kind: str, *options: str) -> None:
        self.folder = hosts.folder / "checkpoints"
        self.folder.mkdir()
        uri = hosts.unix("destination")
        if kind == "run":
            arguments = ["run", "synthetic:ram=1MiB", "--incoming", uri]
        else:
            arguments = ["receive", uri, "--to", str(self.folder / "vm")]
        self.host = hosts.start("destination", *arguments, *options)

    async def connect(self) -> trio.SocketStream:
        uri = await self.host.listening()
        return await trio.open_unix_socket(uri.removeprefix("unix:"))

    async def failed(self, exit_code: int) -> dict[str, Any]:
        """Wait for its end; returns the error. Nothing may be left of it."""
        assert await self.host.ended() == exit_code
        assert list(self.folder.iterdir()) == []
        error: dict[str, Any] = self.host.events()[-1]["error"]
        return error


both_kinds = pytest.mark.parametrize("kind", ["run", "receive"])


@both_kinds
@pytest.mark.parametrize("sent_bytes", [0, 3, 20, None])
async def test_source_that_hangs_is_given_up_in_time_and_nothing_is_left(
    kind: str, sent_bytes: int | None
) -> None:
    with Hosts() as hosts:
        receiving = Receiving(hosts, kind, *STALL)
        async with await receiving.connect() as stream:
            await stream.send_all(beginning()[:sent_bytes])
            with takes_at_most(STALLED_S, "giving up"):
                error = await receiving.failed(1)
            assert (error["kind"], error["side"]) == ("StalledError", "destination")
            assert error["phase"] == "active"
            assert "1 s" in error["cause"]
            assert error["offset"] is not None


@both_kinds
async def test_source_that_hangs_behind_tls_is_given_up_in_time_and_nothing_is_left(
    kind: str, pki: str
) -> None:
    context = X509Credentials(Path(pki), Endpoint.CLIENT).context()
    with Hosts() as hosts:
        receiving = Receiving(hosts, kind, *STALL, *with_credentials(pki)[:2])
        async with await receiving.connect() as connection:
            stream = trio.SSLStream(connection, context, server_hostname=SERVER)
            await stream.do_handshake()
            await stream.send_all(beginning())
            with takes_at_most(SECURED_S, "giving up"):
                error = await receiving.failed(1)
            assert (error["kind"], error["side"]) == ("StalledError", "destination")
            assert error["offset"] is not None


@both_kinds
@pytest.mark.parametrize("is_connected", [False, True])
async def test_destination_that_waits_is_cancelled_at_once_and_nothing_is_left(
    kind: str, is_connected: bool
) -> None:
    with Hosts() as hosts:
        receiving = Receiving(hosts, kind)
        async with await stream_to(receiving, is_connected) as stream:
            await stream.send_all(beginning() if is_connected else b"")
            await trio.sleep(0.1)
            receiving.host.send(signal.SIGINT)
            with takes_at_most(CANCELLED_S, "cancelling"):
                error = await receiving.failed(5)
            assert error["kind"] == "CancelledError"


async def stream_to(receiving: Receiving, is_connected: bool) -> trio.SocketStream:
    """A connection to the destination, or to nobody."""
    if is_connected:
        return await receiving.connect()
    await receiving.host.listening()
    near, far = trio.socket.socketpair()
    far.close()
    return trio.SocketStream(near)


@both_kinds
async def test_source_that_closes_in_the_middle_is_reported_and_nothing_is_left(kind: str) -> None:
    with Hosts() as hosts:
        receiving = Receiving(hosts, kind)
        async with await receiving.connect() as stream:
            await stream.send_all(beginning())
            await stream.receive_some(1 << 10)  # the answer to the PING
        error = await receiving.failed(1)
        assert error["kind"] == "StreamError"
        assert error["section"] == "ram"
        assert error["offset"] == len(beginning())


# A peer that closes early, wherever a record, or a word of the return path, ends.


class Recorder(ChannelWrapper):
    """Keeps what is sent."""

    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.sent = bytearray()

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        for segment in segments:
            self.sent += segment
        await super().send_segments(segments)


_RAM_BYTES: Final = 1 << 18
_PARAMETERS: Final = Parameters(max_bandwidth_bytes_per_s=0, stall_timeout_s=20.0)


async def passes(
    near: Wrap, far: Wrap, pki: str | None = None
) -> tuple[MigrationError | None, MigrationError | None]:
    """Let a guest pass in this process; at its end one side may have it. Returns both errors."""
    with (
        SyntheticGuest(_RAM_BYTES, tick_s=1) as here,
        SyntheticGuest(_RAM_BYTES, seed=99, tick_s=1) as there,
    ):
        await here.resume()
        await until(lambda: here.counter > 0, "it has ticked")
        near_end, far_end = memory_channel_pair()
        near_channel, far_channel = near(near_end), far(far_end)
        ours, theirs = (Settings(parameters=_PARAMETERS, security=one) for one in _security(pki))
        source = Migration(here, sections_for(here), connected(near_channel), ours)
        destination = IncomingMigration(
            there, sections_for(there), listening(far_channel, accepts_more=False), theirs
        )
        async with trio.open_nursery() as nursery:
            for attempt in (source, destination):
                nursery.start_soon(_ignoring_errors, attempt.run)
        await _check(here, there, source.error, destination.error)
        return source.error, destination.error


def _security(pki: str | None) -> tuple[ChannelSecurity | None, ChannelSecurity | None]:
    """Of the source, and of the destination."""
    if pki is None:
        return None, None
    return source_security(Path(pki)), destination_security(Path(pki))


async def _ignoring_errors(run: Callable[[], Awaitable[object]]) -> None:
    with suppress(MigrationError):
        await run()


async def _check(
    here: SyntheticGuest,
    there: SyntheticGuest,
    here_error: MigrationError | None,
    there_error: MigrationError | None,
) -> None:
    assert not (here.is_running and there.is_running)
    if here.is_running:
        assert here_error is not None
        assert here_error.source_may_resume is True
    else:
        assert here_error is None or isinstance(here_error, HandoverError)
    if there.is_running:
        await until(lambda: there.counter > here.counter, "it has gone on")
        await there.pause()
        assert there.verify().ok
    elif not here.is_running:
        assert isinstance(here_error, HandoverError)
        assert isinstance(there_error, HandoverError)


def unchanged(channel: Channel) -> Channel:
    return channel


@pytest.mark.parametrize("closer", ["source", "destination"])
@pytest.mark.parametrize("direction", ["stream", "return path"])
async def test_peer_that_closes_at_any_record_boundary_leaves_the_guest_to_one_side(
    closer: str, direction: str
) -> None:
    recorders: list[Recorder] = []

    def record(channel: Channel) -> Channel:
        recorders.append(Recorder(channel))
        return recorders[-1]

    assert await passes(record, record) == (None, None)
    if direction == "stream":
        with SyntheticGuest(_RAM_BYTES) as guest:
            ends = record_ends(bytes(recorders[0].sent), guest)
        places = [0, *(end.offset for end in ends)]
    else:
        places = [0, len(pong(1).encode()), 2 * len(pong(1).encode())]
        words = (pong(1), pong(2), shut(failed=False))
        assert recorders[1].sent == b"".join(word.encode() for word in words)
    sends = (closer == "source") == (direction == "stream")
    for place in places:

        def close(channel: Channel, place: int = place) -> Channel:
            if sends:
                return CloseAfter(channel, sent_bytes=place)
            return CloseAfter(channel, received_bytes=place)

        if closer == "source":
            await passes(close, unchanged)
        else:
            await passes(unchanged, close)


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.soak)])
@pytest.mark.parametrize("closer", ["source", "destination"])
@pytest.mark.parametrize("direction", ["stream", "return path"])
async def test_peer_that_closes_anywhere_in_tls_leaves_the_guest_to_one_side(
    closer: str, direction: str, count: int, pki: str
) -> None:
    recorders: list[Recorder] = []

    def record(channel: Channel) -> Channel:
        recorders.append(Recorder(channel))
        return recorders[-1]

    assert await passes(record, record, pki) == (None, None)
    whole = len(recorders[0 if direction == "stream" else 1].sent)
    chance = random.Random(count)
    sends = (closer == "source") == (direction == "stream")
    # Both ends of it are dense: a handshake at one, the hand-over at the other.
    near_an_end = [chance.randrange(min(4000, whole)) for _ in range(count // 3)]
    places = [
        *near_an_end,
        *(whole - place for place in near_an_end),
        *(chance.randrange(whole) for _ in range(count - 2 * len(near_an_end))),
    ]
    for place in places:

        def close(channel: Channel, place: int = place) -> Channel:
            if sends:
                return CloseAfter(channel, sent_bytes=place)
            return CloseAfter(channel, received_bytes=place)

        near, far = (close, unchanged) if closer == "source" else (unchanged, close)
        with trio.fail_after(30):
            await passes(near, far, pki)
