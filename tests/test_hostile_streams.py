"""A destination that is fed damaged and hostile streams: an error that says where, and no more."""

from __future__ import annotations

import json
import lzma
import os
import random
import re
import subprocess
import sys
import threading
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache, partial
from itertools import chain, repeat
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
import trio
from tls_certificates import make_folder
from tls_pair import destination_security, source_security

from transship.abc import Channel, Listener, Settings
from transship.assembly import sections_for
from transship.engine.incoming import IncomingMigration
from transship.errors import ChannelError, MigrationError, StreamError, TlsError
from transship.guests.recorded import RecordedGuest
from transship.guests.stored import StoredGuest
from transship.memory.ramblock import RAMBlock
from transship.testing import ChannelWrapper, memory_channel_pair
from transship.wire import encoder
from transship.wire.constants import RecordType
from transship.wire.events import Configuration, SectionHeader
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from transship.abc import Guest
    from transship.buffers import Buffer

    Receive = Callable[[bytes, Path], Awaitable[MigrationError | None]]

CAPTURES = Path(os.environ.get("TRANSSHIP_CAPTURES", Path(__file__).parent / "captures"))
STREAMS = ("q10-pc-xbzrle.mig", "q72-pc-tcg-boot.mig", "q10-q35-S.mig")
GROWTH_BYTES = 64 * MIB
"""What a hostile stream may cost above twice the RAM that it carries."""


class Recording(Channel):
    """A source that sends a recorded stream and closes."""

    peer = "a recording"

    def __init__(self, stream: bytes) -> None:
        self._rest = memoryview(stream)

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some_into(self, target: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        part = self._rest[: len(target)]
        target[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class OneChannelListener(Listener):
    uri = "recording:"
    accepts_more = False

    def __init__(self, channel: Channel) -> None:
        self._channels = [channel]

    async def accept(self) -> Channel:
        if not self._channels:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return self._channels.pop()


class InMemory(RecordedGuest[RAMBlock]):
    """Takes any machine into memory that kernels may write themselves."""

    def __init__(self) -> None:
        super().__init__(1024 * MIB)

    def _make_block(self, idstr: str, length: int) -> RAMBlock:
        return RAMBlock.anonymous(idstr, length, page_size=self.page_size)


async def receive(stream: bytes, folder: Path) -> StreamError | None:
    """Receive a stream into a checkpoint; returns the error, after checking what it left."""
    folder.mkdir()
    error = await receive_into(StoredGuest.create(folder / "vm"), stream)
    if error is not None:
        assert list(folder.iterdir()) == [], "a failed migration left something"
        return error
    assert [path.name for path in folder.iterdir()] == ["vm"]
    StoredGuest.open(folder / "vm").close()
    return None


async def receive_in_memory(stream: bytes, folder: Path) -> StreamError | None:
    """Receive a stream into memory; returns the error."""
    guest = InMemory()
    error = await receive_into(guest, stream)
    for block in guest.ram_blocks():
        block.close()
    return error


async def receive_into(guest: Guest, stream: bytes) -> StreamError | None:
    """Receive a stream; returns the error, which says everything that it must."""
    return await receive_from(Recording(stream), guest, stream, Settings())


async def receive_from(
    channel: Channel, guest: Guest, stream: bytes, settings: Settings
) -> StreamError | None:
    @asynccontextmanager
    async def listen() -> AsyncIterator[Listener]:
        yield OneChannelListener(channel)

    try:
        await IncomingMigration(guest, sections_for(guest), listen(), settings).run()
    except StreamError as error:
        assert error.offset is not None
        assert 0 <= error.offset <= len(stream)
        assert error.expected
        assert error.found
        assert error.source_may_resume
        return error
    return None


@cache
def capture(name: str) -> bytes:
    return lzma.decompress((CAPTURES / f"{name}.xz").read_bytes())


def damage(stream: bytes, chance: random.Random) -> bytes:
    """Change some bytes of a stream, most often where its structure is."""
    damaged = bytearray(stream)
    envelope = len(stream) - 120_000
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.choice((chance.randrange(4000), chance.randrange(envelope, len(stream))))
        match chance.randrange(3):
            case 0:
                damaged[at] = chance.randrange(256)
            case 1:
                damaged[at] ^= 1 << chance.randrange(8)
            case _:
                damaged[at : at + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
    return bytes(damaged)


async def receive_damaged(
    name: str, seeds: Iterable[int], folder: Path, receive: Receive = receive
) -> int:
    """Receive a capture damaged in many ways; returns in how many of them that was noticed."""
    noticed = 0
    for seed in seeds:
        damaged = damage(capture(name), random.Random(seed))
        try:
            noticed += await receive(damaged, folder / str(seed)) is not None
        except BaseException as error:
            error.add_note(f"capture {name}, seed {seed}")
            raise
    return noticed


async def receive_cut(name: str, seeds: Iterable[int], folder: Path) -> None:
    """Receive a capture cut at many places: no cut makes a checkpoint."""
    for seed in seeds:
        cut = random.Random(seed).randrange(len(capture(name)))
        error = await receive(capture(name)[:cut], folder / str(seed))
        assert error is not None, f"capture {name} cut at {cut}, seed {seed}"


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("receive", [receive, receive_in_memory])
async def test_damaged_stream_is_received_or_refused(
    name: str, receive: Receive, tmp_path: Path
) -> None:
    assert await receive_damaged(name, range(20), tmp_path, receive) > 0


@pytest.mark.parametrize("name", STREAMS)
async def test_cut_stream_is_refused(name: str, tmp_path: Path) -> None:
    await receive_cut(name, range(20), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("receive", [receive, receive_in_memory])
async def test_thousands_of_damaged_streams_are_received_or_refused(
    name: str, receive: Receive, tmp_path: Path
) -> None:
    assert await receive_damaged(name, range(20, 1020), tmp_path, receive) > 100


@pytest.mark.soak
@pytest.mark.parametrize("name", STREAMS)
async def test_stream_cut_at_a_thousand_places_is_refused(name: str, tmp_path: Path) -> None:
    await receive_cut(name, range(20, 1020), tmp_path)


# Over TLS.


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_folder(folder)
    return folder


async def receive_over_tls(
    stream: bytes, folder: Path, pki: Path, wrap: Callable[[Channel], Channel] = lambda one: one
) -> MigrationError | None:
    """Receive a stream from a source that is trusted; returns the error, as :func:`receive`."""
    folder.mkdir()
    near, far = memory_channel_pair()
    guest = StoredGuest.create(folder / "vm")
    settings = Settings(security=destination_security(pki))

    async def send() -> None:
        async with aclosing(wrap(near)) as channel:
            with suppress(MigrationError):
                secured = await source_security(pki).secure(channel)
                async with aclosing(secured):
                    await secured.send_segments([stream])
                    await secured.send_eof()

    error: MigrationError | None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        try:
            error = await receive_from(far, guest, stream, settings)
        except (ChannelError, TlsError) as broken:
            error = broken
    left = list(folder.iterdir())
    assert bool(left) is (error is None), left
    return error


async def test_damaged_stream_of_a_trusted_source_is_received_or_refused(
    tmp_path: Path, pki: Path
) -> None:
    receive = partial(receive_over_tls, pki=pki)
    assert await receive_damaged(STREAMS[0], range(3), tmp_path, receive) > 0


@pytest.mark.soak
@pytest.mark.parametrize("name", STREAMS)
async def test_hundreds_of_damaged_streams_of_a_trusted_source_are_received_or_refused(
    name: str, tmp_path: Path, pki: Path
) -> None:
    receive = partial(receive_over_tls, pki=pki)
    assert await receive_damaged(name, range(20, 220), tmp_path, receive) > 20


class Flipping(ChannelWrapper):
    """Changes one bit on its way."""

    def __init__(self, inner: Channel, at: int) -> None:
        super().__init__(inner)
        self._left = at

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        data = bytearray(b"".join(bytes(segment) for segment in segments))
        if 0 <= self._left < len(data):
            data[self._left] ^= 1 << self._left % 8
        self._left -= len(data)
        await super().send_segments([data])


@pytest.mark.parametrize("count", [2, pytest.param(300, marks=pytest.mark.soak)])
async def test_any_bit_that_is_changed_on_the_way_is_noticed_and_nothing_is_left(
    count: int, tmp_path: Path, pki: Path
) -> None:
    stream = capture(STREAMS[0])
    chance = random.Random(count)
    # The first three bytes of each record are not sealed; a version that is no version is ignored.
    places = [5, 100, *(chance.randrange(1500, len(stream)) for _ in range(count))]
    for number, place in enumerate(places):
        folder = tmp_path / str(number)
        error = await receive_over_tls(stream, folder, pki, partial(Flipping, at=place))
        assert isinstance(error, (ChannelError, TlsError)), (place, error)


# Memory, of a process of its own.

HEAD = encoder.stream_header() + encoder.configuration(Configuration("pc"))
RAM = encoder.section_header(SectionHeader(RecordType.SECTION_START, 1, "ram", 0, 4))
DEVICE = encoder.section_header(SectionHeader(RecordType.SECTION_FULL, 2, "x", 0, 1))
LAST_FOOTER = encoder.section_footer(2) + encoder.end_of_stream() + b"\x06"
FLOOD = 4096


def table(*blocks: tuple[str, int]) -> bytes:
    """The RAM section's table of blocks."""
    total = sum(length for _, length in blocks)
    entries = (encoder.counted_string(name) + encoder.be64(length) for name, length in blocks)
    return RAM + encoder.be64(total & (1 << 64) - 1 | 4) + b"".join(entries)


def page(offset: int, name: str, content: bytes) -> bytes:
    return encoder.be64(offset | 8) + encoder.counted_string(name) + content


HOSTILE: dict[str, tuple[Iterable[bytes], str]] = {
    "a device without end": (
        chain([HEAD, DEVICE], repeat(bytes(65536), FLOOD)),
        "device sections are beyond the limit",
    ),
    "a device that looks like its own end, for ever": (
        chain(
            [HEAD, DEVICE],
            repeat((LAST_FOOTER + encoder.be32(1 << 20) + b'{"' + b" " * 40) * 1000, FLOOD),
        ),
        "device sections are beyond the limit",
    ),
    "a description without end": (
        chain([HEAD, b"\x00\x06\xff\xff\xff\xff"], repeat(bytes(65536), FLOOD)),
        "description beyond the limit",
    ),
    "a description nested without end": (
        chain(
            [HEAD, DEVICE, LAST_FOOTER, encoder.be32(1 << 20), b'{"devices": '],
            repeat(b"[" * 65536, FLOOD),
        ),
        "no description fits|beyond the limit",
    ),
    "a description of a million empty lists": (
        [
            HEAD,
            DEVICE,
            LAST_FOOTER,
            encoder.be32(12 + 3 * 700_000),
            b'{"devices": ',
            b"[]," * 700_000,
        ],
        "no description fits|beyond the limit",
    ),
    "RAM of 2^63 bytes": ([HEAD, table(("a", 1 << 63))], "RAM"),
    "RAM of 2^64 bytes in two blocks": (
        [HEAD, table(("a", 1 << 63), ("b", 1 << 63))],
        "impossible flags",
    ),
    "RAM of 8 TiB of which nothing comes": (
        [HEAD, table(("a", 8 << 40)), encoder.be64(0x10)],
        "accepted|RAM|ends early",
    ),
    "pages beyond the block": (
        [HEAD, table(("a", 4096)), page(4096, "a", bytes(4096))],
        "beyond the end",
    ),
    "a machine name of 2^32 bytes": (
        chain([encoder.stream_header(), b"\x07\xff\xff\xff\xff"], repeat(b"x" * 65536, FLOOD)),
        "machine type name beyond the limit",
    ),
    "sections without end": (
        chain(
            [HEAD],
            (
                encoder.section_header(SectionHeader(RecordType.SECTION_FULL, i, "ram", i, 4))
                for i in range(1 << 20)
            ),
        ),
        ".",
    ),
    "commands without end": (
        chain([HEAD], repeat(encoder.ping(1) * 5000, 20)),
        "return path|ends early",
    ),
}


MEASURED = """
import atexit, re, sys
from transship.cli.main import main

def report():
    with open("/proc/self/status") as status:
        print(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1], file=sys.stderr)

atexit.register(report)
main()
"""
"""The command, which says at its end how much memory it had at its peak, in KiB."""


def feed(stream: Iterable[bytes], pipe: IO[bytes]) -> None:
    """Write a stream until the reader has had enough."""
    with suppress(BrokenPipeError), pipe:
        for part in stream:
            pipe.write(part)


def inspect(stream: Iterable[bytes]) -> tuple[dict[str, object], int]:
    """Let a process of its own inspect a stream; returns its report and its peak memory."""
    with subprocess.Popen(
        [sys.executable, "-c", MEASURED, "inspect", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        feeder = threading.Thread(target=feed, args=(stream, process.stdin))
        feeder.start()
        assert process.stdout is not None
        assert process.stderr is not None
        report = json.loads(process.stdout.read())
        peak_bytes = int(process.stderr.read()) * 1024
        feeder.join()
    return report, peak_bytes


@pytest.fixture(scope="module")
def idle_bytes() -> int:
    """What a process needs that refuses a stream at its first byte, libraries included."""
    _, peak = inspect([HEAD, table(("a", 4096)), encoder.be64(0x10), b"?"])
    return peak


@pytest.mark.parametrize("what", list(HOSTILE))
def test_hostile_stream_is_refused_within_bounded_memory(what: str, idle_bytes: int) -> None:
    stream, cause = HOSTILE[what]
    report, peak = inspect(stream)
    assert report["complete"] is False
    error = report["error"]
    assert isinstance(error, dict)
    assert re.search(cause, str(error["cause"])), error
    assert error["offset"] is not None
    assert peak - idle_bytes < GROWTH_BYTES, f"{(peak - idle_bytes) / MIB:.0f} MiB"
