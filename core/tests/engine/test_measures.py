"""The source's figures, as QEMU defines them: slices, synchronisations, and what counts as what."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import trio
from engine_channels import Watched
from engine_machine import PAGE, PAGES, Machine
from engine_pair import Pair

from transship.abc import LiveCounters, Section
from transship.abc.settings import QEMU_10_0, Parameters, Settings
from transship.engine.measures import Measures
from transship.engine.pacing import SLICE_S, Pacer
from transship.engine.stats import Statistics
from transship.testing import ChannelWrapper
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from transship.buffers import Buffer


class Counting(Section):
    """A section that has counted what the test says."""

    def __init__(self, idstr: str, *, is_live: bool = True) -> None:
        self.idstr = idstr
        self.is_live = is_live
        self.counters = LiveCounters(page_size=PAGE, dirty_syncs=1)
        self.report: dict[str, int] = {}

    def grow(self, **grown: int) -> None:
        now = {name: getattr(self.counters, name) + value for name, value in grown.items()}
        self.counters = dataclasses.replace(self.counters, **now)

    def live_counters(self) -> LiveCounters:
        return self.counters

    def statistics(self) -> dict[str, int]:
        return self.report


class Measured:
    """Measures of a source that sends as the test says; a slice is over when it says so."""

    def __init__(self, parameters: Parameters = QEMU_10_0, *, is_running: bool = True) -> None:
        self.settings = Settings(parameters=parameters)
        self.statistics = Statistics()
        self.pacer = Pacer(0, 0.0)
        self.guest = Machine(is_running=is_running)
        self.ram = Counting("ram")
        self.more = Counting("more")
        self.device = Counting("device", is_live=False)
        self.measures = Measures(
            self.statistics,
            self.pacer,
            self.guest,
            (self.ram, self.more, self.device),
            self.settings,
            0.0,
        )
        self.now_s = 0.0
        self.measures.update()

    def slice(self, sent_bytes: int, /, **grown: int) -> None:
        """Send so much in a slice, and count."""
        self.ram.grow(**grown)
        self.pacer.sent(sent_bytes)
        self.now_s += SLICE_S
        self.pacer.tick(self.now_s)
        self.measures.update()

    def sync(self, *, remaining: int, dirtied_pages: int, after_s: float = 0.0) -> None:
        """Synchronise the dirty log."""
        self.now_s += after_s
        left = remaining - self.ram.counters.remaining_bytes
        self.ram.grow(remaining_bytes=left, dirtied_pages=dirtied_pages, dirty_syncs=1)
        self.measures.update()
        self.measures.synced(self.now_s)


# Constants of old.


@pytest.mark.seed("S11", "S53")
def test_defaults_are_those_of_qemu_and_the_cache_is_that_of_2014() -> None:
    assert QEMU_10_0.max_bandwidth_bytes_per_s == 134_217_728
    assert QEMU_10_0.downtime_limit_s == pytest.approx(0.3)
    assert QEMU_10_0.xbzrle_cache_bytes == 64 * MIB


@pytest.mark.seed("S8", "S9", "S10")
def test_slice_lasts_a_tenth_of_a_second_and_may_carry_a_tenth_of_the_cap() -> None:
    pacer = Pacer(32 * MIB, 0.0)
    assert pytest.approx(0.1) == SLICE_S
    assert pacer.budget_bytes() == pytest.approx(3_355_443, abs=1)
    assert not pacer.tick(0.099)
    assert pacer.tick(0.1)


# Before anything has been measured.


@pytest.mark.seed("S13", "S15", "S17")
def test_before_the_first_slice_nothing_fits_and_the_limit_is_expected() -> None:
    measured = Measured(Parameters(downtime_limit_s=0.03))
    assert measured.statistics.bandwidth_bytes_per_s == 0.0
    assert measured.statistics.pages_per_s == 0.0
    assert measured.statistics.threshold_bytes == 0
    assert measured.statistics.expected_downtime_s == pytest.approx(0.03)
    assert measured.statistics.period.dirtied_pages_per_s == 0.0


@pytest.mark.seed("S13")
def test_figures_that_are_not_known_yet_are_none() -> None:
    statistics = Statistics()
    assert statistics.expected_downtime_s is None
    assert statistics.dirty_log is None
    assert statistics.setup_s is None
    assert statistics.downtime_s is None


# Slices.


@pytest.mark.seed("S60")
def test_threshold_is_the_bandwidth_of_the_slice_times_the_downtime_limit() -> None:
    measured = Measured(Parameters(downtime_limit_s=0.3))
    measured.slice(10_000_000)
    assert measured.statistics.bandwidth_bytes_per_s == pytest.approx(100_000_000)
    assert measured.statistics.threshold_bytes == pytest.approx(30_000_000, abs=1)


@pytest.mark.seed("S60")
def test_bandwidth_is_not_rounded_before_it_is_used() -> None:
    measured = Measured(Parameters(downtime_limit_s=2.0))
    measured.slice(99)  # less than a byte a millisecond, of which the seed made 0
    assert measured.statistics.threshold_bytes == pytest.approx(1980, abs=1)


def test_threshold_relies_on_the_slowest_of_the_last_five_slices() -> None:
    measured = Measured(Parameters(downtime_limit_s=1.0))
    measured.slice(1_000)
    for _ in range(4):
        measured.slice(50_000)
        assert measured.statistics.threshold_bytes == pytest.approx(10_000, abs=1)
    measured.slice(50_000)
    assert measured.statistics.threshold_bytes == pytest.approx(500_000, abs=1)


def test_threshold_follows_a_change_of_the_downtime_limit_at_once() -> None:
    measured = Measured(Parameters(downtime_limit_s=0.3))
    measured.slice(10_000_000)
    measured.settings.parameters = Parameters(downtime_limit_s=2.0)
    measured.measures.update()
    assert measured.statistics.threshold_bytes == pytest.approx(200_000_000, abs=1)


def test_bandwidth_that_an_operator_expects_takes_the_place_of_the_measured_one() -> None:
    measured = Measured(
        Parameters(downtime_limit_s=0.5, switchover_bandwidth_bytes_per_s=8_000_000)
    )
    measured.slice(100_000)
    assert measured.statistics.bandwidth_bytes_per_s == pytest.approx(1_000_000)
    assert measured.statistics.threshold_bytes == 4_000_000


@pytest.mark.seed("S29")
def test_pages_a_second_are_those_that_were_handled_in_the_slice() -> None:
    measured = Measured()
    measured.slice(100_000, handled_pages=100)
    assert measured.statistics.pages_per_s == pytest.approx(1000)
    measured.slice(100_000, handled_pages=1)
    assert measured.statistics.pages_per_s == pytest.approx(10)


# What is counted by whom.


async def test_live_sections_are_added_up_and_others_are_not_asked() -> None:
    measured = Measured(Parameters(downtime_limit_s=0.3))
    await measured.guest.pause()
    measured.more.grow(sent_bytes=5, handled_pages=6, remaining_bytes=800_000, dirty_syncs=8)
    measured.device.grow(sent_bytes=1000, handled_pages=1000, remaining_bytes=1, dirty_syncs=99)
    measured.sync(remaining=200_000, dirtied_pages=3, after_s=1.5)
    measured.slice(100_000, sent_bytes=7, handled_pages=4)
    statistics = measured.statistics
    assert statistics.dirty_syncs == 9
    assert statistics.downtime_bytes == 12
    assert statistics.pages_per_s == pytest.approx(10 / measured.pacer.slice_s)
    assert statistics.period.dirtied_bytes == 3 * PAGE
    bandwidth = measured.pacer.cautious_bandwidth_bytes_per_s
    assert statistics.expected_downtime_s == pytest.approx(1_000_000 / bandwidth)


def test_dirty_log_is_named_when_it_has_begun() -> None:
    measured = Measured()
    measured.statistics.dirty_log = None
    measured.measures.update()
    assert measured.statistics.dirty_log is None
    measured.ram.grow(dirty_syncs=1)
    measured.measures.update()
    assert measured.statistics.dirty_log == measured.guest.log.name


def test_dirty_log_is_not_named_where_all_memory_is_handed_over() -> None:
    measured = Measured()
    for block in measured.guest.ram_blocks():
        block.is_lent = True
    measured.sync(remaining=0, dirtied_pages=0)
    assert measured.statistics.dirty_log is None


def test_nothing_is_decided_by_a_report() -> None:
    measured = Measured()
    silent = Measured()
    for one in (measured, silent):
        one.sync(remaining=4 * PAGE, dirtied_pages=4, after_s=1.5)
    measured.ram.report = {
        "remaining": 1 << 30,
        "transferred": 1 << 30,
        "normal": 1 << 30,
        "dirtied_pages": 1 << 30,
        "dirty_sync_count": 99,
        "page_size": 1 << 20,
    }
    for one in (measured, silent):
        one.slice(100_000)
        one.sync(remaining=4 * PAGE, dirtied_pages=4, after_s=1.5)
    assert measured.statistics.sections["ram"] == measured.ram.report
    assert measured.statistics.period.grown("ram", "normal") == 1 << 30
    measured.statistics.sections = silent.statistics.sections
    measured.statistics.period = dataclasses.replace(measured.statistics.period, reported={})
    silent.statistics.period = dataclasses.replace(silent.statistics.period, reported={})
    assert measured.statistics == silent.statistics


def test_live_section_that_counts_nothing_is_in_no_rate() -> None:
    assert Section().live_counters() == LiveCounters(0, 0, 0, 0, 0, 0)


# What downtime to expect.


@pytest.mark.seed("S14", "S60")
def test_downtime_to_expect_is_what_was_dirty_at_the_last_synchronisation_over_the_bandwidth() -> (
    None
):
    measured = Measured(Parameters(downtime_limit_s=0.3))
    measured.slice(1_000_000)
    assert measured.statistics.expected_downtime_s == pytest.approx(0.3)
    measured.sync(remaining=5_000_000, dirtied_pages=100, after_s=1.0)
    measured.ram.grow(remaining_bytes=-4_999_000)  # sent meanwhile: it changes nothing
    measured.slice(1_000_000)
    measured.slice(1_000_000)
    bandwidth = measured.pacer.cautious_bandwidth_bytes_per_s
    assert measured.statistics.expected_downtime_s == pytest.approx(5_000_000 / bandwidth)


@pytest.mark.seed("S14")
@pytest.mark.parametrize(("sent_bytes", "counts"), [(10_000, False), (10_001, True)])
def test_slice_that_moved_next_to_nothing_says_nothing_about_the_downtime(
    sent_bytes: int, counts: bool
) -> None:
    measured = Measured(Parameters(downtime_limit_s=0.3))
    measured.sync(remaining=5_000_000, dirtied_pages=100, after_s=1.5)
    measured.slice(sent_bytes)
    assert (measured.statistics.expected_downtime_s == pytest.approx(0.3)) is not counts


def test_guest_that_dirtied_nothing_keeps_the_downtime_that_was_expected() -> None:
    measured = Measured(Parameters(downtime_limit_s=0.3))
    measured.sync(remaining=5_000_000, dirtied_pages=0, after_s=1.5)
    measured.slice(1_000_000)
    assert measured.statistics.expected_downtime_s == pytest.approx(0.3)


def test_downtime_to_expect_uses_the_bandwidth_that_an_operator_expects() -> None:
    measured = Measured(Parameters(switchover_bandwidth_bytes_per_s=2_000_000))
    measured.sync(remaining=1_000_000, dirtied_pages=9, after_s=1.5)
    measured.slice(50_000)
    assert measured.statistics.expected_downtime_s == pytest.approx(0.5)


# What counts as sent while the guest stood still.


async def test_memory_that_leaves_once_the_guest_stands_still_is_of_the_downtime() -> None:
    measured = Measured()
    measured.slice(0, sent_bytes=700)
    assert measured.statistics.downtime_bytes == 0
    await measured.guest.pause()
    measured.slice(0, sent_bytes=30)
    assert measured.statistics.downtime_bytes == 30


def test_all_memory_of_a_guest_that_did_not_run_is_of_the_downtime() -> None:
    measured = Measured(is_running=False)
    measured.slice(0, sent_bytes=700)
    measured.slice(0, sent_bytes=30)
    assert measured.statistics.downtime_bytes == 730


# In a migration.


class Slow(ChannelWrapper):
    """Carries so many bytes a second."""

    bytes_per_s = 10 * PAGE

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await trio.sleep(sum(map(len, segments)) / self.bytes_per_s)
        await super().send_segments(segments)


def sent_bytes(pair: Pair) -> int:
    assert isinstance(pair.near, Watched)
    return sum(length for _, length in pair.near.sent)


@pytest.mark.seed("S30", "S62")
async def test_final_figures_are_those_of_the_whole_passage(autojump_clock: MockClock) -> None:
    pair = Pair(near=lambda end: Watched(Slow(end)))
    await pair.run()
    statistics = pair.migration.statistics
    assert statistics.transferred_bytes == sent_bytes(pair)
    assert statistics.total_bytes == PAGES * PAGE
    assert statistics.remaining_bytes == statistics.sections["ram"]["remaining"] == 0
    assert statistics.total_s == pytest.approx(pair.source_took_s, abs=0.01)
    assert statistics.setup_s is not None
    assert 0 < statistics.setup_s < statistics.total_s
    assert statistics.dirty_syncs >= 2
    parts = statistics.downtime
    assert statistics.downtime_s == pytest.approx(
        parts.pause_s + parts.memory_s + parts.devices_s + parts.confirm_s + parts.start_s
    )
    assert pair.migration.elapsed_s == statistics.total_s
    sending_s = statistics.total_s - statistics.setup_s
    assert statistics.transferred_bytes / sending_s == pytest.approx(Slow.bytes_per_s, rel=0.1)


@pytest.mark.seed("S39", "S62")
async def test_downtime_lasts_from_the_pause_to_the_destinations_word(
    autojump_clock: MockClock,
) -> None:
    pair = Pair(near=Slow)
    at_s: dict[str, float] = {}

    async def pause() -> None:
        at_s["pause"] = trio.current_time()
        await trio.sleep(0.25)
        await Machine.pause(pair.source)

    async def resume() -> None:
        await trio.sleep(0.5)
        await Machine.resume(pair.destination)
        at_s["resume"] = trio.current_time()

    pair.source.pause = pause  # type: ignore[method-assign]
    pair.destination.resume = resume  # type: ignore[method-assign]
    await pair.run()
    statistics = pair.migration.statistics
    assert statistics.downtime_s == pytest.approx(at_s["resume"] - at_s["pause"], abs=0.01)
    assert statistics.downtime.pause_s == pytest.approx(0.25, abs=0.01)
    assert statistics.downtime.start_s >= 0.5


async def test_guest_that_stood_still_has_no_downtime_and_all_its_memory_is_of_the_downtime() -> (
    None
):
    pair = Pair()
    await pair.source.pause()
    await pair.run_unchecked()
    statistics = pair.migration.statistics
    assert statistics.downtime_s is None
    assert statistics.downtime_bytes == statistics.sections["ram"]["transferred"] > 0


async def test_memory_is_of_the_passage_before_the_pause_and_of_the_downtime_after_it() -> None:
    pair = Pair()
    sent_before: list[int] = []
    pause = pair.source.pause

    async def pause_after_a_last_write() -> None:
        for page in range(3):
            pair.source.write("ram", page * PAGE, b"the last words")
        sent_before.append(pair.ram.live_counters().sent_bytes)
        await pause()

    pair.source.pause = pause_after_a_last_write  # type: ignore[method-assign]
    await pair.run()
    statistics = pair.migration.statistics
    assert statistics.sections["ram"]["transferred"] - statistics.downtime_bytes == sent_before[0]
    assert statistics.downtime_bytes == 3 * (PAGE + 4)


@pytest.mark.seed("S29", "S60")
async def test_figures_keep_up_with_a_record_that_lasts_many_slices(
    autojump_clock: MockClock,
) -> None:
    """Without a cap a record may be as large as the guest."""
    parameters = Parameters(max_bandwidth_bytes_per_s=0, downtime_limit_s=0)
    pair = Pair(near=Slow, parameters=parameters, pages=50)
    seen: list[tuple[float, float, int]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await trio.sleep(0.5)
        for _ in range(30):
            await trio.sleep(0.1)
            statistics = pair.migration.statistics
            seen.append(
                (
                    statistics.pages_per_s,
                    statistics.bandwidth_bytes_per_s,
                    statistics.transferred_bytes,
                )
            )
    pages_per_s, bandwidth, transferred = zip(*seen, strict=True)
    assert sum(pages_per_s) / len(seen) == pytest.approx(10, rel=0.1)
    assert sum(bandwidth) / len(seen) == pytest.approx(Slow.bytes_per_s, rel=0.1)
    assert transferred[-1] - transferred[0] == pytest.approx(2.9 * Slow.bytes_per_s, rel=0.1)


@pytest.mark.seed("S66")
async def test_times_do_not_follow_the_clock_on_the_wall(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(near=Slow)
    monkeypatch.setattr("time.time", lambda: pytest.fail("somebody looked at the wall"))
    await pair.run()
    statistics = pair.migration.statistics
    assert statistics.total_s == pytest.approx(pair.source_took_s, abs=0.01)


@pytest.mark.seed("S16", "S56")
async def test_what_is_left_when_the_guest_stands_still_leaves_without_a_cap(
    autojump_clock: MockClock,
) -> None:
    cap = 10 * PAGE
    pair = Pair(parameters=Parameters(max_bandwidth_bytes_per_s=cap, downtime_limit_s=0), pages=40)
    pause = pair.source.pause

    async def pause_after_writing_everything() -> None:
        for page in range(40):
            pair.source.write("ram", page * PAGE + 100, b"the last words")
        await pause()

    pair.source.pause = pause_after_writing_everything  # type: ignore[method-assign]
    await pair.run()
    downtime_s = pair.migration.statistics.downtime_s
    assert downtime_s is not None
    assert downtime_s < 40 * PAGE / cap / 10
