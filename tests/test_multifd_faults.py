"""Multifd when something goes wrong at any moment: the guest is on exactly one side."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio
from support.between_us import Passage

from transship.abc import Parameters
from transship.guests.synthetic import SyntheticGuest
from transship.wire.multifd import initial_packet

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("side", ["source", "destination"])
async def test_cancelled_at_any_moment_the_guest_is_on_one_side(side: str, place: Path) -> None:
    source = random.Random(side)
    seen = set()
    for number in range(12):
        folder = place / str(number)
        folder.mkdir()
        passage = passage_in(folder)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(passage.run)
                await trio.sleep(source.uniform(0, 0.12))
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
            source = passage.outgoing._source
            pool = source._sender._pool if source else None
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


async def test_strangers_do_not_get_in_the_way(place: Path) -> None:
    passage = passage_in(place)
    path = str(place / "in")

    async def knock() -> None:
        await passage.listening.wait()
        await trio.sleep(0.02)
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
    slow = Parameters(max_bandwidth_bytes_per_s=8 << 20, multifd_channels=CHANNELS)
    passage = passage_in(place, slow)

    async def intrude() -> None:
        await passage.listening.wait()
        await trio.sleep(0.3)
        async with await trio.open_unix_socket(str(place / "in")) as intruder:
            await intruder.send_all(initial_packet(None, 0))
            await trio.sleep(1)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passage.run)
            nursery.start_soon(intrude)
    assert await passage.verdict() == "here"
    assert any("each once" in str(error) for error in passage.errors)
