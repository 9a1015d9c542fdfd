"""``transship migrate`` against a peer that speaks a script."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from qmp_dialogue import Dialogue, Hangup, Refusal, Silence

from transship.cli.verbs.migrate import migrate

from .conftest import Interrupt

if TYPE_CHECKING:
    from .conftest import Run

MIB = 1 << 20
URI = "tcp:192.0.2.7:4444"
PARAMETERS = {"max-bandwidth": 128 * MIB, "downtime-limit": 300, "multifd-channels": 2}
CAPABILITIES = [
    {"capability": "auto-converge", "state": False},
    {"capability": "events", "state": False},
]
RUNNING = {"status": "running", "running": True}
GONE = {"status": "postmigrate", "running": False}
RAM = {
    "transferred": 9 * MIB,
    "remaining": 90 * MIB,
    "total": 100 * MIB,
    "mbps": 1000.5,
    "dirty-sync-count": 1,
    "dirty-pages-rate": 0,
    "page-size": 4096,
    "some-new-figure": 7,
}
SETUP = {"status": "setup"}
ACTIVE = {"status": "active", "total-time": 500, "setup-time": 3, "ram": RAM}
COMPLETED = {
    "status": "completed",
    "total-time": 1500,
    "setup-time": 3,
    "downtime": 35,
    "ram": RAM | {"remaining": 0, "dirty-sync-count": 4},
}
FAILED = {"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"}
CANCELLED = {"status": "cancelled"}


def peer(*infos: object, guest: object = RUNNING, **answers: Any) -> Dialogue:
    """A peer that has not migrated, then does what is said, and goes on doing the last."""
    return Dialogue(
        {
            "query-migrate": [{}, *infos],
            "query-status": guest if isinstance(guest, list) else [guest],
            "query-migrate-parameters": [PARAMETERS],
            "query-migrate-capabilities": [CAPABILITIES],
            **answers,
        }
    )


def until_cancelled(before: object, after: object) -> Any:
    return lambda dialogue: after if "migrate_cancel" in dialogue.commands() else before


async def test_migration_that_completes_is_told_with_its_figures(run: Run) -> None:
    dialogue = peer(SETUP, ACTIVE, COMPLETED, guest=GONE)
    ended = await run(dialogue, "migrate", URI, "--poll", "10ms", "--json")
    assert ended.code == 0
    assert ended.facts == {
        "status": "completed",
        "exit_code": 0,
        "error": None,
        "guest": {"run_state": "postmigrate", "is_running": False},
        "statistics": {
            "total_s": 1.5,
            "setup_s": 0.003,
            "downtime_s": 0.035,
            "transferred_bytes": 9 * MIB,
            "remaining_bytes": 0,
            "total_bytes": 100 * MIB,
            "dirty_syncs": 4,
            "bandwidth_bytes_per_s": 125062500.0,
            "dirty_rate_bytes_per_s": 0,
            "throttle_percent": None,
        },
        "limits": {"max_bandwidth_bytes_per_s": 128 * MIB, "downtime_limit_s": 0.3},
    }
    assert dialogue.commands() == ["migrate"]
    assert dialogue.arguments_of("migrate") == {"uri": URI}


COPIES_DISKS = [*CAPABILITIES, {"capability": "block", "state": False}]


@pytest.mark.parametrize("flag", ["blk", "inc"])
async def test_disks_go_along_with_a_peer_that_copies_them(run: Run, flag: str) -> None:
    disk = {"transferred": 5 * MIB, "remaining": 60 * MIB, "total": 400 * MIB}
    copying = ACTIVE | {"disk": disk}
    dialogue = peer(
        copying, COMPLETED, guest=GONE, **{"query-migrate-capabilities": [COPIES_DISKS]}
    )
    ended = await run(dialogue, "migrate", URI, f"--{flag}", "--poll", "10ms")
    assert ended.code == 0
    assert dialogue.arguments_of("migrate") == {"uri": URI, flag: True}
    shown = ended.progress[0]
    assert (shown["disk_remaining_bytes"], shown["disk_total_bytes"]) == (60 * MIB, 400 * MIB)
    assert shown["remaining_bytes"] == 150 * MIB
    assert shown["total_bytes"] == 500 * MIB


async def test_disks_do_not_go_along_with_a_qemu_that_has_no_block_migration(run: Run) -> None:
    dialogue = peer(COMPLETED)
    ended = await run(dialogue, "migrate", URI, "--blk")
    assert ended.code == 3
    assert "cannot copy disks within a migration" in ended.errors
    assert dialogue.commands() == []


async def test_cap_in_force_is_always_said(run: Run) -> None:
    ended = await run(peer(COMPLETED, guest=GONE), "migrate", URI)
    assert ended.errors.startswith("cap 128 MiB/s (--bandwidth changes it)\n")
    assert ended.output == "completed: 9.00 MiB in 1.50 s, downtime 35.0 ms, 4 passes\n"


async def test_without_a_terminal_progress_is_json_on_standard_error(run: Run) -> None:
    ended = await run(peer(SETUP, ACTIVE, COMPLETED, guest=GONE), "migrate", URI, "--poll", "10ms")
    setup, active, completed = ended.progress
    assert setup["forecast"]["text"] == "connecting"
    assert active["first_pass"] == 0.1
    assert active["forecast"]["outlook"] == "first-pass"
    assert completed["status"] == "completed"


async def test_what_is_asked_for_is_set_before_and_nothing_else(run: Run) -> None:
    dialogue = peer(COMPLETED, guest=GONE)
    options = ["--bandwidth", "1GiB/s", "--downtime", "50ms", "--set", "multifd-channels=4"]
    await run(dialogue, "migrate", URI, *options, "--cap", "auto-converge", "--cap", "events=off")
    assert dialogue.commands() == [
        "migrate-set-capabilities",
        "migrate-set-parameters",
        "migrate",
    ]
    assert dialogue.arguments_of("migrate-set-capabilities") == {
        "capabilities": [
            {"capability": "auto-converge", "state": True},
            {"capability": "events", "state": False},
        ]
    }
    assert dialogue.arguments_of("migrate-set-parameters") == {
        "max-bandwidth": 1 << 30,
        "downtime-limit": 50,
        "multifd-channels": 4,
    }


async def test_capability_is_switched_back_if_a_parameter_is_refused(run: Run) -> None:
    refused = [Refusal("out of range")]
    dialogue = peer(COMPLETED, **{"migrate-set-parameters": refused})
    ended = await run(
        dialogue, "migrate", URI, "--cap", "auto-converge", "--set", "multifd-channels=0"
    )
    assert ended.code == 3
    assert "out of range" in ended.errors
    states = [
        arguments["capabilities"]
        for command, arguments in dialogue.heard
        if command == "migrate-set-capabilities"
    ]
    assert states == [
        [{"capability": "auto-converge", "state": True}],
        [{"capability": "auto-converge", "state": False}],
    ]
    assert "migrate" not in dialogue.commands()


async def test_peer_is_found_through_the_environment(run: Run) -> None:
    ended = await run(peer(COMPLETED, guest=GONE), "migrate", URI, by_variable=True)
    assert ended.code == 0


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialogue", "arguments", "words"),
    [
        (peer(migrate=[Refusal("disk is local")]), [], ["disk is local"]),
        (peer(), ["--cap", "auto-convurge"], ["'auto-convurge'", "auto-converge, perhaps?"]),
        (peer(), ["--set", "warp=9"], ["'warp'", "multifd-channels"]),
        (
            peer(**{"query-migrate-parameters": [{"tls-creds": "", "tls-hostname": ""}]}),
            ["--set", "tls-hostname=b.example.org"],
            ["'tls-hostname' has no effect without 'tls-creds'", "nothing would be encrypted"],
        ),
        (
            peer(**{"migrate-set-parameters": [Refusal("value out of range")]}),
            ["--set", "multifd-channels=999"],
            ["value out of range"],
        ),
        (
            peer(**{"migrate-set-capabilities": [Refusal("not both")]}),
            ["--cap", "auto-converge"],
            ["not both"],
        ),
        (
            Dialogue({"query-migrate": [{"blocked-reasons": ["a cuckoo clock"]}]}),
            [],
            ["a cuckoo clock"],
        ),
        (Dialogue({"query-migrate": [ACTIVE]}), [], ["migrating already", "transship watch"]),
        (Dialogue({"query-migrate": [{"status": 7}]}), [], ["unlike a QEMU"]),
        (Dialogue({"query-migrate": [Hangup()]}), [], ["closed the connection"]),
        (Dialogue(greeting=b"SSH-2.0\r\n"), [], ["does not speak QMP", "SSH-2.0"]),
    ],
)
async def test_what_is_refused_is_refused_before_anything_moves(
    run: Run, dialogue: Dialogue, arguments: list[str], words: list[str]
) -> None:
    ended = await run(dialogue, "migrate", URI, *arguments, "--json")
    assert ended.code == 3
    assert ended.facts["status"] == "refused"
    for word in words:
        assert word in ended.errors
    assert "Traceback" not in ended.errors


def test_nobody_who_listens_is_said(tmp_path: object) -> None:
    result = CliRunner().invoke(migrate, ["--qmp", f"unix:{tmp_path}/none", URI])
    assert result.exit_code == 3
    assert f"{tmp_path}/none: No such file or directory" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--qmp", "host:4444"],
        ["--qmp", "/x", "--set", "downtime-limit=3parsecs"],
        ["--qmp", "/x", "--set", "downtime-limit"],
        ["--qmp", "/x", "--cap", "a=maybe"],
        ["--qmp", "/x", "--bandwidth", "fast"],
        ["--qmp", "/x", "--downtime", "1us"],
        ["--qmp", "/x", "--timeout", "0s"],
        ["--qmp", "/x", "--downtime", "300"],
        ["--qmp", "/x", "--bandwidth", "1Gb/s"],
        ["--qmp", "/x", "--bandwidth", "1MiB/s", "--set", "max-bandwidth=2MiB/s"],
    ],
)
def test_command_line_that_makes_no_sense_is_a_usage_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(migrate, [*arguments, URI], env={"TRANSSHIP_QMP": None})
    assert result.exit_code == 2
    assert "Error" in result.output


# --- not completed --------------------------------------------------------------------------------


async def test_failure_is_told_with_its_reason_and_with_where_the_guest_is(run: Run) -> None:
    between = {"status": "finish-migrate", "running": False}
    dialogue = peer(SETUP, ACTIVE, FAILED, guest=[between, between, RUNNING])
    ended = await run(dialogue, "migrate", URI, "--poll", "10ms")
    assert ended.code == 1
    assert ended.output == (
        "failed: Unable to write to socket: Broken pipe\nthe guest runs on the source\n"
    )


async def test_failure_after_the_guest_was_given_up_is_an_unknown_outcome(run: Run) -> None:
    # A source of ours whose channel broke between its last byte and the destination's word.
    dialogue = peer(ACTIVE, FAILED | {"error-desc": "no word came"}, guest=GONE)
    ended = await run(dialogue, "migrate", URI, "--json")
    assert ended.code == 7
    assert ended.facts["status"] == "failed"
    assert ended.facts["error"]["kind"] == "UnknownOutcomeError"
    assert "no word came (the guest may be on either side" in ended.errors


async def test_cancelling_by_somebody_else_is_no_failure(run: Run) -> None:
    ended = await run(peer(ACTIVE, CANCELLED), "migrate", URI, "--poll", "10ms", "--json")
    assert ended.code == 5
    assert ended.facts["error"]["kind"] == "CancelledError"
    assert ended.facts["guest"] == {"run_state": "running", "is_running": True}


async def test_lost_connection_is_an_unknown_outcome(run: Run) -> None:
    ended = await run(peer(ACTIVE, Hangup()), "migrate", URI, "--poll", "10ms", "--json")
    assert ended.code == 7
    assert ended.facts["status"] == "unknown"
    assert ended.facts["error"]["phase"] == "active"
    assert "look at both with transship status" in ended.errors


async def test_connection_that_is_lost_before_the_answer_is_an_unknown_outcome(run: Run) -> None:
    # Whether the migration was started nobody knows.
    assert (await run(peer(migrate=[Hangup()]), "migrate", URI)).code == 7


async def test_peer_that_ends_after_it_has_completed_has_completed(run: Run) -> None:
    ended = await run(peer(ACTIVE, COMPLETED, guest=Hangup()), "migrate", URI, "--json")
    assert ended.code == 0
    assert ended.facts["guest"] is None


async def test_time_that_is_over_cancels_and_says_what_was_expected(run: Run) -> None:
    dialogue = peer(until_cancelled(ACTIVE, CANCELLED))
    ended = await run(dialogue, "migrate", URI, "--timeout", "300ms", "--json")
    assert ended.code == 4
    assert dialogue.commands() == ["migrate", "migrate_cancel"]
    assert ended.facts["status"] == "cancelled"
    assert ended.facts["error"]["kind"] == "NotConvergedError"
    assert ended.facts["error"]["cause"] == "not completed within 300.0 ms"
    assert ended.facts["error"]["found"].startswith("first pass")
    assert ended.facts["guest"]["is_running"]


async def test_migration_that_completes_when_its_time_is_over_has_completed(run: Run) -> None:
    dialogue = peer(until_cancelled(ACTIVE, COMPLETED), guest=GONE)
    assert (await run(dialogue, "migrate", URI, "--timeout", "100ms")).code == 0


async def test_postcopy_cannot_be_cancelled_and_is_waited_for(run: Run) -> None:
    postcopy = ACTIVE | {"status": "postcopy-active"}
    dialogue = peer(*[postcopy] * 5, COMPLETED, guest=GONE)  # and is not asked to cancel
    ended = await run(dialogue, "migrate", URI, "--timeout", "300ms")
    assert ended.code == 0
    assert "cannot be cancelled now: a migration in postcopy-active" in ended.errors


async def test_broken_postcopy_is_a_split_guest(run: Run) -> None:
    postcopy = ACTIVE | {"status": "postcopy-active"}
    paused = ACTIVE | {"status": "postcopy-paused", "error-desc": "the cable is gone"}
    ended = await run(peer(postcopy, paused, guest=GONE), "migrate", URI, "--json")
    assert ended.code == 6
    assert ended.facts["error"]["source_may_resume"] is False
    assert "the cable is gone" in ended.errors
    assert "migrate-recover" in ended.errors


async def test_pause_before_the_switchover_is_said_once_and_waited_for(run: Run) -> None:
    waiting = ACTIVE | {"status": "pre-switchover"}
    dialogue = peer(waiting, waiting, waiting, COMPLETED, guest=GONE)
    ended = await run(dialogue, "migrate", URI, "--poll", "10ms")
    assert ended.code == 0
    notes = [line for line in ended.errors.splitlines() if not line.startswith("{")]
    assert [note for note in notes if "migrate-continue" in note] == [notes[1]]


# --- Ctrl-C ---------------------------------------------------------------------------------------


async def test_ctrl_c_cancels_and_waits_for_the_end(run: Run) -> None:
    dialogue = peer(until_cancelled(ACTIVE, CANCELLED))
    ended = await run(dialogue, "migrate", URI, "--json", interrupt=Interrupt(at=(2,)))
    assert ended.code == 5
    assert dialogue.commands() == ["migrate", "migrate_cancel"]
    assert ended.facts["status"] == "cancelled"
    assert "cancelling; once more leaves at once" in ended.errors


async def test_second_ctrl_c_leaves_at_once_and_says_so(run: Run) -> None:
    dialogue = peer(until_cancelled(ACTIVE, ACTIVE | {"status": "cancelling"}))
    interrupt = Interrupt(at=(2, 5))
    ended = await run(dialogue, "migrate", URI, "--poll", "50ms", interrupt=interrupt)
    assert ended.code == 130
    assert "may still run" in ended.errors
    assert ended.output == ""


async def test_ctrl_c_before_the_beginning_starts_nothing(run: Run) -> None:
    dialogue = Dialogue({"query-migrate": [Silence()]})
    ended = await run(dialogue, "migrate", URI, interrupt=Interrupt(at=(1,)))
    assert ended.code == 5
    assert dialogue.commands() == []
    assert "cancelled before the migration began" in ended.errors


@pytest.mark.parametrize(
    "said",
    [
        {"transport": "exec", "args": ["cat"]},
        {"channel-type": "main", "addr": {"transport": "exec", "args": ["cat"]}},
    ],
)
async def test_address_in_json_is_passed_on_as_a_channel(run: Run, said: dict[str, object]) -> None:
    dialogue = peer(COMPLETED, guest=GONE)
    await run(dialogue, "migrate", json.dumps(said))
    assert dialogue.arguments_of("migrate") == {
        "channels": [{"channel-type": "main", "addr": said.get("addr", said)}]
    }
