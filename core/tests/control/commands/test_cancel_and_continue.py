"""``migrate_cancel`` and ``migrate-continue``."""

from __future__ import annotations

import pytest
import trio

from .bench import ADDRESS, Bench, Json, Side

# --- migrate_cancel -------------------------------------------------------------------------------


@pytest.mark.seed("S19")
async def test_cancelling_nothing_succeeds_and_does_nothing(bench: Bench, prelaunch: Side) -> None:
    for side in (bench.here, bench.there, prelaunch):
        before = await side.look()
        assert await side.execute("migrate_cancel") == {}
        assert await side.look() == before


@pytest.mark.seed("S19", "S43", "S4", "S5")
async def test_migration_that_connects_is_cancelled(bench: Bench) -> None:
    here = bench.here
    bench.wires.may_connect = trio.Event()
    await here.execute("migrate", uri=ADDRESS)
    assert await here.execute("migrate_cancel") == {}
    await here.reached("cancelled")
    assert await here.info() == {"status": "cancelled"}
    assert here.guest.history == []


@pytest.mark.seed("S19", "S43", "S4", "S5", "S41")
async def test_migration_that_is_active_is_cancelled_and_the_guest_runs_on(bench: Bench) -> None:
    here = bench.here
    await bench.begin()
    assert await here.execute("migrate_cancel") == {}
    assert await here.execute("migrate_cancel") == {}
    await here.reached("cancelled")
    assert await here.info() == {"status": "cancelled"}
    assert await here.run_state() == "running"
    assert here.guest.history == []
    assert await here.execute("migrate_cancel") == {}
    assert await here.info() == {"status": "cancelled"}


async def test_migration_that_waits_to_switch_over_is_cancelled_and_the_guest_resumed(
    bench: Bench,
) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    assert await here.run_state() == "finish-migrate"
    await here.execute("migrate_cancel")
    await here.reached("cancelled")
    assert await here.run_state() == "running"
    assert here.guest.history == ["pause", "resume"]


async def test_cancelling_after_the_end_changes_nothing(bench: Bench) -> None:
    here = bench.here
    await here.execute("migrate", uri="unix:/nobody")
    await here.reached("failed")
    failed = await here.info()
    await here.execute("migrate_cancel")
    assert await here.info() == failed
    await bench.move()
    completed = await here.info()
    for side in (here, bench.there):
        assert await side.execute("migrate_cancel") == {}
    assert await here.info() == completed
    assert await bench.there.run_state() == "running"


async def test_cancelling_at_the_destination_succeeds_and_does_nothing(bench: Bench) -> None:
    await bench.begin()
    assert await bench.there.execute("migrate_cancel") == {}
    assert (await bench.there.info())["status"] == "active"
    await bench.finish()


async def test_guest_moves_after_an_attempt_was_cancelled(bench: Bench) -> None:
    here = bench.here
    bench.wires.may_connect = trio.Event()
    await here.execute("migrate", uri=ADDRESS)
    await here.execute("migrate_cancel")
    await here.reached("cancelled")
    bench.wires.may_connect.set()
    await bench.move()


# --- migrate-continue -----------------------------------------------------------------------------


async def test_migration_that_waits_to_switch_over_is_let_go_on(bench: Bench) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin(held=False)
    await here.reached("pre-switchover")
    assert (await here.info())["status"] == "pre-switchover"
    assert await bench.there.run_state() == "inmigrate"
    assert await here.execute("migrate-continue", state="pre-switchover") == {}
    await bench.finish()
    assert await bench.there.run_state() == "running"


STATES = [
    *("none", "setup", "cancelling", "cancelled", "active", "postcopy-active", "postcopy-paused"),
    *("postcopy-recover-setup", "postcopy-recover", "completed", "failed", "colo"),
    *("pre-switchover", "device", "wait-unplug"),
]


async def test_migrate_continue_is_refused_in_another_state_which_is_named(bench: Bench) -> None:
    here = bench.here
    await here.switch(pause_before_switchover=True)
    await bench.begin()
    for state in STATES:
        if state != "active":
            assert "'active'" in await here.refusal("migrate-continue", state=state)
    here.guest.is_held = False
    await here.reached("pre-switchover")
    for state in STATES:
        if state != "pre-switchover":
            assert "'pre-switchover'" in await here.refusal("migrate-continue", state=state)
    assert (await here.info())["status"] == "pre-switchover"


async def test_migrate_continue_in_a_state_that_waits_for_nothing_does_nothing(
    bench: Bench,
) -> None:
    here = bench.here
    assert await here.execute("migrate-continue", state="none") == {}
    await here.switch(pause_before_switchover=True)
    await bench.begin()
    assert await here.execute("migrate-continue", state="active") == {}
    here.guest.is_held = False
    await here.reached("pre-switchover")
    await here.execute("migrate-continue", state="pre-switchover")
    await bench.finish()
    assert await here.execute("migrate-continue", state="completed") == {}


@pytest.mark.parametrize("arguments", [{}, {"state": "odd"}, {"state": 1}, {"state": "ACTIVE"}])
async def test_migrate_continue_takes_the_name_of_a_state(here: Side, arguments: Json) -> None:
    assert "'state'" in await here.refusal("migrate-continue", **arguments)
