"""``migrate``: a guest that leaves, and why it may not."""

from __future__ import annotations

import pytest
import trio

from transship.abc.guest import Blocker, Device
from transship.wire.fields import VMState

from .bench import ADDRESS, BLIND, Bench, Json, Refused, Side


@pytest.mark.seed("S18", "S7", "S62")
async def test_guest_moves_when_it_is_told_to(bench: Bench) -> None:
    here, there = bench.here, bench.there
    assert await there.execute("migrate-incoming", uri=ADDRESS) == {}
    assert await here.execute("migrate", uri=ADDRESS) == {}
    await bench.finish()
    assert await here.run_state() == "postmigrate"
    assert await there.run_state() == "running"
    assert here.guest.history == ["pause"]
    assert there.guest.history == ["prepare", "commit", "resume"]


async def test_migrate_is_answered_before_the_connection_is_there(bench: Bench) -> None:
    bench.wires.may_connect = trio.Event()
    assert await bench.here.execute("migrate", uri=ADDRESS) == {}
    assert await bench.here.info() == {"status": "setup"}


@pytest.mark.seed("S18")
@pytest.mark.parametrize(
    "ignored", [{}, {"detach": True}, {"detach": False}, {"blk": False, "inc": False}]
)
async def test_detach_is_accepted_and_makes_no_difference(bench: Bench, ignored: Json) -> None:
    await bench.there.execute("migrate-incoming", uri=ADDRESS)
    assert await bench.here.execute("migrate", uri=ADDRESS, **ignored) == {}
    await bench.finish()


@pytest.mark.seed("S18")
@pytest.mark.parametrize("flags", [{"blk": True}, {"inc": True}, {"blk": True, "inc": True}])
async def test_migrate_refuses_to_copy_the_disks_of_a_guest_without(
    here: Side, flags: Json
) -> None:
    assert "the guest has none" in await here.refusal("migrate", uri=ADDRESS, **flags)


@pytest.mark.parametrize("flag", ["blk", "inc"])
async def test_migrate_refuses_to_be_told_twice_of_disks(here: Side, flag: str) -> None:
    await here.switch(block=True)
    assert "'block'" in await here.refusal("migrate", uri=ADDRESS, **{flag: True})


async def test_migrate_refuses_to_resume_what_is_not_paused(bench: Bench) -> None:
    assert "resume" in await bench.here.refusal("migrate", uri=ADDRESS, resume=True)
    await bench.begin()
    assert "resume" in await bench.here.refusal("migrate", uri=ADDRESS, resume=True)


@pytest.mark.seed("S18", "S72")
async def test_migrate_is_refused_while_a_migration_connects(bench: Bench) -> None:
    bench.wires.may_connect = trio.Event()
    await bench.here.execute("migrate", uri=ADDRESS)
    assert "a migration is under way" in await bench.here.refusal("migrate", uri=ADDRESS)


@pytest.mark.seed("S18", "S72")
async def test_migrate_is_refused_while_a_migration_is_active(bench: Bench) -> None:
    await bench.begin()
    assert "a migration is under way" in await bench.here.refusal("migrate", uri=ADDRESS)
    await bench.finish()


@pytest.mark.seed("S18", "S72")
@pytest.mark.parametrize("status", ["cancelling", "device"])
async def test_migrate_is_refused_until_the_migration_is_over(bench: Bench, status: str) -> None:
    here = bench.here
    await _keep_in(bench, status)
    assert "a migration is under way" in await here.refusal("migrate", uri=ADDRESS)


async def _keep_in(bench: Bench, status: str) -> None:
    """Have the source stay in a status, until the end of the test."""
    here, there = bench.here, bench.there
    if status == "cancelling":
        await here.switch(pause_before_switchover=True)
        await bench.begin(held=False)
        await here.reached("pre-switchover")
        here.guest.hold("resume")
        await here.execute("migrate_cancel")
    else:
        there.guest.hold("prepare")
        await bench.begin(held=False)
    await here.reached(status)


@pytest.mark.seed("S73", "S18")
async def test_guest_that_is_to_arrive_cannot_leave(there: Side) -> None:
    assert "waits for a migration" in await there.refusal("migrate", uri="unix:/elsewhere")
    await there.execute("migrate-incoming", uri=ADDRESS)
    assert "waits for a migration" in await there.refusal("migrate", uri="unix:/elsewhere")


async def test_guest_that_has_left_cannot_leave_again(bench: Bench) -> None:
    await bench.move()
    assert "moved away already" in await bench.here.refusal("migrate", uri="unix:/elsewhere")
    assert (await bench.here.info())["status"] == "completed"


async def test_guest_that_has_arrived_can_leave_again(bench: Bench) -> None:
    await bench.move()
    bench.there.notices.clear()
    assert await bench.there.execute("migrate", uri="unix:/nobody") == {}
    await bench.there.reached("failed")
    assert await bench.there.run_state() == "running"


async def test_guest_that_nobody_confirmed_leaves_again_once_it_has_been_continued(
    bench: Bench,
) -> None:
    here = bench.here
    await bench.move(BLIND)
    await here.refusal("migrate", uri="unix:/elsewhere")
    assert await here.execute("cont") == {}
    here.notices.clear()
    assert await here.execute("migrate", uri="unix:/nobody") == {}
    await here.reached("failed")


@pytest.mark.seed("S18", "S74")
async def test_migrate_is_refused_for_a_device_that_cannot_be_moved(here: Side) -> None:
    disk = VMState("ide0", version_id=1, minimum_version_id=1, fields=[])
    here.guest.stuck.append(Device("ide0", disk, object(), is_migratable=False))
    text = await here.refusal("migrate", uri=ADDRESS)
    assert "the state of device 'ide0' cannot be moved" in text
    assert len((await here.info())["blocked-reasons"]) == 1


@pytest.mark.seed("S18", "S75")
async def test_migrate_is_refused_with_all_reasons_and_their_owners(here: Side) -> None:
    here.guest.reasons.append(Blocker("the disk is local", "ide0"))
    remove = here.host.blockers.add("a backup runs", "backup")
    text = await here.refusal("migrate", uri=ADDRESS)
    assert "the disk is local (says ide0)" in text
    assert "a backup runs (says backup)" in text
    remove()
    text = await here.refusal("migrate", uri=ADDRESS)
    assert "a backup" not in text
    here.guest.reasons.clear()
    assert await here.execute("migrate", uri=ADDRESS) == {}


@pytest.mark.seed("S18")
async def test_reasons_to_refuse_are_looked_at_in_order(bench: Bench) -> None:
    here = bench.here
    here.host.blockers.add("a backup runs", "backup")
    assert "exactly one" in await here.refusal("migrate", resume=True)
    assert "resume" in await here.refusal("migrate", uri="nosuch:x", resume=True)
    assert "nosuch" in await here.refusal("migrate", uri="nosuch:x")
    assert "backup" in await here.refusal("migrate", uri=ADDRESS)
    bench.there.host.blockers.add("a backup runs", "backup")
    assert "waits" in await bench.there.refusal("migrate", uri=ADDRESS)


@pytest.mark.seed("S31")
async def test_failure_stays_readable_after_later_commands_were_refused(bench: Bench) -> None:
    here = bench.here
    await here.execute("migrate", uri="unix:/nobody")
    await here.reached("failed")
    failed = await here.info()
    assert failed["status"] == "failed"
    assert "nobody listens at unix:/nobody" in failed["error-desc"]
    await here.refusal("migrate", uri="unix:")
    await here.refusal("migrate")
    await here.refusal("migrate", uri=ADDRESS, blk=True)
    assert await here.info() == failed


@pytest.mark.seed("S1", "S42", "S63")
async def test_source_that_cannot_connect_goes_on_and_may_try_again(bench: Bench) -> None:
    here = bench.here
    await here.execute("migrate", uri=ADDRESS)
    await here.reached("failed")
    assert await here.run_state() == "running"
    here.notices.clear()
    await bench.move()
    assert "error-desc" not in await here.info()


async def test_channel_without_a_return_path_fails_where_one_is_asked_for(bench: Bench) -> None:
    await bench.here.switch(return_path=True)
    await bench.there.execute("migrate-incoming", uri=BLIND)
    await bench.here.execute("migrate", uri=BLIND)
    await bench.here.reached("failed")
    assert "return path" in (await bench.here.info())["error-desc"]
    assert await bench.here.run_state() == "running"


async def test_of_two_operators_only_one_begins_a_migration(bench: Bench) -> None:
    results: list[object] = []

    async def begin() -> None:
        try:
            results.append(await bench.here.execute("migrate", uri=ADDRESS))
        except Refused as refused:
            results.append(refused.text)

    bench.wires.may_connect = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(begin)
    assert results.count({}) == 1
    assert results.count("a migration is under way") == 3
