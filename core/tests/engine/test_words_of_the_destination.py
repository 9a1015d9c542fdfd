"""What the source hears over the return path, and what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_channels import OneWay, connected, saying, unchanged
from engine_machine import Machine, sections_of
from engine_orders import CANCELLED, CANCELLING, FAILED, Slow, under_way
from engine_pair import PARAMETERS, Pair, settings, statuses_in

from transship.engine.migration import Migration
from transship.errors import (
    BlockedError,
    CancelledError,
    PeerFailedError,
    RemoteError,
    StreamError,
    UnknownOutcomeError,
)
from transship.testing import ChannelWrapper, memory_channel_pair
from transship.wire import encoder
from transship.wire.constants import CommandType
from transship.wire.events import Configuration
from transship.wire.returnpath import pong, shut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio.testing import MockClock

    from transship.abc import Channel
    from transship.buffers import Buffer


# What the destination says.


async def test_destination_that_says_it_failed_is_heard_out_for_a_second() -> None:
    pair = Pair(far=saying(lambda number, message: shut(failed=True).encode()))
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.source_took_s < PARAMETERS.cleanup_timeout_s + 0.5


async def test_failure_reported_after_the_hand_over_leaves_the_source_paused() -> None:
    pair = Pair(far=saying(lambda n, message: shut(failed=True).encode() if n == 2 else message))
    await pair.run()
    assert pair.destination.is_running
    assert isinstance(pair.source_error, UnknownOutcomeError)


async def test_answer_to_what_was_not_asked_yet_gives_no_guest_away() -> None:
    early = pong(1).encode() + pong(2).encode()
    pair = Pair(far=saying(lambda number, message: early if number == 0 else message))
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, RemoteError)
    assert pair.source_error.found == "PONG 2"


async def test_end_before_the_hand_over_is_an_error_at_once() -> None:
    pair = Pair(far=saying(lambda number, message: shut(failed=False).encode()))
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, RemoteError)
    assert pair.source_took_s < PARAMETERS.cleanup_timeout_s + 0.5


@pytest.mark.parametrize(
    "message",
    [b"\0\x63\0\0", b"\0\x02\0\x05....."],
    ids=["unknown type", "wrong length"],
)
async def test_nonsense_on_the_return_path_leaves_the_guest_to_the_source(message: bytes) -> None:
    pair = Pair(far=saying(lambda number, said: message))
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, StreamError)


async def test_answer_that_comes_twice_is_refused() -> None:
    near_end, far_end = memory_channel_pair(1 << 20)
    guest = Machine(is_running=True)
    migration = Migration(guest, sections_of(guest), connected(near_end), settings())

    question = encoder.command(CommandType.OPEN_RETURN_PATH) + encoder.ping(1)

    async def answer_twice() -> None:
        asked = b""
        while not asked.endswith(question):
            room = memoryview(bytearray(1))
            asked += bytes(room[: await far_end.receive_some_into(room)])
        await far_end.send_return(pong(1).encode() * 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_twice)
        with pytest.raises(RemoteError, match="had not been asked"):
            await migration.run()
    assert guest.is_running


# The return path.


@pytest.mark.parametrize("way", ["two ways", "one way"])
async def test_return_path_that_is_asked_for_must_be_there(way: str) -> None:
    pair = Pair(near=OneWay if way == "one way" else unchanged, capabilities=["return-path"])
    await pair.run()
    if way == "one way":
        assert pair.source.is_running
        assert pair.source.history == []
        assert pair.source.log.starts == 0
        assert isinstance(pair.source_error, BlockedError)
        assert "has no return path" in pair.source_error.cause
        assert (pair.source_error.phase, pair.source_error.source_may_resume) == ("setup", True)
    else:
        assert pair.destination.is_running


# Why the destination failed.


class Changed(ChannelWrapper):
    """Changes one byte on the way."""

    def __init__(self, inner: Channel, offset: int) -> None:
        super().__init__(inner)
        self._left = offset

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        data = bytearray().join(bytes(segment) for segment in segments)
        if 0 <= self._left < len(data):
            data[self._left] ^= 0x60
        self._left -= len(data)
        await super().send_segments((data,))


def _other_machine() -> Pair:
    pair = Pair()
    pair.destination.machine = "another"
    return pair


def _broken_section() -> Pair:
    pair = Pair()
    section = pair.destination_sections.find("register", 0)
    assert section is not None
    section.fails_in = "load"  # type: ignore[attr-defined]
    return pair


_HEAD: Final = len(
    encoder.stream_header()
    + encoder.configuration(Configuration(machine="fake"))
    + encoder.command(CommandType.OPEN_RETURN_PATH)
    + encoder.ping(1)
)


@pytest.mark.seed("S1", "S31", "S37", "S47", "S59", "S70")
@pytest.mark.parametrize(
    ("make", "cause", "section", "has_offset"),
    [
        (_other_machine, "the source is another machine", "configuration", True),
        (
            lambda: Pair(destination_lacks="register"),
            "the source has a section 'register' that nothing here loads",
            "register",
            True,
        ),
        (
            lambda: Pair(source_lacks="register"),
            "the source left sections out, or did not end them",
            None,
            True,
        ),
        (lambda: Pair(near=lambda end: Changed(end, _HEAD)), "unknown record type", None, True),
        (_broken_section, "ZeroDivisionError: load of the section is broken", "register", True),
        (
            lambda: Pair(destination_fails_in=["prepare"]),
            "OSError: prepare does not work here",
            None,
            False,
        ),
    ],
    ids=[
        "other machine",
        "missing section",
        "section left out",
        "wrong byte",
        "broken section",
        "disk full",
    ],
)
async def test_source_says_why_the_destination_failed(
    make: Callable[[], Pair], cause: str, section: str | None, has_offset: bool
) -> None:
    pair = make()
    await pair.run()
    ours, theirs = pair.source_error, pair.destination_error
    assert isinstance(ours, PeerFailedError)
    assert theirs is not None
    assert theirs.cause == cause
    assert ours.cause == f"the destination failed: {cause}"
    assert ours.section == theirs.section == section
    assert ours.offset == theirs.offset
    assert (ours.offset is not None) is has_offset
    assert (ours.expected, ours.found, ours.hint) == (theirs.expected, theirs.found, theirs.hint)
    assert ours.side == "source"
    assert ours.source_may_resume is True
    assert pair.source.is_running
    assert pair.migration.status is pair.incoming.status is FAILED


async def test_wrong_byte_is_told_with_its_place_and_what_is_there() -> None:
    pair = Pair(near=lambda end: Changed(end, _HEAD))
    await pair.run()
    assert pair.source_error is not None
    assert (pair.source_error.offset, pair.source_error.found) == (_HEAD, "0x61")


@pytest.mark.parametrize("how", ["asked to end", "cancelled from outside"])
async def test_source_is_told_that_the_destination_was_cancelled(
    how: str, autojump_clock: MockClock
) -> None:
    pair = Pair(near=Slow)
    async with under_way(pair):
        await trio.sleep(0.5)
        if how == "asked to end":
            pair.incoming.cancel()
        else:
            pair.destination_scope.cancel()
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.source_error.cause == (
        "the destination failed: the migration was cancelled on the destination"
    )
    assert isinstance(pair.destination_error, CancelledError)
    assert statuses_in(pair.destination_notices)[-2:] == [CANCELLING, CANCELLED]


async def test_destination_that_fails_while_the_source_waits_for_room_is_heard(
    autojump_clock: MockClock,
) -> None:
    """The channel holds two pages: the source is blocked in a send when the word comes."""
    pair = Pair(pages=64)
    section = pair.destination_sections.find("ram", 0)
    assert section is not None
    section.fails_in = "load"  # type: ignore[attr-defined]
    await pair.run()
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.source_error.section == "ram"
    assert "load of the section is broken" in pair.source_error.cause
