"""``transship status``, ``watch`` and ``cancel`` against a peer that speaks a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from qmp_dialogue import GREETING, Dialogue, Hangup, Refusal, encode

from transship.cli.console import Console
from transship.cli.driving import reporting
from transship.control.address import QmpAddress
from transship.errors import StalledError

from .conftest import Interrupt
from .test_migrate import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    FAILED,
    GONE,
    MIB,
    PARAMETERS,
    RAM,
    RUNNING,
    SETUP,
    until_cancelled,
)

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Run

CAPABILITIES = [
    {"capability": "events", "state": True},
    {"capability": "return-path", "state": False},
]
ARRIVING = {"status": "inmigrate", "running": False}


def peer(*infos: object, guest: object = RUNNING, **answers: Any) -> Dialogue:
    """A peer that is first this, then that, and stays the last."""
    return Dialogue(
        {
            "query-migrate": list(infos),
            "query-status": guest if isinstance(guest, list) else [guest],
            "query-migrate-parameters": [PARAMETERS],
            "query-migrate-capabilities": [CAPABILITIES],
            "query-jobs": [[]],
            **answers,
        }
    )


# --- status ---------------------------------------------------------------------------------------


async def test_status_of_a_source_is_one_report(run: Run) -> None:
    info = ACTIVE | {"cpu-throttle-percentage": 20, "blocked-reasons": ["a clock"]}
    dialogue = peer(info)
    ended = await run(dialogue, "status", "--json")
    assert ended.code == 0
    facts = ended.facts
    assert facts["status"] == "active"
    assert facts["guest"] == {"run_state": "running", "is_running": True}
    assert facts["limits"] == {"max_bandwidth_bytes_per_s": 128 * MIB, "downtime_limit_s": 0.3}
    assert facts["statistics"]["transferred_bytes"] == 9 * MIB
    assert facts["statistics"]["throttle_percent"] == 20
    assert facts["capabilities"] == ["events"]
    assert facts["blocked_reasons"] == ["a clock"]
    assert facts["peer"]["version"] == "QEMU 10.0.2"
    assert dialogue.commands() == []


async def test_status_for_people_names_what_is_known(run: Run) -> None:
    text = (await run(peer(FAILED), "status")).output
    assert "migration      failed\n" in text
    assert "error          Unable to write to socket: Broken pipe\n" in text
    assert "cap            128 MiB/s\n" in text
    assert "moved" not in text


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ({"type": "inet", "host": "127.0.0.1", "port": "4444", "ipv4": True}, "tcp:127.0.0.1:4444"),
        ({"type": "inet", "host": "::", "port": "4444"}, "tcp:[::]:4444"),
        ({"type": "unix", "path": "/run/a.sock"}, "unix:/run/a.sock"),
        ({"type": "vsock", "cid": "3", "port": "1"}, "type vsock, cid 3, port 1"),
    ],
)
async def test_status_of_a_destination_says_where_it_listens(
    run: Run, address: dict[str, Any], uri: str
) -> None:
    ended = await run(peer(SETUP | {"socket-address": [address]}, guest=ARRIVING), "status")
    assert f"listening      {uri}\n" in ended.output
    assert "guest          inmigrate\n" in ended.output


async def test_status_of_a_peer_that_goes_away_is_no_report(run: Run) -> None:
    ended = await run(peer(Hangup()), "status")
    assert ended.code == 3
    assert ended.output == ""


async def test_status_counts_one_as_one(run: Run) -> None:
    assert ", 1 pass\n" in (await run(peer(ACTIVE), "status")).output


async def test_what_a_hostile_peer_says_does_nothing_to_the_terminal(run: Run) -> None:
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    info = FAILED | {"error-desc": evil}
    ended = await run(peer(info, guest={"status": evil, "running": False}), "status")
    assert "error          \\x1b]0;owned\\x07\\x9b31m\\x202e\n" in ended.output
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(ended.output + ended.errors)


async def test_status_gives_up_on_a_peer_that_only_emits_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_PATIENCE_S", 0.5)

    async def flood(stream: trio.SocketStream) -> None:
        await stream.send_all(encode(GREETING) + encode({"return": {}, "id": 1}))
        try:
            while True:
                await stream.send_all(encode({"event": "STOP"}) * 1000)
        except trio.BrokenResourceError:
            pass  # the client has gone

    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(tmp_path / "flood"))
    sock.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, flood, [trio.SocketListener(sock)])
        with trio.fail_after(20), pytest.raises(StalledError, match=r"within 0\.5 s"):
            await reporting.report_on(
                QmpAddress(path=str(tmp_path / "flood")), Console(as_json=True)
            )
        nursery.cancel_scope.cancel()


# --- watch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "code"), [(COMPLETED, 0), (FAILED, 1), (CANCELLED, 5)])
async def test_watch_follows_to_the_end_with_the_exit_code_of_migrate(
    run: Run, end: object, code: int
) -> None:
    dialogue = peer(ACTIVE, ACTIVE, end)
    ended = await run(dialogue, "watch", "--poll", "10ms", "--json")
    assert ended.code == code
    assert ended.facts["exit_code"] == code
    assert ended.progress[0]["status"] == "active"
    assert dialogue.commands() == []


async def test_watch_of_what_has_ended_tells_how_without_progress(run: Run) -> None:
    ended = await run(peer(FAILED), "watch")
    assert ended.code == 1
    assert "Broken pipe" in ended.output
    assert ended.errors == ""


async def test_watch_of_what_has_never_begun_is_refused(run: Run) -> None:
    ended = await run(peer({}), "watch")
    assert ended.code == 3
    assert "has not migrated" in ended.errors


async def test_watch_on_a_destination_sees_the_guest_arrive(run: Run) -> None:
    active = {"status": "active"}
    dialogue = peer(active, active, {"status": "completed"}, guest=RUNNING)
    ended = await run(dialogue, "watch", "--poll", "10ms")
    assert ended.code == 0
    assert ended.output == "completed: the guest has arrived\n"


async def test_watch_of_what_does_not_converge_names_what_everybody_can_set(run: Run) -> None:
    active = ACTIVE | {"ram": RAM | {"dirty-sync-count": 3, "dirty-pages-rate": 1 << 20}}
    ended = await run(peer(active, active, COMPLETED), "watch", "--poll", "10ms")
    assert "will not converge" in ended.progress[0]["forecast"]["text"]
    assert "(max-bandwidth)" in ended.progress[0]["forecast"]["text"]


async def test_watch_of_a_peer_that_quits_does_not_say_that_its_guest_runs(run: Run) -> None:
    limits = [PARAMETERS, Hangup()]
    dialogue = peer(ACTIVE, CANCELLED, **{"query-migrate-parameters": limits})
    ended = await run(dialogue, "watch", "--poll", "10ms")
    assert ended.code == 5
    assert "whether its guest runs is not known" in ended.output
    assert "the guest runs" not in ended.output


async def test_watch_that_loses_its_peer_knows_nothing(run: Run) -> None:
    assert (await run(peer(ACTIVE, ACTIVE, Hangup()), "watch", "--poll", "10ms")).code == 7


async def test_ctrl_c_ends_the_watching_and_cancels_nothing(run: Run) -> None:
    dialogue = peer(ACTIVE)
    ended = await run(dialogue, "watch", "--poll", "10ms", interrupt=Interrupt(at=(4,)))
    assert ended.code == 130
    assert "the migration goes on" in ended.errors
    assert dialogue.commands() == []


# --- cancel ---------------------------------------------------------------------------------------


async def test_cancel_waits_until_the_guest_runs_and_says_how_long_it_took(run: Run) -> None:
    cancelling = ACTIVE | {"status": "cancelling"}
    between = {"status": "finish-migrate", "running": False}
    dialogue = peer(ACTIVE, cancelling, cancelling, CANCELLED, guest=[between, between, RUNNING])
    ended = await run(dialogue, "cancel", "--json")
    assert ended.code == 0
    assert ended.facts["status"] == "cancelled"
    assert ended.facts["was_running"] is True
    assert ended.facts["guest"] == {"run_state": "running", "is_running": True}
    assert 0.05 < ended.facts["took_s"] < 5
    assert dialogue.commands() == ["migrate_cancel"]


@pytest.mark.parametrize("info", [{}, CANCELLED, FAILED])
async def test_cancel_of_nothing_does_nothing(run: Run, info: object) -> None:
    dialogue = peer(info)
    ended = await run(dialogue, "cancel")
    assert ended.code == 0
    assert "nothing to cancel: no migration is under way" in ended.output
    assert "the guest runs on this side" in ended.output
    assert dialogue.commands() == []


@pytest.mark.parametrize(("status", "is_told"), [("ready", True), ("concluded", False)])
async def test_cancel_says_that_disks_are_copied_before_the_migration(
    run: Run, status: str, is_told: bool
) -> None:
    jobs = [{"id": "backup", "status": "running"}, {"id": "transship-copy-1-0", "status": status}]
    ended = await run(peer({}, **{"query-jobs": [jobs]}), "cancel")
    assert ended.code == 0
    assert ("its disks are copied first" in ended.output) is is_told


async def test_cancel_of_nothing_where_nobody_knows_jobs_does_nothing(run: Run) -> None:
    unknown = [Refusal("The command query-jobs has not been found")]
    ended = await run(peer({}, **{"query-jobs": unknown}), "cancel")
    assert ended.code == 0
    assert "nothing to cancel" in ended.output


async def test_cancel_on_a_destination_does_not_speak_of_the_source(run: Run) -> None:
    arrived = {"status": "cancelled", "received": {"transferred": 5, "total": 9}}
    standing = {"status": "paused", "running": False}
    ended = await run(peer(until_cancelled(ACTIVE, arrived), guest=standing), "cancel")
    assert "the guest stands still on this side (paused)" in ended.output


@pytest.mark.parametrize("before", [COMPLETED, ACTIVE])
async def test_cancel_that_comes_too_late_says_so(run: Run, before: object) -> None:
    ended = await run(peer(before, COMPLETED, guest=GONE), "cancel")
    assert ended.code == 3
    assert "the source does not run the guest" in ended.output


async def test_cancel_of_a_migration_that_fails_instead_is_a_failure(run: Run) -> None:
    ended = await run(peer(until_cancelled(ACTIVE, FAILED)), "cancel")
    assert ended.code == 1
    assert "Broken pipe\nthe guest runs on the source" in ended.output


@pytest.mark.parametrize(
    ("after", "guest", "code", "kind"),
    [
        (CANCELLED, RUNNING, 0, None),
        (FAILED, RUNNING, 1, "MigrationError"),
        (FAILED, GONE, 7, "UnknownOutcomeError"),
        (COMPLETED, GONE, 3, "BlockedError"),
    ],
)
async def test_cancel_for_programs_has_the_shape_of_every_result(
    run: Run, after: object, guest: object, code: int, kind: str | None
) -> None:
    ended = await run(peer(until_cancelled(ACTIVE, after), guest=guest), "cancel", "--json")
    assert ended.code == ended.facts["exit_code"] == code
    assert (ended.facts["error"] or {"kind": None})["kind"] == kind


async def test_cancel_of_a_migration_that_fails_too_late_is_an_unknown_outcome(run: Run) -> None:
    ended = await run(peer(until_cancelled(ACTIVE, FAILED), guest=GONE), "cancel")
    assert ended.code == 7
    assert "the source does not run the guest" in ended.output


async def test_cancel_that_is_refused_says_why(run: Run) -> None:
    dialogue = peer(ACTIVE, migrate_cancel=[Refusal("not today")])
    ended = await run(dialogue, "cancel")
    assert ended.code == 3
    assert "not today" in ended.errors


async def test_cancel_is_not_even_asked_for_in_postcopy(run: Run) -> None:
    ended = await run(peer(ACTIVE | {"status": "postcopy-active"}), "cancel")
    assert ended.code == 3
    assert "a migration in postcopy-active cannot be cancelled" in ended.errors


async def test_cancel_whose_peer_goes_away_knows_nothing(run: Run) -> None:
    ended = await run(peer(ACTIVE, migrate_cancel=[Hangup()]), "cancel", "--json")
    assert ended.code == 7
    assert ended.facts["status"] == "unknown"
