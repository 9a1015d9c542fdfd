"""``transship migrate --copy-storage`` against two peers that speak a script."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from qmp_dialogue import Dialogue, Hangup, Refusal, speaking

from transship.cli.progress.disks import DiskProgress, StorageProgress
from transship.cli.verbs.migrate import migrate

from .test_migrate import COMPLETED, PARAMETERS, RUNNING, URI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .conftest import Ended, Run

GIB = 1 << 30
COMMANDS = [
    {"name": name}
    for name in (
        *("blockdev-add", "blockdev-mirror", "query-jobs", "job-dismiss", "migrate-continue"),
        *("nbd-server-start", "block-export-add", "query-block-exports"),
    )
]
CAPABILITIES = [
    {"capability": name, "state": False}
    for name in ("events", "pause-before-switchover", "postcopy-ram")
]
Heard = list[tuple[str, dict[str, Any]]]


def disk(device: str = "", qdev: str = "", *, size_bytes: int = GIB, ro: bool = False) -> Any:
    """A drive as ``query-block`` has it."""
    image = {"virtual-size": size_bytes, "filename": "x", "format": "raw"}
    inserted = {"node-name": f"node-{device or qdev}", "ro": ro, "image": image, "drv": "raw"}
    return {"device": device, "qdev": qdev, "inserted": inserted, "removable": False}


EMPTY = {"device": "cd", "qdev": "ide1-cd0", "removable": True}


def given(heard: Heard, command: str, name: str = "id") -> list[Any]:
    return [arguments[name] for one, arguments in heard if one == command]


def peers(
    here: list[Any] | None = None,
    there: list[Any] | None = None,
    *,
    source: dict[str, Any] | None = None,
    destination: dict[str, Any] | None = None,
) -> tuple[Dialogue, Dialogue]:
    """Two peers with disks, which do what they are told. They share what they have heard."""
    heard: Heard = []

    def jobs(_: Dialogue) -> Any:
        ended = given(heard, "block-job-cancel", "device")
        return [
            {
                "id": name,
                "status": "concluded" if name in ended else "ready",
                "current-progress": 7,
                "total-progress": 7,
            }
            for name in given(heard, "blockdev-mirror", "job-id")
            if name not in given(heard, "job-dismiss")
        ]

    def nodes(_: Dialogue) -> Any:
        there = given(heard, "blockdev-add", "node-name")
        gone = given(heard, "blockdev-del", "node-name")
        return [{"node-name": name} for name in there if name not in gone]

    def exports(_: Dialogue) -> Any:
        gone = given(heard, "block-export-del")
        names = given(heard, "block-export-add")
        return [{"id": name, "type": "nbd"} for name in names if name not in gone]

    def migration(_: Dialogue) -> Any:
        commands = [command for command, _ in heard]
        if "migrate_cancel" in commands:
            return {"status": "cancelled"}
        if "migrate-continue" in commands:
            return COMPLETED
        return {"status": "pre-switchover"} if "migrate" in commands else {}

    disks = [disk("a"), EMPTY, disk("rom", ro=True)]
    one = Dialogue(
        {
            "query-commands": [COMMANDS],
            "query-migrate-capabilities": [CAPABILITIES],
            "query-migrate-parameters": [PARAMETERS],
            "query-status": [RUNNING],
            "query-block": [disks if here is None else here],
            "query-jobs": [jobs],
            "query-named-block-nodes": [nodes],
            "query-migrate": [migration],
            **(source or {}),
        },
        heard=heard,
    )
    other = Dialogue(
        {
            "query-commands": [COMMANDS],
            "query-migrate-parameters": [PARAMETERS],
            "query-status": [{"status": "inmigrate", "running": False}],
            "query-block": [disks if there is None else there],
            "query-block-exports": [exports],
            "nbd-server-stop": [Refusal("NBD server not running"), {}],
            **(destination or {}),
        },
        heard=heard,
    )
    return one, other


@asynccontextmanager
async def copying(tmp_path: Path, destination: Dialogue) -> AsyncIterator[list[str]]:
    """What asks for a copy to a destination."""
    async with speaking(destination, tmp_path / "there") as address:
        at = ["--destination-qmp", address, "--storage-address", "tcp:192.0.2.7:10809"]
        yield ["migrate", URI, "--copy-storage", *at, "--poll", "10ms", "--json"]


async def moved(run: Run, tmp_path: Path, *sides: Dialogue, options: tuple[str, ...] = ()) -> Ended:
    source, destination = sides
    async with copying(tmp_path, destination) as order:
        return await run(source, *order, *options)


# --- to the end -----------------------------------------------------------------------------------


async def test_guest_is_let_go_only_when_nobody_can_write_its_disks_any_more(
    run: Run, tmp_path: Path
) -> None:
    source, destination = peers()
    ended = await moved(run, tmp_path, source, destination)
    assert ended.code == 0, ended.errors
    assert source.commands() == [
        "nbd-server-stop",
        "nbd-server-start",
        "block-export-add",
        "blockdev-add",
        "blockdev-mirror",
        "migrate-set-capabilities",
        "migrate",
        "block-job-cancel",
        "job-dismiss",
        "blockdev-del",
        "block-export-del",
        "nbd-server-stop",
        "migrate-continue",
        "migrate-set-capabilities",
    ]
    (disk_facts,) = ended.facts["storage"]["disks"]
    assert disk_facts == {"name": "a", "copied_bytes": 7, "total_bytes": 7, "is_ready": True}
    switched = given(source.heard, "migrate-set-capabilities", "capabilities")
    assert [[one["state"] for one in states] for states in switched] == [[True] * 2, [False] * 2]


async def test_copy_is_asked_for_as_the_options_say(run: Run, tmp_path: Path) -> None:
    source, destination = peers([disk("a"), disk(qdev="b")], [disk(qdev="b"), disk("a")])
    options = ("--incremental", "--write-blocking", "--storage-bandwidth", "3MiB/s")
    ended = await moved(run, tmp_path, source, destination, options=options)
    assert ended.code == 0, ended.errors
    assert given(source.heard, "block-export-add", "node-name") == ["node-a", "node-b"]
    for command, arguments in source.heard:
        if command == "blockdev-mirror":
            assert arguments["sync"] == "top"
            assert arguments["copy-mode"] == "write-blocking"
            assert arguments["speed"] == 3 * (1 << 20) // 2
    at = {"type": "inet", "host": "192.0.2.7", "port": "10809"}
    assert given(source.heard, "blockdev-add", "server") == [at, at]
    (address,) = given(source.heard, "nbd-server-start", "addr")
    assert address == {"type": "inet", "data": {"host": "192.0.2.7", "port": "10809"}}


async def test_only_the_disks_that_are_named_are_copied(run: Run, tmp_path: Path) -> None:
    source, destination = peers([disk("a"), disk("b")], [disk("b")])
    ended = await moved(run, tmp_path, source, destination, options=("--disk", "b"))
    assert ended.code == 0, ended.errors
    assert given(source.heard, "blockdev-mirror", "device") == ["node-b"]


async def test_disks_are_encrypted_as_the_migration_is(run: Run, tmp_path: Path) -> None:
    creds = {"tls-creds": "mine", "tls-hostname": "there.example"}
    source, destination = peers(
        source={"query-migrate-parameters": [PARAMETERS | creds]},
        destination={"query-migrate-parameters": [PARAMETERS | {"tls-creds": "its"}]},
    )
    ended = await moved(run, tmp_path, source, destination)
    assert ended.code == 0, ended.errors
    assert given(source.heard, "nbd-server-start", "tls-creds") == ["its"]
    assert given(source.heard, "blockdev-add", "tls-creds") == ["mine"]
    assert given(source.heard, "blockdev-add", "tls-hostname") == ["there.example"]


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        ([], [], "no disk that its guest can write"),
        ([EMPTY, disk("rom", ro=True)], [], "no disk that its guest can write"),
        ([disk("a")], [disk("b")], "a is not there (it has b)"),
        ([disk("a")], [], "a is not there (it has none)"),
        ([disk("cd")], [EMPTY], "cd is empty there"),
        ([disk("a")], [disk("a", ro=True)], "a is read-only there"),
        ([disk("a")], [disk("a", size_bytes=1 << 29)], "a has 1.00 GiB (1073741824 bytes) here"),
        ([disk(qdev="x")], [disk(qdev="y")], "x is not there (it has y)"),
    ],
)
async def test_disks_that_do_not_match_are_refused_before_anything_is_set_up(
    run: Run, tmp_path: Path, here: list[Any], there: list[Any], words: str
) -> None:
    source, destination = peers(here, there)
    ended = await moved(run, tmp_path, source, destination, options=("--bandwidth", "1GiB/s"))
    assert ended.code == 3
    assert ended.facts["status"] == "refused"
    assert words in ended.errors
    assert source.commands() == []


@pytest.mark.parametrize(
    ("source", "destination", "options", "words"),
    [
        ({}, {"query-status": [RUNNING]}, (), "does not wait for a guest"),
        ({"query-commands": [[]]}, {}, (), "no blockdev-add, blockdev-mirror"),
        ({}, {"query-commands": [[]]}, (), "no nbd-server-start"),
        ({"query-migrate-capabilities": [[]]}, {}, (), "knows no pause-before-switchover"),
        ({}, {}, ("--cap", "postcopy-ram"), "may go on in postcopy"),
        ({}, {}, ("--disk", "z"), "no disk 'z'"),
        ({"query-migrate": [{"status": "active"}]}, {}, (), "is migrating already"),
        ({}, {"query-block-exports": [[{"id": "other"}]]}, (), "exports disks already"),
        ({}, {"query-block": [[{"inserted": 1}]]}, (), "unlike a QEMU"),
    ],
)
async def test_peer_that_cannot_do_it_is_refused(
    run: Run,
    tmp_path: Path,
    source: dict[str, Any],
    destination: dict[str, Any],
    options: tuple[str, ...],
    words: str,
) -> None:
    sides = peers(source=source, destination=destination)
    ended = await moved(run, tmp_path, *sides, options=options)
    assert ended.code == 3
    assert words in ended.errors
    assert "blockdev-mirror" not in sides[0].commands()


async def test_what_a_peer_refuses_is_undone_on_both_sides(run: Run, tmp_path: Path) -> None:
    source, destination = peers(source={"blockdev-mirror": [Refusal("Node 'x' is busy")]})
    ended = await moved(run, tmp_path, source, destination)
    assert ended.code == 3
    assert f"{tmp_path / 'qmp'} refuses blockdev-mirror: Node 'x' is busy" in ended.errors
    assert source.commands()[-3:] == ["blockdev-del", "block-export-del", "nbd-server-stop"]
    assert "migrate" not in source.commands()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--copy-storage"], "--destination-qmp and --storage-address"),
        (["--disk", "a"], "means nothing without --copy-storage"),
        (["--incremental"], "means nothing without --copy-storage"),
        (["--storage-address", "tcp:h:0"], "has no port"),
        (["--storage-address", "nbd://h"], "write unix:PATH or tcp:HOST:PORT"),
        (
            [
                *("--copy-storage", "--destination-qmp", "x", "--storage-address", "unix:x"),
                *("--cap", "pause-before-switchover=off"),
            ],
            "switches pause-before-switchover itself",
        ),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(options: list[str], words: str) -> None:
    ended = CliRunner().invoke(migrate, [URI, "--qmp", "nowhere", *options])
    assert ended.exit_code == 2
    assert words in ended.output


# --- broken ---------------------------------------------------------------------------------------


async def test_mirror_that_breaks_before_all_is_copied_is_a_failure(
    run: Run, tmp_path: Path
) -> None:
    source, destination = peers()

    def broken(_: Dialogue) -> Any:
        names = given(source.heard, "blockdev-mirror", "job-id")
        gone = given(source.heard, "job-dismiss")
        lost = {"status": "concluded", "error": "No space left on device"}
        return [{"id": name, **lost} for name in names if name not in gone]

    source.answers = {**source.answers, "query-jobs": [broken]}
    ended = await moved(run, tmp_path, source, destination)
    assert ended.code == 1
    assert ended.facts["status"] == "failed"
    assert ended.facts["guest"] == {"run_state": "running", "is_running": True}
    assert "the copy of disk a broke: No space left on device" in ended.errors
    assert "migrate" not in source.commands()
    assert source.commands()[-4:] == [
        *("job-dismiss", "blockdev-del", "block-export-del", "nbd-server-stop")
    ]


@pytest.mark.parametrize("answer", [Refusal("no such export"), Hangup()])
async def test_export_that_does_not_end_keeps_the_guest_on_the_source(
    run: Run, tmp_path: Path, answer: object
) -> None:
    source, destination = peers(destination={"block-export-del": [answer]})
    ended = await moved(run, tmp_path, source, destination)
    assert ended.code == 1, ended.errors
    assert ended.facts["status"] == "cancelled"
    assert "migrate-continue" not in source.commands()
    assert "migrate_cancel" in source.commands()


async def test_last_writes_that_do_not_arrive_keep_the_guest_on_the_source(
    run: Run, tmp_path: Path
) -> None:
    source, destination = peers()

    def jobs(_: Dialogue) -> Any:
        names = given(source.heard, "blockdev-mirror", "job-id")
        gone = given(source.heard, "job-dismiss")
        ended = given(source.heard, "block-job-cancel", "device")
        lost = {"status": "concluded", "error": "Input/output error"}
        return [
            {"id": name, **(lost if name in ended else {"status": "ready"})}
            for name in names
            if name not in gone
        ]

    source.answers = {**source.answers, "query-jobs": [jobs]}
    ended = await moved(run, tmp_path, source, destination)
    assert ended.code == 1
    assert "the copy of disk a broke: Input/output error" in ended.errors
    assert "migrate-continue" not in source.commands()


# --- an earlier copy's ----------------------------------------------------------------------------


async def test_what_an_earlier_copy_has_left_is_removed_by_its_name(
    run: Run, tmp_path: Path
) -> None:
    source, destination = peers()
    source.heard += [
        ("blockdev-add", {"node-name": "transship-copy-0badcafe-0"}),
        ("blockdev-add", {"node-name": "somebody-elses"}),
        ("blockdev-mirror", {"job-id": "transship-copy-0badcafe-0"}),
        ("block-export-add", {"id": "transship-copy-0badcafe-0"}),
    ]
    ended = await moved(run, tmp_path, source, destination)
    assert ended.code == 0, ended.errors
    assert given(source.heard, "blockdev-del", "node-name")[0] == "transship-copy-0badcafe-0"
    assert "somebody-elses" not in given(source.heard, "blockdev-del", "node-name")
    assert given(source.heard, "block-export-del")[0] == "transship-copy-0badcafe-0"
    forced = next(arguments for one, arguments in source.heard if one == "block-job-cancel")
    assert forced == {"device": "transship-copy-0badcafe-0", "force": True}


# --- progress -------------------------------------------------------------------------------------


def test_progress_of_disks_is_said_with_their_sum_and_what_is_in_step() -> None:
    now = StorageProgress(
        (DiskProgress("a", GIB, GIB, is_ready=True), DiskProgress("b", 0, GIB, is_ready=False)),
        took_s=8.0,
    )
    assert now.done == 0.5
    assert not now.is_ready
    assert now.text() == ("1.00 GiB of 2.00 GiB of disks · copies 128 MiB/s · 1 of 2 disks in step")
