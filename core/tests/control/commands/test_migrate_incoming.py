"""``migrate-incoming``: a guest that is awaited."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from .bench import ADDRESS, Bench, Json, Side


@pytest.mark.seed("S35", "S38")
async def test_source_can_connect_once_migrate_incoming_is_answered(bench: Bench) -> None:
    await bench.there.execute("migrate-incoming", uri=ADDRESS)
    assert list(bench.wires.waiting) == [ADDRESS]
    assert await bench.there.run_state() == "inmigrate"


async def test_migrate_incoming_names_the_argument_that_is_wrong(there: Side) -> None:
    for position, arguments in (
        ("exit-on-error", {"uri": ADDRESS, "exit-on-error": "no"}),
        ("detach", {"uri": ADDRESS, "detach": True}),
        ("resume", {"uri": ADDRESS, "resume": False}),
    ):
        assert f"'{position}'" in await there.refusal("migrate-incoming", **arguments)


async def test_migrate_incoming_is_refused_where_no_guest_is_awaited(
    bench: Bench, prelaunch: Side
) -> None:
    for side in (bench.here, prelaunch):
        text = await side.refusal("migrate-incoming", uri=ADDRESS)
        assert "does not wait for a migration" in text
    await bench.move()
    for side in (bench.here, bench.there):
        await side.refusal("migrate-incoming", uri="unix:/elsewhere")


async def test_migrate_incoming_works_once(bench: Bench) -> None:
    there = bench.there
    await there.execute("migrate-incoming", uri=ADDRESS)
    text = await there.refusal("migrate-incoming", uri="unix:/elsewhere")
    assert "has begun to wait" in text
    assert list(bench.wires.waiting) == [ADDRESS]
    await bench.here.execute("migrate", uri=ADDRESS)
    await bench.finish()


async def test_migrate_incoming_may_be_tried_again_when_nobody_could_listen(bench: Bench) -> None:
    there = bench.there
    taken, _ = trio.open_memory_channel[Any](1)
    bench.wires.waiting["unix:/taken"] = taken
    text = await there.refusal("migrate-incoming", uri="unix:/taken")
    assert "somebody else listens" in text
    await there.refusal("migrate-incoming", uri="unix:")
    assert await there.info() == {}
    await bench.move()


@pytest.mark.parametrize(
    ("arguments", "ends"),
    [({}, True), ({"exit_on_error": True}, True), ({"exit_on_error": False}, False)],
)
@pytest.mark.seed("S37", "S70")
async def test_destination_that_fails_stays_and_says_why(
    bench: Bench, arguments: Json, ends: bool
) -> None:
    here, there = bench.here, bench.there
    here.guest.is_held = True
    await there.execute("migrate-incoming", uri=ADDRESS, **arguments)
    assert there.host.exits_on_error is ends
    await here.execute("migrate", uri=ADDRESS)
    await there.reached("active")
    await here.execute("migrate_cancel")
    await there.reached("failed")
    info = await there.info()
    assert info["status"] == "failed"
    assert info["error-desc"]
    assert await there.run_state() == "inmigrate"
    await there.refusal("migrate-incoming", uri="unix:/elsewhere")
