"""Both sides of a migration in one process: whatever breaks, and whenever, one guest at most runs.

Everything happens in one thread and on a virtual clock, so that a test can interfere at every
single step of the event loop, and hours of waiting cost nothing.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import pytest
import trio
from engine_pair import (
    PAGE,
    PARAMETERS,
    PATIENT,
    Deaf,
    Machine,
    OneWay,
    Pair,
    PlainRAM,
    Register,
    Watched,
    Wrap,
    at_every_step,
    connected,
    listening,
    saying,
    sections_of,
    settings,
    unchanged,
)

from transship.abc.settings import Parameters
from transship.engine.globalstate import GlobalState
from transship.engine.incoming import Incoming
from transship.engine.migration import Migration
from transship.engine.status import MigrationStatus
from transship.errors import (
    BlockedError,
    CancelledError,
    ChannelError,
    ConnectError,
    LocalError,
    MigrationError,
    NotStartedError,
    PeerFailedError,
    RemoteError,
    StalledError,
    StreamError,
    UnknownOutcomeError,
)
from transship.testing import ChannelWrapper, CloseAfter, StallAfter, memory_channel_pair
from transship.testing.checking import receive_to_end
from transship.wire import encoder
from transship.wire.constants import CommandType, RecordType
from transship.wire.events import Configuration, SectionHeader
from transship.wire.returnpath import pong, shut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

    from transship.abc import Channel

# A good passage.


@pytest.mark.seed("S7", "S36", "S38", "S56", "S58")
async def test_guest_moves_and_runs_on_where_it_stopped() -> None:
    pair = Pair()
    await pair.run()
    assert pair.destination.is_running
    assert pair.source.history == ["pause"]
    assert pair.destination.history == ["prepare", "commit", "resume"]
    assert pair.migration.status is pair.incoming.status is MigrationStatus.COMPLETED
    assert pair.migration.is_confirmed
    assert not pair.migration.owns_guest
    assert pair.migration.statistics.downtime_s is not None


@pytest.mark.seed("S38")
async def test_guest_that_stood_still_arrives_standing_still() -> None:
    pair = Pair()
    pair.source.play()
    pair.source.play()
    await pair.source.pause()
    await pair.run_unchecked()
    pair.check_arrived_whole()
    assert not pair.destination.is_running
    assert pair.destination.history == ["prepare", "commit"]


async def test_guest_moves_unconfirmed_where_the_channel_has_no_return_path() -> None:
    pair = Pair(near=OneWay, far=OneWay)
    await pair.run()
    assert pair.destination.is_running
    assert pair.migration.status is MigrationStatus.COMPLETED
    assert not pair.migration.is_confirmed


# Cancel.

times = pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.soak)])


def _cancel_source(pair: Pair) -> None:
    pair.migration.cancel()


def _cancel_source_from_outside(pair: Pair) -> None:
    pair.source_scope.cancel()


def _cancel_destination(pair: Pair) -> None:
    pair.incoming.cancel()


def _cancel_destination_from_outside(pair: Pair) -> None:
    pair.destination_scope.cancel()


@pytest.mark.seed("S4", "S5", "S43", "S63")
@times
@pytest.mark.parametrize("cancel", [_cancel_source, _cancel_source_from_outside])
def test_source_cancelled_at_any_step_keeps_its_guest_or_completes(
    cancel: Callable[[Pair], None], times: int
) -> None:
    kept = moved = 0
    for pair in at_every_step(Pair, cancel, times):
        if pair.source.is_running:
            kept += 1
            assert isinstance(pair.source_error, CancelledError)
            assert pair.migration.status is MigrationStatus.CANCELLED
        else:
            moved += 1
            assert pair.source_error is None
            assert pair.destination.is_running
        assert pair.source_took_s < PARAMETERS.cleanup_timeout_s + 0.5
    assert kept > 100
    assert moved > 5


@times
def test_source_without_return_path_cancelled_at_any_step_keeps_its_guest_or_completes(
    times: int,
) -> None:
    for pair in at_every_step(lambda: Pair(near=OneWay, far=OneWay), _cancel_source, times):
        assert pair.source.is_running is isinstance(pair.source_error, CancelledError)
        assert pair.source.is_running is not pair.destination.is_running


@times
@pytest.mark.parametrize("cancel", [_cancel_destination, _cancel_destination_from_outside])
def test_destination_cancelled_at_any_step_leaves_the_guest_to_one_side(
    cancel: Callable[[Pair], None], times: int
) -> None:
    kept = unknown = moved = 0
    for pair in at_every_step(Pair, cancel, times):
        kept += pair.source.is_running
        moved += pair.destination.is_running
        if not (pair.source.is_running or pair.destination.is_running):
            unknown += 1
            assert isinstance(pair.destination_error, UnknownOutcomeError)
            assert pair.destination.history[-1] == "keep_unconfirmed"
        assert pair.destination_took_s <= PARAMETERS.cleanup_timeout_s
    assert kept > 100
    assert unknown > 0
    assert moved > 0


# A channel that breaks.


_CUTS: Final[dict[str, Callable[[int], Pair]]] = {
    "source sends": lambda at: Pair(near=lambda end: CloseAfter(end, sent_bytes=at)),
    "source receives": lambda at: Pair(near=lambda end: CloseAfter(end, received_bytes=at)),
    "destination receives": lambda at: Pair(far=lambda end: CloseAfter(end, received_bytes=at)),
    "destination sends": lambda at: Pair(far=lambda end: CloseAfter(end, sent_bytes=at)),
}


@pytest.mark.seed("S59", "S63")
@pytest.mark.parametrize("where", _CUTS)
async def test_channel_closed_anywhere_leaves_the_guest_to_one_side(
    where: str, autojump_clock: MockClock
) -> None:
    whole = Pair(near=Watched, far=Watched)
    await whole.run()
    watched = whole.near if where in ("source sends", "destination receives") else whole.far
    assert isinstance(watched, Watched)
    ends = list(accumulate(length for _, length in watched.sent))
    for at in sorted({place for end in [0, *ends] for place in (end - 1, end, end + 1)} - {-1}):
        await _CUTS[where](at).run()


# Parts that fail.


@pytest.mark.seed("S1", "S41", "S59")
@pytest.mark.parametrize("hook", ["begin", "iterate", "pending", "complete"])
async def test_live_section_that_fails_in_any_hook_is_named_and_the_guest_stays(hook: str) -> None:
    pair = Pair()
    pair.ram.fails_in = hook
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, LocalError)
    assert pair.source_error.section == "ram"
    assert f"{hook} of the section is broken" in str(pair.source_error)
    assert isinstance(pair.source_error.__cause__, ZeroDivisionError)


async def test_device_section_that_fails_is_named_and_the_guest_stays() -> None:
    pair = Pair()
    section = pair.source_sections.find("register", 0)
    assert isinstance(section, Register)
    section.fails_in = "complete"
    await pair.run()
    assert pair.source.is_running
    assert pair.source_error is not None
    assert (pair.source_error.section, pair.source_error.phase) == ("register", "device")


@pytest.mark.seed("S70")
@pytest.mark.parametrize("idstr", ["ram", "register"])
async def test_section_that_fails_to_load_is_named_and_the_source_hears_of_it(idstr: str) -> None:
    pair = Pair()
    section = pair.destination_sections.find(idstr, 0)
    assert isinstance(section, PlainRAM | Register)
    section.fails_in = "load"
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert isinstance(pair.destination_error, LocalError)
    assert pair.destination_error.section == idstr
    assert pair.destination_error.offset is not None
    assert pair.destination.history == ["discard"]


@pytest.mark.seed("S41")
async def test_section_that_cannot_be_cancelled_does_not_keep_the_guest_from_going_on() -> None:
    pair = Pair(destination_fails_in=["prepare"])
    pair.ram.fails_in = "cancel"
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert "section 'ram' could not be cancelled" in str(pair.source_error)


@pytest.mark.seed("S57")
async def test_guest_that_cannot_be_paused_stays() -> None:
    pair = Pair(source_fails_in=["pause"])
    await pair.run()
    assert pair.source.is_running
    assert "pause does not work here" in str(pair.source_error)


async def test_guest_that_cannot_be_resumed_after_a_failure_is_reported_with_the_failure() -> None:
    pair = Pair(source_fails_in=["resume"], destination_fails_in=["prepare"])
    await pair.run_unchecked()
    assert isinstance(pair.source_error, PeerFailedError)
    assert "the guest could not be resumed: resume does not work" in str(pair.source_error)
    assert not pair.destination.is_running


async def test_destination_that_cannot_make_it_last_leaves_the_guest_to_the_source() -> None:
    pair = Pair(destination_fails_in=["prepare"])
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.destination.history == ["discard"]


@pytest.mark.seed("S71")
@pytest.mark.parametrize("method", ["commit", "resume"])
async def test_guest_that_arrived_and_cannot_be_started_stays_paused_there(method: str) -> None:
    pair = Pair(destination_fails_in=[method])
    await pair.run()
    assert not pair.source.is_running
    assert isinstance(pair.destination_error, NotStartedError)
    assert isinstance(pair.source_error, UnknownOutcomeError)


async def test_destination_that_cannot_forget_what_it_loaded_says_so() -> None:
    pair = Pair(destination_fails_in=["prepare", "discard"])
    await pair.run()
    assert pair.source.is_running
    assert "could not be discarded" in str(pair.destination_error)


async def test_guest_that_cannot_be_put_away_unconfirmed_is_reported_as_unknown() -> None:
    pair = Pair(
        far=lambda end: CloseAfter(end, sent_bytes=2 * len(pong(1).encode())),
        destination_fails_in=["keep_unconfirmed"],
    )
    await pair.run()
    assert isinstance(pair.destination_error, UnknownOutcomeError)
    assert "keep_unconfirmed does not work here" in str(pair.destination_error)


# Machines that do not fit.


async def test_other_machine_is_refused_before_any_page() -> None:
    pair = Pair()
    pair.destination.machine = "another"
    await pair.run()
    assert pair.source.history == []
    assert isinstance(pair.source_error, PeerFailedError)
    assert pair.source_error.cause == "the destination failed: the source is another machine"
    assert pair.source_error.expected == "machine type 'another'"
    assert isinstance(pair.destination_error, RemoteError)
    assert pair.destination_error.found == "'fake'"


async def test_section_that_is_missing_on_the_destination_is_refused() -> None:
    pair = Pair(destination_lacks="register")
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, PeerFailedError)
    assert isinstance(pair.destination_error, StreamError)
    assert "'register'" in str(pair.destination_error.found)


async def test_section_that_the_source_left_out_is_refused() -> None:
    pair = Pair(source_lacks="register")
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.destination_error, StreamError)
    assert pair.destination_error.expected == "register"


async def test_ram_that_no_section_carries_is_refused_before_connecting() -> None:
    pair = Pair(source_lacks="ram", near=lambda end: StallAfter(end, sent_bytes=0))
    await pair.run_source_alone()
    assert pair.source.history == []
    assert isinstance(pair.source_error, BlockedError)


@pytest.mark.parametrize("version", [1, 3])
async def test_section_of_another_version_is_refused(version: int) -> None:
    pair = Pair()
    section = pair.source_sections.find("register", 0)
    assert section is not None
    section.version_id = version
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.destination_error, StreamError)
    assert (pair.destination_error.section, pair.destination_error.found) == (
        "register",
        str(version),
    )


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
        incoming = Incoming(
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


# Time, on a virtual clock.


async def test_destination_that_never_answers_the_first_question_is_given_up(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(far=saying(lambda number, message: b""), destination_parameters=PATIENT)
    await pair.run()
    assert pair.source.is_running
    assert pair.source.history == []
    assert isinstance(pair.source_error, StalledError)
    assert pair.source_took_s == pytest.approx(PARAMETERS.stall_timeout_s, abs=1.5)


async def test_destination_that_never_says_it_has_everything_is_given_up(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(
        far=saying(lambda number, message: message if number == 0 else b""),
        destination_parameters=PATIENT,
    )
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, StalledError)
    assert pair.source_error.phase == "device"
    assert pair.source_took_s == pytest.approx(PARAMETERS.handover_timeout_s, abs=1.5)
    assert isinstance(pair.destination_error, UnknownOutcomeError)


async def test_last_word_that_never_comes_leaves_the_outcome_unknown(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(far=saying(lambda number, message: message if number < 2 else b""))
    await pair.run()
    assert pair.destination.is_running
    assert isinstance(pair.source_error, UnknownOutcomeError)
    assert pair.source_took_s <= PARAMETERS.stall_timeout_s + 1.5


@pytest.mark.seed("S59")
async def test_destination_that_stops_reading_is_given_up(autojump_clock: MockClock) -> None:
    pair = Pair(
        far=lambda end: StallAfter(end, received_bytes=3 * PAGE), destination_parameters=PATIENT
    )
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.source_error, StalledError)
    assert "within 30 s" in pair.source_error.cause
    assert pair.source_took_s == pytest.approx(PARAMETERS.stall_timeout_s, abs=1.5)


@pytest.mark.parametrize("sent_bytes", [0, 3, 3 * PAGE])
async def test_source_that_stops_sending_is_given_up(
    sent_bytes: int, autojump_clock: MockClock
) -> None:
    pair = Pair(near=lambda end: StallAfter(end, sent_bytes=sent_bytes))
    await pair.run()
    assert pair.source.is_running
    assert isinstance(pair.destination_error, StalledError)
    assert pair.destination_error.offset is not None
    assert pair.destination_error.offset <= sent_bytes
    assert pair.destination_took_s == pytest.approx(PARAMETERS.stall_timeout_s, abs=1.5)


@pytest.mark.seed("S1", "S42")
async def test_connection_that_never_comes_about_is_given_up(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def never() -> AsyncIterator[Channel]:
        await trio.sleep(1000)
        yield memory_channel_pair()[0]

    guest = Machine(is_running=True)
    migration = Migration(guest, sections_of(guest), never(), settings())
    with pytest.raises(ConnectError, match="no connection within 30 s") as caught:
        await migration.run()
    assert caught.value.phase == "setup"
    assert guest.is_running
    assert guest.history == []


async def test_channel_that_does_not_close_delays_nobody(autojump_clock: MockClock) -> None:
    pair = Pair(near=Deaf, far=Deaf)
    await pair.run()
    assert pair.destination.is_running
    assert pair.source_took_s < 3


@pytest.mark.seed("S55", "S61", "S65")
@pytest.mark.parametrize("cap", [PAGE * 10, PAGE * 40, PAGE * 1000])
async def test_pages_of_a_running_guest_keep_to_the_bandwidth_cap(
    cap: int, autojump_clock: MockClock
) -> None:
    parameters = Parameters(max_bandwidth_bytes_per_s=cap, downtime_limit_s=0)
    pair = Pair(near=Watched, parameters=parameters, pages=100)
    await pair.run()
    assert pair.destination.is_running
    assert isinstance(pair.near, Watched)
    assert pair.source_took_s >= 100 * PAGE / cap - 0.2
    sent = pair.near.sent
    for start_s, _ in sent:
        in_a_second = sum(length for at_s, length in sent if start_s <= at_s < start_s + 1)
        assert in_a_second <= cap * 1.1 + 3 * PAGE


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


async def test_devices_too_large_for_a_package_arrive_and_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transship.engine.source.PACKAGE_BYTES", 16)
    pair = Pair()
    await pair.run()
    assert pair.source_error is None
    assert pair.destination_error is None
    assert pair.destination.is_running


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


@pytest.mark.seed("S44")
async def test_notifier_that_fails_is_named_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def observe(status: object) -> None:
        raise RuntimeError("no")

    near_end, far_end = memory_channel_pair(1 << 20)
    guest, there = Machine(is_running=True), Machine(is_running=False)
    migration = Migration(guest, sections_of(guest), connected(near_end), settings())
    migration.notifiers.add(observe)
    incoming = Incoming(there, sections_of(there), listening(far_end), settings())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(migration.run)
        nursery.start_soon(incoming.run)
    assert there.is_running
    assert "observe failed" in caplog.text


async def test_transport_with_tasks_of_its_own_is_entered_and_left() -> None:
    near_end, far_end = memory_channel_pair(1 << 20)

    @asynccontextmanager
    async def with_a_task() -> AsyncIterator[Channel]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield near_end
            nursery.cancel_scope.cancel()

    guest, there = Machine(is_running=True), Machine(is_running=False)
    migration = Migration(guest, sections_of(guest), with_a_task(), settings())
    incoming = Incoming(there, sections_of(there), listening(far_end), settings())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(migration.run)
        nursery.start_soon(incoming.run)
    assert there.is_running
    assert not guest.is_running


async def test_guest_that_does_not_pause_in_time_fails_the_migration(
    autojump_clock: MockClock,
) -> None:
    pair = Pair()

    async def never() -> None:
        await trio.sleep(1000)

    pair.source.pause = never  # type: ignore[method-assign]
    await pair.run()
    assert isinstance(pair.source_error, StalledError)
    assert "did not pause within 10 s" in pair.source_error.cause
    assert not pair.destination.is_running


async def test_source_that_never_reads_its_answers_is_given_up(autojump_clock: MockClock) -> None:
    near_end, far_end = memory_channel_pair(4096)
    guest = Machine(is_running=False)
    incoming = Incoming(guest, sections_of(guest), listening(far_end), settings())
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


async def test_answer_that_comes_twice_is_refused() -> None:
    near_end, far_end = memory_channel_pair(1 << 20)
    guest = Machine(is_running=True)
    migration = Migration(guest, sections_of(guest), connected(near_end), settings())

    async def answer_twice() -> None:
        asked = b""
        while not asked.endswith(ASK):
            room = memoryview(bytearray(1))
            asked += bytes(room[: await far_end.receive_some_into(room)])
        await far_end.send_return(pong(1).encode() * 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_twice)
        with pytest.raises(RemoteError, match="had not been asked"):
            await migration.run()
    assert guest.is_running
