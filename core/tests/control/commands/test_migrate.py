"""``migrate``, ``migrate-incoming``, ``migrate_cancel`` and ``migrate-continue``."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from transship.abc.guest import Blocker, Device
from transship.wire.fields import VMState

from .bench import ADDRESS, BLIND, Bench, Json, Refused, Side


def channel(kind: str = "main", /, **addr: object) -> Json:
    """A channel, at a unix socket unless something else is said."""
    named = {name.replace("_", "-"): value for name, value in addr.items()}
    return {
        "channel-type": kind,
        "addr": named or {"transport": "socket", "type": "unix", "path": "/run/there.sock"},
    }


# --- migrate --------------------------------------------------------------------------------------


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
async def test_migrate_refuses_to_move_disks_and_says_what_is_missing(
    here: Side, flags: Json
) -> None:
    text = await here.refusal("migrate", uri=ADDRESS, **flags)
    assert "no installed section is block (transship-block)" in text


async def test_migrate_refuses_to_resume_what_is_not_paused(bench: Bench) -> None:
    assert "resume" in await bench.here.refusal("migrate", uri=ADDRESS, resume=True)
    await bench.begin()
    assert "resume" in await bench.here.refusal("migrate", uri=ADDRESS, resume=True)


FORMS: list[tuple[str, Json]] = [
    ("exactly one of 'uri' and 'channels'", {}),
    ("exactly one of 'uri' and 'channels'", {"uri": ADDRESS, "channels": [channel()]}),
    ("exactly one of 'uri' and 'channels'", {"channels": []}),
    ("two entries of 'channels'", {"channels": [channel(), channel()]}),
    ("two entries of 'channels'", {"channels": [channel("cpr"), channel("cpr")]}),
    ("no entry of channel-type 'main'", {"channels": [channel("cpr")]}),
    ("'cpr'", {"channels": [channel(), channel("cpr")]}),
    ("is no migration address", {"uri": ""}),
    ("is no migration address", {"uri": "nowhere"}),
    ("is no migration address", {"uri": ":4444"}),
    ("'nosuch:'", {"uri": "nosuch:place"}),
    ("'TCP:'", {"uri": "TCP:127.0.0.1:4444"}),
    ("malformed", {"uri": "unix:"}),
    ("malformed", {"uri": "tcp:malformed"}),
    ("malformed", {"uri": "fd:"}),
]
"""What no address is, and what is said of it; for both directions."""


@pytest.mark.seed("S18", "S51", "S76")
@pytest.mark.parametrize(("said", "arguments"), FORMS)
async def test_migrate_refuses_what_is_no_address(here: Side, said: str, arguments: Json) -> None:
    assert said in await here.refusal("migrate", **arguments)


@pytest.mark.seed("S34", "S69")
@pytest.mark.parametrize(("said", "arguments"), FORMS)
async def test_migrate_incoming_refuses_what_is_no_address(
    there: Side, said: str, arguments: Json
) -> None:
    assert said in await there.refusal("migrate-incoming", **arguments)


def socket(kind: str, /, **members: object) -> Json:
    return channel("main", transport="socket", type=kind, **members)


MISTYPED: list[tuple[str, Json]] = [
    ("uri", {"uri": 5}),
    ("uri", {"uri": None}),
    ("detach", {"uri": ADDRESS, "detach": 1}),
    ("resume", {"uri": ADDRESS, "resume": "yes"}),
    ("blk", {"uri": ADDRESS, "blk": None}),
    ("to", {"uri": ADDRESS, "to": "there"}),
    ("exit-on-error", {"uri": ADDRESS, "exit-on-error": True}),
    ("channels", {"channels": channel()}),
    ("channels[0]", {"channels": ["unix:/run/there.sock"]}),
    ("channels[1]", {"channels": [channel(), 5]}),
    ("channels[0].channel-type", {"channels": [channel("other")]}),
    ("channels[0].addr", {"channels": [{"channel-type": "main"}]}),
    ("channels[0].addr.transport", {"channels": [channel(type="unix", path="/a")]}),
    ("channels[0].addr.transport", {"channels": [channel(transport="pigeon")]}),
    ("channels[0].addr.type", {"channels": [channel(transport="socket", path="/a")]}),
    ("channels[0].addr.path", {"channels": [socket("unix")]}),
    ("channels[0].addr.path", {"channels": [socket("unix", path=1)]}),
    ("channels[0].addr.port", {"channels": [socket("inet", host="h")]}),
    ("channels[0].addr.port", {"channels": [socket("inet", host="h", port=4444)]}),
    ("channels[0].addr.to", {"channels": [socket("inet", host="h", port="1", to=65536)]}),
    ("channels[0].addr.ipv4", {"channels": [socket("inet", host="h", port="1", ipv4="on")]}),
    ("channels[0].addr.host", {"channels": [socket("unix", path="/a", host="h")]}),
    ("channels[0].addr.offset", {"channels": [channel(transport="file", filename="/a")]}),
    (
        "channels[0].addr.offset",
        {"channels": [channel(transport="file", filename="/a", offset="0x1000")]},
    ),
    ("channels[0].addr.args", {"channels": [channel(transport="exec", args="/bin/true")]}),
    ("channels[0].addr.args[1]", {"channels": [channel(transport="exec", args=["/bin/true", 1])]}),
    ("channels[0].addr.str", {"channels": [socket("fd", name="a")]}),
]
"""Arguments of which one is not what it must be, and which one."""


@pytest.mark.parametrize(("position", "arguments"), MISTYPED)
async def test_migrate_names_the_argument_that_is_wrong(
    here: Side, position: str, arguments: Json
) -> None:
    assert f"'{position}'" in await here.refusal("migrate", **arguments)


CHANNELS: list[tuple[str, Json]] = [
    ("unix:/run/a,b.sock", socket("unix", path="/run/a,b.sock")),
    ("unix:/a", socket("unix", path="/a", abstract=False, tight=True)),
    ("tcp:h:4444", socket("inet", host="h", port="4444")),
    ("tcp:[::1]:4444", socket("inet", host="::1", port="4444")),
    ("tcp::4444", socket("inet", host="", port="4444")),
    ("tcp:h:1,to=5", socket("inet", host="h", port="1", to=5)),
    (
        "tcp:h:1,ipv4=on,ipv6=off,keep-alive=on,mptcp=off",
        socket("inet", host="h", port="1", ipv4=True, ipv6=False, keep_alive=True, mptcp=False),
    ),
    ("fd:name", socket("fd", str="name")),
    ("vsock:3:4444", socket("vsock", cid="3", port="4444")),
    ("rdma:h:1,ipv6=on", channel(transport="rdma", host="h", port="1", ipv6=True)),
    ("file:/a,offset=4096", channel(transport="file", filename="/a", offset=4096)),
]
"""An address in two forms."""


@pytest.mark.parametrize(("uri", "one"), CHANNELS)
async def test_channel_is_another_form_of_a_uri(bench: Bench, uri: str, one: Json) -> None:
    await bench.here.execute("migrate", channels=[one])
    await bench.there.execute("migrate-incoming", channels=[one])
    assert bench.wires.asked == [uri, uri]


async def test_guest_moves_over_a_channel(bench: Bench) -> None:
    await bench.there.execute("migrate-incoming", channels=[channel()])
    await bench.here.execute("migrate", channels=[channel()])
    await bench.finish()


@pytest.mark.parametrize(
    "one",
    [
        channel(transport="exec", args=["/bin/cat"]),
        socket("unix", path="/a", abstract=True),
        socket("inet", host="h,to=5", port="1"),
        socket("inet", host="h", port="1,to=5"),
        channel(transport="rdma", host="h", port="1,ipv4=off"),
    ],
)
async def test_channel_that_no_uri_can_say_is_refused_and_not_bent(bench: Bench, one: Json) -> None:
    await bench.here.refusal("migrate", channels=[one])
    await bench.there.refusal("migrate-incoming", channels=[one])
    assert bench.wires.asked == []


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


# --- migrate-incoming -----------------------------------------------------------------------------


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
