"""The benchmark works: everybody moves a small guest, and goals are judged as they say."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from bench.bare_media import BareMedium
from bench.ceiling import BareCopy
from bench.contestants.block_migration import BlockMigration
from bench.contestants.disks import DiskCopy, Way
from bench.contestants.mixed import QemuToUs, UsToQemu
from bench.contestants.ours import HANDED_OVER, Ours
from bench.contestants.qemus import Qemus
from bench.contestants.stored import Stored
from bench.dirtysync import DirtySyncs, Sync
from bench.goals import GOALS, Goal, judged
from bench.images import fill, mapped
from bench.load import FIRST_BYTE, STAMP_OFFSET
from bench.measuring import MIB, Move, Side
from bench.place import DESTINATION, SOURCE, TLS, USABLE_BYTES, open_place
from bench.plan import Effort, Race, is_chosen, races
from bench.racing import run
from bench.report import as_data
from bench.stamps import is_later, is_round
from bench.tables import as_tables
from bench.workloads import BUSY, PAGE, STOPPED, Workload
from qemu_peer.find import QemuBinary, qemu_binaries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contestants.base import Contestant

QEMU: Final = max(qemu_binaries(), key=lambda binary: binary.version, default=None)
NO_BINARY: Final = QemuBinary(Path("nowhere"), (0,), {}, frozenset())

TINY: Final = STOPPED.of_size(64 * MIB)
TINY_BUSY: Final = replace(BUSY, ram_bytes=32 * MIB, working_set_bytes=8 * MIB)

FIGURES: Final = {"bytes_per_s", "total_s", "cpu_s_per_gib", "overhead_bytes", "rounds", "is_right"}
DOWNTIMES: Final = {"downtime_s", "seen_downtime_s"}


# --- everybody moves ------------------------------------------------------------------------------


async def _measured(race: Race) -> dict[str, Any]:
    """What is reported of one round of a race, as it is in the file."""
    data = as_data({race.key: await run(race, 1)}, "10.0")
    assert as_tables(data).startswith("| race |")
    figures: dict[str, Any] = json.loads(json.dumps(data))["races"][race.key]
    assert list(figures) == [one.name for one in race.contestants]
    assert all(
        figures[one.name]["is_right"] == [None if isinstance(one, BareCopy | BareMedium) else True]
        for one in race.contestants
    )
    return figures


@pytest.mark.qemu
async def test_every_contestant_moves_a_stopped_guest_and_its_memory_is_verified() -> None:
    ours, mixed = (Ours(0), Ours(2)), (QemuToUs(0, QEMU), UsToQemu(0, QEMU), UsToQemu(2, QEMU))
    contestants = (Qemus(0, QEMU), Qemus(2, QEMU), *mixed, QemuToUs(2, QEMU), *ours)
    figures = await _measured(Race("tiny", TINY, "tcp", contestants))
    for one in figures.values():
        assert one.keys() - DOWNTIMES == FIGURES
        assert one["bytes_per_s"]["median"] == TINY.data_bytes / one["total_s"]["all"][0]


@pytest.mark.qemu
async def test_busy_guests_tell_how_long_they_stood_still() -> None:
    contestants = Qemus(0, QEMU), Ours(0)
    figures = await _measured(Race("tiny", TINY_BUSY, "tcp", contestants))
    for one in figures.values():
        assert one.keys() == FIGURES | DOWNTIMES
        assert one["downtime_s"].keys() == {"median", "all", "worst"}


async def test_memory_that_is_handed_over_is_verified() -> None:
    contestants: tuple[Contestant, ...] = (Ours(0, HANDED_OVER),)
    figures = await _measured(Race("tiny", TINY, "unix", contestants))
    assert list(figures) == ["us to us, memory handed over"]


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
async def test_bare_copies_are_measured_in_the_same_way(scheme: str) -> None:
    figures = await _measured(Race("tiny", TINY, scheme, (BareCopy(connections=2),)))
    assert figures["bare copy, 2 connections"].keys() == FIGURES


@pytest.mark.parametrize("scheme", ["exec", "fd"])
async def test_guests_go_through_pipes_beside_the_bare_pipe(scheme: str) -> None:
    figures = await _measured(Race("tiny", TINY, scheme, (BareMedium(medium="pipe"), Ours(0))))
    assert figures["bare copy, 1 pipe"].keys() == FIGURES


async def test_guests_go_through_a_file_beside_the_bare_file() -> None:
    contestants = BareMedium(medium="file"), Stored(0), Stored(2, is_mapped=True)
    figures = await _measured(Race("tiny", TINY, "file", contestants))
    assert list(figures)[1:] == ["us to us, main stream", "us to us, mapped-ram, 2 threads"]


@pytest.mark.qemu
async def test_everybody_goes_over_tls_as_the_bare_copy_does() -> None:
    contestants = BareCopy(connections=2), Qemus(2, QEMU), Ours(0), Ours(2)
    figures = await _measured(Race("tiny", TINY, TLS, contestants))
    assert len(figures) == 4


async def test_guest_goes_over_rdma() -> None:
    pytest.importorskip("transship_rdma", reason="transship-rdma is not installed")
    figures = await _measured(Race("tiny", TINY, "rdma", (BareCopy(connections=1), Ours(0))))
    assert figures["us to us, main stream"]["is_right"] == [True]


@pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="qemu-nbd is not installed")
@pytest.mark.parametrize("way", ["out", "in"])
async def test_disks_are_copied_over_nbd_and_verified(way: Way) -> None:
    contestants = DiskCopy(who="qemu-img convert", way=way), DiskCopy(way=way)
    figures = await _measured(Race("tiny", TINY, "unix", contestants))
    assert all(one.keys() == FIGURES for one in figures.values())


async def test_disk_moves_in_the_stream_and_is_verified() -> None:
    race = Race("tiny", TINY, "unix", (BlockMigration(),))
    figures = await _measured(race)
    (one,) = figures.values()
    assert one["bytes_per_s"]["median"] == TINY.data_bytes / one["total_s"]["all"][0]


async def test_contestant_that_cannot_take_part_is_left_out() -> None:
    assert await run(Race("tiny", TINY, "tcp", (Ours(0, HANDED_OVER),)), 1) == {}


@dataclass(frozen=True)
class _Wrong(Ours):
    async def move(self, work: Workload, scheme: str, place: object) -> Move:
        return replace(_move(), is_right=False)


async def test_memory_that_arrives_wrong_ends_the_race() -> None:
    with pytest.raises(ValueError, match="memory arrived wrong"):
        await run(Race("tiny", TINY, "tcp", (_Wrong(),)), 1)


# --- what a busy guest's memory may be ------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([2, 2, 2], True),
        ([3, 3, 2], True),
        ([3, 2, 3], False),
        ([3, 2, 1], False),
        ([2, 3, 3], False),
    ],
)
def test_stamps_are_of_at_most_two_rounds(stamps: Sequence[int], expected: bool) -> None:
    assert is_round(np.array(stamps, np.uint64)) is expected


def _stamp(path: Path, stamps: Sequence[int]) -> None:
    with mapped(path, TINY_BUSY.ram_bytes) as memory:
        for page, stamp in enumerate(stamps):
            at = (FIRST_BYTE + page * PAGE + STAMP_OFFSET) // 8
            memory[at] = memory[at] >> np.uint64(32) << np.uint64(32) | np.uint64(stamp)


@pytest.fixture
def memories(place: Path) -> tuple[Path, Path]:
    """Of a guest on both sides, the same, with its first round behind it."""
    before, after = place / "before", place / "after"
    for path in (before, after):
        fill(path, TINY_BUSY)
        _stamp(path, [1] * (TINY_BUSY.working_set_bytes // PAGE))
    return before, after


def test_guest_may_have_run_on(memories: tuple[Path, Path]) -> None:
    before, after = memories
    _stamp(after, [2] * 40)
    with after.open("r+b") as memory:
        memory.write(b"the firmware writes here")
    assert is_later(before, after, TINY_BUSY)


def test_page_that_was_not_sent_again_is_noticed(memories: tuple[Path, Path]) -> None:
    before, after = memories
    _stamp(after, [2, 2, 1, 2])
    assert not is_later(before, after, TINY_BUSY)


@pytest.mark.parametrize("at", [FIRST_BYTE - 1, FIRST_BYTE + 4 * PAGE, FIRST_BYTE + 12])
def test_byte_that_nobody_wrote_is_noticed(memories: tuple[Path, Path], at: int) -> None:
    before, after = memories
    with after.open("r+b") as memory:
        memory.seek(at)
        byte = memory.read(1)
        memory.seek(at)
        memory.write(bytes([byte[0] ^ 0x40]))
    assert not is_later(before, after, TINY_BUSY)


@pytest.mark.parametrize(
    ("own_bytes", "expected"),
    [
        (0, {SOURCE, DESTINATION}),
        (USABLE_BYTES - TINY.ram_bytes, {SOURCE}),
        (USABLE_BYTES, set()),
    ],
)
def test_images_go_where_there_is_no_room_for_them(own_bytes: int, expected: set[str]) -> None:
    with open_place() as folder:
        for side in (SOURCE, DESTINATION):
            folder.image(side).touch()
        folder.make_room(own_bytes, TINY)
        kept = {side for side in (SOURCE, DESTINATION) if folder.image(side).exists()}
    assert kept == expected


# --- goals ----------------------------------------------------------------------------------------


def _move(total_s: float = 1.0, downtime_s: float = 0.01, overhead_bytes: int = MIB) -> Move:
    side = Side(1.0, overhead_bytes, 0)
    return Move(
        total_s,
        TINY.data_bytes,
        downtime_s=downtime_s,
        seen_downtime_s=downtime_s,
        is_right=True,
        source=side,
        destination=side,
    )


def _judged(goal: Goal, **moves: Sequence[Move]) -> dict[str, Any]:
    (judgement,) = judged({"race": moves}, [goal])
    return judgement


def test_goal_compares_medians() -> None:
    goal = Goal("race", "ours", ("theirs",), "total_s", 0.5)
    ours = [_move(total_s) for total_s in (1.0, 1.0, 9.0)]
    assert _judged(goal, ours=ours, theirs=[_move(2.0)]) == {
        "work": "race: ours / theirs, total_s",
        "ratio": 0.5,
        "goal": 0.5,
        "unit": "",
        "sense": "at most",
        "met": True,
    }


def test_goal_compares_with_the_best_of_several() -> None:
    moves = {"ours": [_move(1.0)], "slow": [_move(8.0)], "fast": [_move(2.0)]}
    total = _judged(Goal("race", "ours", ("slow", "fast"), "total_s", 0.25), **moves)
    rate = _judged(Goal("race", "ours", ("slow", "fast"), "bytes_per_s", 2.0), **moves)
    assert (total["ratio"], total["met"]) == (0.5, False)
    assert (rate["ratio"], rate["met"], rate["sense"]) == (2.0, True, "at least")


def test_goal_of_the_worst_compares_the_worst_of_both() -> None:
    goal = Goal("race", "ours", ("theirs",), "downtime_s", 1.0, "worst")
    ours = [_move(downtime_s=downtime_s) for downtime_s in (0.01, 0.01, 0.06)]
    theirs = [_move(downtime_s=downtime_s) for downtime_s in (0.03, 0.02, 0.02)]
    judgement = _judged(goal, ours=ours, theirs=theirs)
    assert math.isclose(judgement["ratio"], 2.0)
    assert not judgement["met"]
    assert "worst downtime_s" in judgement["work"]


def test_downtime_of_no_milliseconds_counts_as_one() -> None:
    goal = Goal("race", "ours", ("theirs",), "downtime_s", 1.0)
    judgement = _judged(goal, ours=[_move(downtime_s=0.001)], theirs=[_move(downtime_s=0.0)])
    assert judgement["ratio"] == 1.0


def test_goal_without_others_judges_the_figure_itself() -> None:
    goal = Goal("race", "ours", (), "overhead_bytes", 64 * MIB, "worst")
    moves = [_move(overhead_bytes=60 * MIB), _move(overhead_bytes=65 * MIB)]
    judgement = _judged(goal, ours=moves)
    assert (judgement["ratio"], judgement["goal"]) == (65 * MIB, 64 * MIB)
    assert judgement["unit"] == "bytes"
    assert not judgement["met"]


def test_goal_is_not_judged_where_somebody_was_missing() -> None:
    goal = Goal("race", "ours", ("theirs",), "total_s", 0.5)
    assert judged({"race": {"ours": [_move()]}}, [goal]) == []
    assert judged({"other": {"ours": [_move()], "theirs": [_move()]}}, [goal]) == []


# --- plan and report ------------------------------------------------------------------------------


def test_every_goal_is_about_a_race_and_its_contestants() -> None:
    every = {race.key: {one.name for one in race.contestants} for race in races(NO_BINARY)}
    every["dirty-sync"] = {"write-protect"}
    for goal in GOALS:
        assert {goal.ours, *goal.others} <= every[goal.race], goal.work


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], False),
        (["curve"], True),
        (["curve-size"], True),
        (["curve-size-256MiB"], True),
        (["curve-si"], False),
        (["stopped"], False),
    ],
)
def test_race_is_run_when_its_key_or_the_beginning_is_asked_for(
    asked: Sequence[str], expected: bool
) -> None:
    assert is_chosen("curve-size-256MiB", Effort.FULL, Effort.NORMAL, asked) is expected


def test_quick_run_leaves_out_what_is_large() -> None:
    quick = [race for race in races(NO_BINARY) if race.effort is Effort.QUICK]
    assert quick
    assert all(race.work.ram_bytes <= 2048 * MIB for race in quick)


def test_effort_of_an_unknown_name_is_refused() -> None:
    assert Effort.named("quick") is Effort.QUICK
    with pytest.raises(ValueError, match="quick, normal or full"):
        Effort.named("thorough")


def test_tables_show_all_that_was_measured() -> None:
    results = {
        race: {"us to us, main stream": [_move(0.5, 0.012)] * 2}
        for race in ("downtime-tcp", "curve-size-256MiB", "stopped-tcp")
    }
    syncs = DirtySyncs(16 << 30, 8 << 30, (Sync(0.0131, 41943), Sync(0.0129, 41943)))
    tables = as_tables(as_data(results, "10.0", syncs))
    for line in (
        "| downtime-tcp | us to us, main stream | 0.09 (0.09 to 0.09) | 500 ms | 42.67 | 1 MiB |",
        "| downtime-tcp | us to us, main stream | 12.0 ms (12.0 ms) | 12.0 ms (12.0 ms) |",
        "| 256MiB | 500 ms |",
        "| 16 GiB, 8 in place | 41943 | 13.0 ms (13.1 ms) |",
        "| dirty-sync: write-protect, sync_s | 13.0 ms | at most 20.0 ms | yes |",
    ):
        assert line in tables.splitlines()
