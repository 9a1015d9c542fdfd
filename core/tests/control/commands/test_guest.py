"""``query-status``, ``stop``, ``cont``, ``quit``, ``announce-self``, and what is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from transship.engine.notifiers import GuestPaused, GuestResumed
from transship.hosting.shutdown import ShutdownCause, ShuttingDown

from .bench import ADDRESS, BLIND, Bench, Json, Side, open_side

if TYPE_CHECKING:
    from trio.testing import MockClock

# --- running and standing still -------------------------------------------------------------------


async def test_guest_is_stopped_and_continued(here: Side) -> None:
    assert await here.run_state() == "running"
    assert await here.execute("stop") == {}
    assert await here.run_state() == "paused"
    assert await here.execute("cont") == {}
    assert await here.run_state() == "running"
    assert here.guest.history == ["pause", "resume"]
    assert here.notices == [GuestPaused(), GuestResumed()]


async def test_stopping_twice_is_stopping_once(here: Side) -> None:
    for _ in range(2):
        assert await here.execute("stop") == {}
    for _ in range(2):
        assert await here.execute("cont") == {}
    assert here.guest.history == ["pause", "resume"]
    assert here.notices == [GuestPaused(), GuestResumed()]


async def test_guest_that_has_not_run_yet_is_started_by_cont(prelaunch: Side) -> None:
    assert await prelaunch.run_state() == "prelaunch"
    assert await prelaunch.execute("stop") == {}
    assert await prelaunch.run_state() == "prelaunch"
    assert prelaunch.notices == []
    assert await prelaunch.execute("cont") == {}
    assert await prelaunch.run_state() == "running"


async def test_guest_that_does_not_pause_is_a_refusal_and_no_end(here: Side) -> None:
    async def pause() -> None:
        raise OSError("the processors are stuck")

    here.guest.pause = pause  # type: ignore[method-assign]
    assert "the processors are stuck" in await here.refusal("stop")
    assert await here.run_state() == "running"


async def test_commands_of_two_operators_are_carried_out_one_after_the_other(here: Side) -> None:
    gate = here.guest.hold("pause")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.execute, "stop")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(here.execute, "cont")
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert here.guest.history == ["pause", "resume"]
    assert await here.run_state() == "running"


# --- around a migration ---------------------------------------------------------------------------


async def test_run_states_follow_a_migration(bench: Bench) -> None:
    here, there = bench.here, bench.there
    assert await there.run_state() == "inmigrate"
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    assert (await here.run_state(), await there.run_state()) == ("finish-migrate", "inmigrate")
    await here.execute("migrate-continue", state="pre-switchover")
    await bench.finish()
    assert (await here.run_state(), await there.run_state()) == ("postmigrate", "running")


async def test_guest_that_stood_still_arrives_paused(bench: Bench) -> None:
    here, there = bench.here, bench.there
    await here.execute("stop")
    await bench.move()
    assert (await here.run_state(), await there.run_state()) == ("postmigrate", "paused")
    await there.execute("cont")
    assert await there.run_state() == "running"


async def test_guest_that_has_not_run_yet_arrives_paused(bench: Bench, prelaunch: Side) -> None:
    there = bench.there
    await there.execute("migrate-incoming", uri=ADDRESS)
    await prelaunch.execute("migrate", uri=ADDRESS)
    await prelaunch.reached("completed")
    await there.reached("completed")
    assert (await prelaunch.run_state(), await there.run_state()) == ("postmigrate", "paused")


async def test_guest_is_stopped_and_continued_while_it_is_sent(bench: Bench) -> None:
    here, there = bench.here, bench.there
    await bench.begin()
    await here.execute("stop")
    assert await here.run_state() == "paused"
    await here.execute("cont")
    await here.execute("stop")
    await bench.finish()
    assert await there.run_state() == "paused"


async def test_guest_cannot_be_continued_while_it_is_handed_over(bench: Bench) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    assert "while it is handed over" in await here.refusal("cont")
    await here.execute("migrate-continue", state="pre-switchover")
    await bench.finish()
    assert await bench.there.run_state() == "running"


async def test_guest_that_was_stopped_during_the_hand_over_stays_paused_if_it_stays(
    bench: Bench,
) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    assert await here.execute("stop") == {}
    await here.execute("migrate_cancel")
    await here.reached("cancelled")
    assert await here.run_state() == "paused"
    assert await here.execute("cont") == {}
    assert await here.run_state() == "running"


async def test_guest_that_has_moved_away_is_not_continued_here(bench: Bench) -> None:
    here = bench.here
    await bench.move()
    assert "moved away" in await here.refusal("cont")
    assert await here.execute("stop") == {}
    assert await here.run_state() == "postmigrate"


async def test_guest_whose_arrival_nobody_confirmed_can_be_continued(bench: Bench) -> None:
    here = bench.here
    await bench.move(BLIND)
    assert await here.run_state() == "postmigrate"
    assert await here.execute("cont") == {}
    assert await here.run_state() == "running"


@pytest.mark.seed("S38")
@pytest.mark.parametrize(
    ("commands", "run_state"),
    [
        ([], "running"),
        (["stop"], "paused"),
        (["stop", "cont"], "running"),
        (["stop", "cont", "stop"], "paused"),
    ],
)
@pytest.mark.parametrize("moment", ["before", "listening", "active"])
async def test_guest_that_is_to_arrive_is_started_or_not_as_was_said_last(
    bench: Bench, commands: list[str], run_state: str, moment: str
) -> None:
    here, there = bench.here, bench.there

    async def say() -> None:
        for command in commands:
            assert await there.execute(command) == {}
            assert await there.run_state() == "inmigrate"

    here.guest.is_held = True
    if moment == "before":
        await say()
    await there.execute("migrate-incoming", uri=ADDRESS)
    if moment == "listening":
        await say()
    await here.execute("migrate", uri=ADDRESS)
    await there.reached("active")
    if moment == "active":
        await say()
    await bench.finish()
    assert await there.run_state() == run_state


async def test_destination_told_to_start_nothing_starts_nothing() -> None:
    async with open_side(awaits_migration=True, autostart=False) as there:
        assert await there.run_state() == "inmigrate"
        await there.execute("cont")
        assert await there.run_state() == "inmigrate"
        assert there.guest.history == []


async def test_cont_that_comes_when_the_guest_has_just_arrived_is_not_lost(bench: Bench) -> None:
    here, there = bench.here, bench.there
    await there.execute("stop")
    bench.wires.may_leave = trio.Event()
    await there.execute("migrate-incoming", uri=ADDRESS)
    await here.execute("migrate", uri=ADDRESS)
    await here.reached("completed")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(there.execute, "cont")
        await trio.testing.wait_all_tasks_blocked()
        bench.wires.may_leave.set()
    await there.reached("completed")
    assert await there.run_state() == "running"


async def test_stop_that_comes_when_the_guest_is_just_started_is_not_lost(bench: Bench) -> None:
    here, there = bench.here, bench.there
    gate = there.guest.hold("resume")
    await there.execute("migrate-incoming", uri=ADDRESS)
    await here.execute("migrate", uri=ADDRESS)
    with trio.fail_after(5):
        while "commit" not in there.guest.history:
            await trio.testing.wait_all_tasks_blocked(0.01)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(there.execute, "stop")
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    await there.reached("completed")
    assert await there.run_state() == "paused"


# --- the end --------------------------------------------------------------------------------------


async def test_quit_asks_for_the_end_once(here: Side) -> None:
    assert here.notices == []
    for _ in range(2):
        assert await here.execute("quit") == {}
    assert here.host.shutdown_cause is ShutdownCause.HOST_QMP_QUIT
    assert here.notices == [ShuttingDown(ShutdownCause.HOST_QMP_QUIT)]


@pytest.mark.parametrize("command", ["stop", "cont", "quit"])
async def test_command_for_the_guest_takes_no_arguments(here: Side, command: str) -> None:
    assert "'force'" in await here.refusal(command, force=True)


# --- announce-self --------------------------------------------------------------------------------

SCHEDULE = {"initial": 50, "max": 550, "rounds": 5, "step": 100}


@pytest.mark.seed("S38")
@pytest.mark.parametrize(
    ("changes", "times_s"),
    [
        ({}, [0.0, 0.05, 0.2, 0.45, 0.8]),
        ({"max": 120}, [0.0, 0.05, 0.17, 0.29, 0.41]),
        ({"initial": 0, "step": 1000, "rounds": 3, "max": 1000}, [0.0, 0.0, 1.0]),
        ({"initial": 10, "step": 0}, [0.0, 0.01, 0.02, 0.03, 0.04]),
        ({"rounds": 1}, [0.0]),
        ({"rounds": 0}, []),
    ],
)
async def test_guest_announces_itself_on_the_schedule_that_is_given(
    changes: Json, times_s: list[float], autojump_clock: MockClock
) -> None:
    async with open_side() as side:
        began_s = trio.current_time()
        assert await side.execute("announce-self", **SCHEDULE | changes) == {}
        await trio.sleep(60)
        assert [at - began_s for at in side.guest.announced_s] == pytest.approx(times_s)


async def test_announcing_does_not_change_the_parameters(here: Side) -> None:
    before = await here.execute("query-migrate-parameters")
    await here.execute("announce-self", initial=1, max=1, rounds=1, step=1)
    assert await here.execute("query-migrate-parameters") == before


async def test_second_schedule_ends_the_first(autojump_clock: MockClock) -> None:
    async with open_side() as side:
        await side.execute("announce-self", initial=1000, max=1000, rounds=100, step=1)
        await trio.sleep(2.5)
        assert len(side.guest.announced_s) == 3
        await side.execute("announce-self", initial=1000, max=1000, rounds=2, step=1)
        await trio.sleep(60)
        assert len(side.guest.announced_s) == 5


@pytest.mark.parametrize("missing", list(SCHEDULE))
async def test_schedule_of_announcements_is_whole(here: Side, missing: str) -> None:
    given = {name: value for name, value in SCHEDULE.items() if name != missing}
    assert f"'{missing}'" in await here.refusal("announce-self", **given)
    assert f"'{missing}'" in await here.refusal("announce-self", **given, **{missing: "5"})
    assert here.guest.announced_s == []


@pytest.mark.parametrize("rounds", [1001, -1, (1 << 64) - 1])
async def test_schedule_of_announcements_has_an_end(here: Side, rounds: int) -> None:
    assert "'rounds'" in await here.refusal("announce-self", **SCHEDULE | {"rounds": rounds})
    assert here.guest.announced_s == []


@pytest.mark.parametrize("name", ["initial", "max", "step"])
async def test_times_between_announcements_may_be_as_long_as_a_number_can_say(
    here: Side, name: str
) -> None:
    for value in (0, 200_000, -1):  # as in C, the largest number
        assert await here.execute("announce-self", **SCHEDULE | {name: value}) == {}
    with trio.fail_after(5):
        while len(here.guest.announced_s) < 3:
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("which", [{"interfaces": ["net0"]}, {"id": "a"}])
async def test_guest_does_not_announce_itself_on_some_network_cards_only(
    here: Side, which: Json
) -> None:
    assert "all its network cards" in await here.refusal("announce-self", **SCHEDULE, **which)
    assert here.guest.announced_s == []


@pytest.mark.seed("S38")
async def test_guest_announces_itself_when_it_has_arrived(bench: Bench) -> None:
    await bench.there.execute(
        "migrate-set-parameters", announce_initial=1, announce_step=1, announce_rounds=3
    )
    await bench.move()
    with trio.fail_after(5):
        while len(bench.there.guest.announced_s) < 3:
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert bench.here.guest.announced_s == []
