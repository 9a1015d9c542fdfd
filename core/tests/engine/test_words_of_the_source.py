"""What a destination does with streams that no source of ours would send, and with good ones."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_channels import OneWay, Wrap, listening, unchanged
from engine_machine import PAGE, Machine, sections_of
from engine_pair import settings

from transship.engine.globalstate import GlobalState
from transship.engine.incoming import IncomingMigration
from transship.errors import (
    ChannelError,
    MigrationError,
    StalledError,
    StreamError,
    UnknownOutcomeError,
)
from transship.testing import ChannelWrapper, memory_channel_pair
from transship.testing.checking import receive_to_end
from transship.wire import encoder
from transship.wire.constants import CommandType, RecordType
from transship.wire.events import Configuration, SectionHeader
from transship.wire.returnpath import pong, shut

if TYPE_CHECKING:
    from trio.testing import MockClock


# What the source sends.


class Sent:
    """A stream made by hand, and what a destination makes of it."""

    def __init__(self, *records: bytes, machine: str = "fake") -> None:
        configuration = encoder.configuration(Configuration(machine=machine))
        self._stream = b"".join([encoder.stream_header(), configuration, *records])
        self.guest = Machine(is_running=False)
        self.answers = b""

    async def loaded(self, far: Wrap = unchanged) -> MigrationError | None:
        near_end, far_end = memory_channel_pair(1 << 20)
        incoming = IncomingMigration(
            self.guest, sections_of(self.guest), listening(far(far_end)), settings()
        )
        await near_end.send_segments((self._stream,))
        await near_end.send_eof()
        with suppress(MigrationError):
            await incoming.run()
        self.answers = await receive_to_end(near_end)
        if incoming.error is not None:
            assert not self.guest.is_running
        return incoming.error

    async def refused(self, far: Wrap = unchanged) -> StreamError:
        error = await self.loaded(far)
        assert isinstance(error, StreamError)
        assert self.guest.history == ["discard"]
        return error


def record(kind: RecordType, number: int, idstr: str, body: bytes, version_id: int = 1) -> bytes:
    header = SectionHeader(kind, number, idstr, 0, version_id)
    return encoder.section_header(header) + body + encoder.section_footer(number)


def running_state() -> bytes:
    state = GlobalState()
    state.run_state = "running"
    return record(RecordType.SECTION_FULL, 3, "globalstate", b"".join(state.complete()))


RAM: Final = (
    record(RecordType.SECTION_START, 1, "ram", encoder.be32(0)),
    record(RecordType.SECTION_END, 1, "ram", encoder.be32(1) + bytes(PAGE) + encoder.be32(0)),
)


REGISTER: Final = record(RecordType.SECTION_FULL, 2, "register", encoder.be32(7), 2)


DEVICES: Final = REGISTER + running_state()


END: Final = encoder.end_of_stream() + encoder.vm_description(b"{}")


ASK: Final = encoder.command(CommandType.OPEN_RETURN_PATH) + encoder.ping(1)


FAILED: Final = shut(failed=True).encode()


def package(content: bytes) -> bytes:
    return encoder.package_header(len(content)) + content


@pytest.mark.seed("S36")
async def test_plain_stream_without_any_question_is_loaded_and_run() -> None:
    sent = Sent(*RAM, DEVICES, END)
    assert await sent.loaded() is None
    assert sent.guest.is_running
    assert sent.guest.register == 7
    assert sent.answers == b""


async def test_package_is_loaded_answered_and_run_after_the_end() -> None:
    sent = Sent(ASK, *RAM, package(DEVICES + END), encoder.ping(2), END)
    assert await sent.loaded() is None
    assert sent.guest.is_running
    assert sent.answers == b"".join(m.encode() for m in (pong(1), pong(2), shut(failed=False)))


async def test_rest_of_a_package_after_its_end_is_ignored() -> None:
    sent = Sent(ASK, *RAM, package(DEVICES + END + b"junk"), encoder.ping(2), END)
    assert await sent.loaded() is None


async def test_guest_whose_source_never_sent_the_end_is_kept_and_not_run() -> None:
    sent = Sent(ASK, *RAM, package(DEVICES + END), encoder.ping(2))
    error = await sent.loaded()
    assert isinstance(error, UnknownOutcomeError)
    assert sent.guest.history == ["prepare", "keep_unconfirmed"]


async def test_package_of_junk_is_refused() -> None:
    error = await Sent(ASK, *RAM, package(b"junk" * 4), encoder.ping(2), END).refused()
    assert "unknown record type" in error.cause


async def test_package_without_an_end_is_refused() -> None:
    error = await Sent(ASK, *RAM, package(DEVICES), encoder.ping(2), END).refused()
    assert "beyond the package" in error.cause


async def test_package_that_is_shorter_than_its_records_is_refused() -> None:
    short = encoder.package_header(len(DEVICES) // 2) + DEVICES + END
    error = await Sent(ASK, *RAM, short, encoder.ping(2), END).refused()
    assert "beyond the package" in error.cause


@pytest.mark.parametrize("inner", [encoder.ping(9), package(REGISTER)], ids=["PING", "PACKAGED"])
async def test_package_with_a_command_in_it_is_refused(inner: bytes) -> None:
    await Sent(ASK, *RAM, package(inner + DEVICES + END), END).refused()


async def test_ping_without_a_return_path_is_refused() -> None:
    error = await Sent(encoder.ping(1), *RAM, DEVICES, END).refused()
    assert error.expected == "OPEN_RETURN_PATH before"


async def test_return_path_over_a_channel_that_has_none_is_refused() -> None:
    sent = Sent(ASK, *RAM, DEVICES, END)
    error = await sent.refused(far=OneWay)
    assert "asks for a return path" in error.cause
    assert sent.answers == b""


async def test_unknown_command_is_refused_and_the_source_is_told() -> None:
    number = encoder.be16(77) + encoder.be16(0)
    sent = Sent(ASK, bytes([RecordType.COMMAND]) + number)
    error = await sent.refused()
    assert (error.cause, error.found) == ("unknown command", "77")
    assert FAILED in sent.answers
    assert b'"cause": "unknown command"' in sent.answers


async def test_source_with_dirty_bitmaps_may_say_that_they_could_come_later() -> None:
    sent = Sent(encoder.command(CommandType.POSTCOPY_ADVISE), *RAM, DEVICES, END)
    assert await sent.loaded() is None


async def test_postcopy_is_refused_by_name() -> None:
    sent = Sent(ASK, encoder.command(CommandType.POSTCOPY_ADVISE, bytes(16)))
    error = await sent.refused()
    assert "POSTCOPY_ADVISE" in error.cause


@pytest.mark.parametrize("length", [0, 3, 4, 8, 9, 20])
async def test_stream_that_ends_in_its_head_is_refused(length: int) -> None:
    sent = Sent()
    sent._stream = sent._stream[:length]
    error = await sent.loaded()
    assert isinstance(error, StreamError)


async def test_stream_that_ends_before_the_devices_is_refused() -> None:
    error = await Sent(ASK, *RAM, END).refused()
    assert error.expected == "register, globalstate"


# Order after the question, and what happens once the guest runs.


@pytest.mark.parametrize(
    "late",
    [REGISTER.replace(b"\x00\x00\x00\x02", b"\x00\x00\x00\x09"), package(DEVICES + END)],
    ids=["section", "package"],
)
async def test_whatever_comes_after_the_answer_but_the_end_is_refused(late: bytes) -> None:
    sent = Sent(ASK, *RAM, package(DEVICES + END), encoder.ping(2), late, END)
    error = await sent.loaded()
    assert isinstance(error, UnknownOutcomeError)
    assert "goes on after" in error.cause
    assert not sent.guest.is_running
    assert sent.guest.history.count("prepare") == 1


async def test_question_asked_again_is_answered_and_prepares_once() -> None:
    twice = encoder.ping(2) + encoder.ping(3)
    sent = Sent(ASK, *RAM, package(DEVICES + END), twice, END)
    assert await sent.loaded() is None
    assert sent.guest.history.count("prepare") == 1


async def test_ram_that_was_never_ended_is_refused() -> None:
    error = await Sent(ASK, RAM[0], package(DEVICES + END), encoder.ping(2), END).refused()
    assert "did not end them" in error.cause
    assert error.expected == "ram"


async def test_channel_that_fails_once_the_guest_runs_changes_nothing() -> None:
    class FailsAtTheEnd(ChannelWrapper):
        async def receive_some_into(self, target: memoryview) -> int:
            count = await super().receive_some_into(target)
            if sent.guest.is_running:
                raise OSError("the wire melts")
            return count

    sent = Sent(ASK, *RAM, package(DEVICES + END), encoder.ping(2), END)
    assert await sent.loaded(FailsAtTheEnd) is None
    assert sent.guest.is_running


async def test_source_that_never_reads_its_answers_is_given_up(autojump_clock: MockClock) -> None:
    near_end, far_end = memory_channel_pair(4096)
    guest = Machine(is_running=False)
    incoming = IncomingMigration(guest, sections_of(guest), listening(far_end), settings())
    configuration = encoder.configuration(Configuration(machine="fake"))

    async def ask_for_ever() -> None:
        with suppress(ChannelError):
            await near_end.send_segments((encoder.stream_header(), configuration, ASK))
            while True:
                await near_end.send_segments((encoder.ping(1) * 100,))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_for_ever)
        with pytest.raises(StalledError, match="did not take PONG within 30 s"):
            await incoming.run()
    assert guest.history == ["discard"]
