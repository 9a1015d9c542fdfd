"""Multifd when something goes wrong at any moment: the guest is on exactly one side."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from support.between_us import Passage

from transship.abc import Blocking, Parameters
from transship.assembly import migrate, receive
from transship.engine import source
from transship.engine.destination import Destination
from transship.errors import MigrationError
from transship.guests.synthetic import SyntheticGuest
from transship.toolkit import SocketChannel
from transship.wire.multifd import initial_packet

if TYPE_CHECKING:
    from pathlib import Path

    from transship.engine.incoming import IncomingMigration
    from transship.engine.migration import Migration

pytest.importorskip("transship_ram")
pytest.importorskip("transship_unix")

RAM_BYTES: Final = 48 << 20
CHANNELS: Final = 3
PARAMETERS: Final = Parameters(
    max_bandwidth_bytes_per_s=0, multifd_channels=CHANNELS, stall_timeout_s=5
)
MULTIFD: Final = frozenset({"multifd"})


def passage_in(place: Path, source_parameters: Parameters | None = None) -> Passage:
    """A guest that writes, over extra channels."""
    return Passage(
        SyntheticGuest(RAM_BYTES, dirty_rate_bytes_per_s=64 << 20, working_set_bytes=8 << 20),
        SyntheticGuest(RAM_BYTES, fill=False),
        f"unix:{place / 'in'}",
        PARAMETERS,
        source_parameters,
        MULTIFD,
    )


SLOW: Final = Parameters(max_bandwidth_bytes_per_s=32 << 20, multifd_channels=CHANNELS)
"""For a source that is to be met while its guest moves."""


async def is_moving(passage: Passage) -> None:
    """Wait until the source has the destination's attention: who comes now is another."""
    while passage.incoming.statistics.transferred_bytes < 1 << 20:  # noqa: ASYNC110, nobody tells
        await trio.sleep(0.005)


async def fails(side: IncomingMigration | Migration) -> None:
    with pytest.raises(MigrationError):
        await side.run()


@pytest.mark.parametrize("side", ["source", "destination"])
async def test_cancelled_at_any_moment_the_guest_is_on_one_side(side: str, place: Path) -> None:
    chance = random.Random(side)
    seen = set()
    for number in range(12):
        folder = place / str(number)
        folder.mkdir()
        passage = passage_in(folder)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(passage.run)
                await trio.sleep(chance.uniform(0, 0.12))
                (passage.outgoing if side == "source" else passage.incoming).cancel()
        seen.add(await passage.verdict())
    assert "here" in seen


@pytest.mark.parametrize("after_s", [0.005, 0.03, 0.06, 0.1])
async def test_extra_channel_that_breaks_fails_both_sides(after_s: float, place: Path) -> None:
    passage = passage_in(place)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passage.run)
            await trio.sleep(after_s)
            sending = passage.outgoing._source
            pool = sending._sender._pool if sending else None
            if pool is not None:
                pool._lanes[1].sender.interrupt()
    await passage.verdict()


async def test_destination_that_expects_more_channels_says_so(place: Path) -> None:
    fewer = Parameters(max_bandwidth_bytes_per_s=0, multifd_channels=CHANNELS - 1)
    passage = passage_in(place, fewer)
    passage.incoming.parameters = Parameters(multifd_channels=CHANNELS, stall_timeout_s=0.5)
    with trio.fail_after(20):
        await passage.run()
    assert await passage.verdict() == "here"
    assert any("multifd-channels" in str(error) for error in passage.errors)


async def test_destination_that_expects_channels_where_there_are_none_says_so(place: Path) -> None:
    passage = passage_in(place)
    passage.outgoing = migrate(passage.here, passage.uri, parameters=PARAMETERS)
    passage.incoming.parameters = Parameters(multifd_channels=CHANNELS, stall_timeout_s=0.5)
    with trio.fail_after(20):
        await passage.run()
    assert await passage.verdict() == "here"
    for side in (passage.incoming, passage.outgoing):
        assert side.error is not None
        assert "multifd on at the source" in str(side.error.hint)


async def test_channels_of_several_guests_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        source, "initial_packet", lambda uuid, number: initial_packet(bytes([number] * 16), number)
    )
    passage = passage_in(place)
    with trio.fail_after(20):
        await passage.run()
    assert await passage.verdict() == "here"
    assert any("an extra channel is of another guest" in str(error) for error in passage.errors)


@pytest.fixture
def no_channel_can_block(monkeypatch: pytest.MonkeyPatch) -> None:
    has = SocketChannel.capability

    def capability(channel: SocketChannel, kind: type[Any]) -> Any:
        return None if kind is Blocking else has(channel, kind)

    monkeypatch.setattr(SocketChannel, "capability", capability)


@pytest.mark.usefixtures("no_channel_can_block")
async def test_channels_that_cannot_block_go_through_the_event_loop(place: Path) -> None:
    passage = passage_in(place)
    with trio.fail_after(20):
        await passage.run()
    assert await passage.verdict() == "there"
    assert not passage.errors


@pytest.mark.usefixtures("no_channel_can_block")
async def test_channels_that_cannot_block_are_broken_by_a_cancellation(place: Path) -> None:
    passage = passage_in(place)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passage.run)
            await passage.listening.wait()
            await trio.sleep(0.03)
            passage.outgoing.cancel()
    await passage.verdict()


async def test_source_is_told_that_the_destination_expects_one_channel(place: Path) -> None:
    passage = passage_in(place)
    passage.incoming = receive(
        passage.there, passage.uri, parameters=PARAMETERS, on_listening=passage._on_listening
    )
    await passage.here.resume()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, passage.incoming)
            await passage.listening.wait()
            nursery.start_soon(fails, passage.outgoing)
    assert await passage.verdict() == "here"
    for side in (passage.incoming, passage.outgoing):
        assert "sends its memory over several channels" in str(side.error)
        assert side.error is not None
        assert "capability multifd" in str(side.error.hint)


async def test_channel_that_comes_when_the_guest_has_arrived_is_turned_away(place: Path) -> None:
    passage = passage_in(place)
    path = str(place / "in")
    prepare = Destination._prepare

    async def prepare_late(destination: Destination) -> None:
        await prepare(destination)
        async with await trio.open_unix_socket(path) as late:
            await late.send_all(initial_packet(None, CHANNELS))
            assert not await late.receive_some(1)

    with pytest.MonkeyPatch.context() as patch, trio.fail_after(20):
        patch.setattr(Destination, "_prepare", prepare_late)
        await passage.run()
    assert await passage.verdict() == "there"
    assert not passage.errors


async def test_strangers_do_not_get_in_the_way(place: Path) -> None:
    passage = passage_in(place, SLOW)
    path = str(place / "in")

    async def knock() -> None:
        await is_moving(passage)
        for greeting in (b"", b"GET / HTTP/1.1\r\n\r\n" * 9):
            with suppress(OSError, trio.BrokenResourceError):
                async with await trio.open_unix_socket(path) as stranger:
                    await stranger.send_all(greeting)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passage.run)
            nursery.start_soon(knock)
    assert await passage.verdict() == "there"
    assert not passage.errors


async def test_channel_with_a_number_that_is_taken_is_refused(place: Path) -> None:
    passage = passage_in(place, SLOW)

    async def intrude() -> None:
        await is_moving(passage)
        async with await trio.open_unix_socket(str(place / "in")) as intruder:
            await intruder.send_all(initial_packet(None, 0))
            await trio.sleep(1)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passage.run)
            nursery.start_soon(intrude)
    assert await passage.verdict() == "here"
    assert len(passage.errors) == 2
    assert all("each once" in str(error) for error in passage.errors)
