"""`transship run --qmp` as clients from elsewhere see it: QEMU's own, and hostile ones."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
import trio
from support.commands import POLL_S, VerbProcess

from transship.control.client import QmpClient, QmpCommandError, QmpError, open_qmp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytest.importorskip("transship_tcp")
pytest.importorskip("transship_unix")
pytest.importorskip("transship_ram")
pytest.importorskip("transship_devstate")
qmp: Any = pytest.importorskip("qemu.qmp")

T = TypeVar("T")
Json = dict[str, Any]

DOCS: Final = Path(__file__).parents[1] / "docs"
QMP_SHELL: Final = Path(sys.executable).with_name("qmp-shell")
GUEST: Final = "synthetic:ram=16MiB,dirty-rate=8MiB/s,working-set=1MiB"
SEED: Final = 4711
PATIENCE_S: Final = 30.0


@asynccontextmanager
async def hosted(
    place: Path, name: str, *options: str, guest: str = GUEST, at: str | None = None
) -> AsyncIterator[tuple[VerbProcess, str]]:
    """A guest of ours; gives the process, and where it takes commands.

    Args:
        place: For its socket.
        name: Of that.
        options: Further ones.
        guest: What it hosts.
        at: Where it is to take commands, if not at a unix socket.
    """
    at = at or f"unix:{place / name}.qmp"
    async with VerbProcess("run", guest, "--qmp", at, *options) as process:
        yield process, await process.said("qmp ")


@asynccontextmanager
async def pair(place: Path) -> AsyncIterator[tuple[QmpClient, QmpClient]]:
    """A guest that runs, and a place that waits for it over QMP; gives a client of each."""
    async with (
        hosted(place, "a") as (_, here),
        hosted(place, "b", "--incoming", "defer") as (_, there),
        open_qmp(here) as source,
        open_qmp(there) as destination,
    ):
        yield source, destination


async def outside(main: Callable[[], Awaitable[T]]) -> T:
    """Run what needs asyncio in a thread of its own."""

    async def bounded() -> T:
        return await asyncio.wait_for(main(), PATIENCE_S)

    return await trio.to_thread.run_sync(asyncio.run, bounded())


def place_of(address: str) -> str | tuple[str, int]:
    """An address of ours as QEMU's client takes it."""
    scheme, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    return rest if scheme == "unix" else (host, int(port))


async def connected(address: str) -> Any:
    client = qmp.QMPClient("a test")
    await client.connect(place_of(address))
    return client


async def gone(client: Any) -> None:
    """Part from a process that has been told to quit."""
    with suppress(EOFError):
        await client.disconnect()


def switched(**capabilities: bool) -> Json:
    return {
        "capabilities": [
            {"capability": name.replace("_", "-"), "state": is_on}
            for name, is_on in capabilities.items()
        ]
    }


async def status_reached(client: QmpClient, *statuses: str) -> Json:
    """Ask until the migration has one of the statuses; returns what is said of it."""
    with trio.fail_after(PATIENCE_S):
        while True:
            info = await client.execute("query-migrate")
            assert isinstance(info, dict)
            if info.get("status") in statuses:
                return info
            await trio.sleep(POLL_S)


async def run_state(client: QmpClient) -> str:
    said = await client.execute("query-status")
    assert isinstance(said, dict)
    return str(said["status"])


async def consistent(process: VerbProcess, exit_code: int = 0) -> list[str]:
    """Wait for the end of a process that has been told to quit; returns what happened to its guest.

    Raises:
        AssertionError: A byte of the guest is wrong.
    """
    events = (await process.outcome()).expect(exit_code).events
    stopped = events[-1]
    assert stopped["event"] == "stopped"
    assert stopped["guest"]["consistent"], stopped
    return [event["event"] for event in events]


# --- a whole migration, driven by QEMU's client ---------------------------------------------------

SOURCE_ORDER: Final = ["setup", "active", "STOP", "device", "completed"]


@pytest.mark.seed("S18", "S20", "S21", "S22", "S30")
@pytest.mark.parametrize("scheme", ["unix", "tcp"])
async def test_qemus_client_moves_a_guest_between_two_processes(place: Path, scheme: str) -> None:
    at = "tcp:127.0.0.1:0" if scheme == "tcp" else None
    async with (
        hosted(place, "a", at=at) as (source, here),
        hosted(place, "b", "--incoming", "defer", at=at) as (destination, there),
    ):
        uri = at or f"unix:{place / 'in'}"
        heard = await outside(lambda: _move(here, there, uri))
        assert await consistent(source) == ["left", "stopped"]
        assert await consistent(destination) == ["arrived", "stopped"]
    passes = [one for one in heard["source"] if one.startswith("pass")]
    assert passes == [f"pass {number}" for number in range(1, len(passes) + 1)]
    assert heard["source"][:3] == ["setup", "pass 1", "active"]
    assert heard["source"][-2:] == [passes[-1], "completed"]
    assert [one for one in heard["source"] if one not in passes] == SOURCE_ORDER
    assert heard["destination"] == ["setup", "active", "RESUME", "completed"]


async def _move(here: str, there: str, uri: str) -> dict[str, list[str]]:
    """The whole dialogue, from the greeting to the end of both; returns the events of each."""
    source, destination = await connected(here), await connected(there)
    assert source.greeting.QMP.version["qemu"]["major"] == 10
    with source.listener() as from_source, destination.listener() as from_destination:
        for client in (source, destination):
            on = switched(events=True, return_path=True)
            assert await client.execute("migrate-set-capabilities", on) == {}
            states = await client.execute("query-migrate-capabilities")
            assert {one["capability"] for one in states if one["state"]} == {
                "events",
                "return-path",
            }
            limits = {"max-bandwidth": 64 << 20, "downtime-limit": 500}
            assert await client.execute("migrate-set-parameters", limits) == {}
            assert (await client.execute("query-migrate-parameters")).items() >= limits.items()
        assert await source.execute("query-status") == {"running": True, "status": "running"}
        assert await destination.execute("query-status") == {
            "running": False,
            "status": "inmigrate",
        }
        assert await source.execute("query-migrate") == {}
        assert await destination.execute("migrate-incoming", {"uri": uri}) == {}
        waiting = await destination.execute("query-migrate")
        assert waiting["status"] == "setup"
        (listening,) = waiting["socket-address"]
        if listening["type"] == "inet":
            uri = f"tcp:{listening['host']}:{listening['port']}"
        with pytest.raises(qmp.ExecuteError, match="does not wait for a migration"):
            await source.execute("migrate-incoming", {"uri": uri})
        assert await source.execute("migrate", {"uri": uri}) == {}
        heard = {
            "source": await _until_completed(from_source),
            "destination": await _until_completed(from_destination),
        }
    info = await source.execute("query-migrate")
    assert info["status"] == "completed"
    assert info["ram"]["remaining"] == 0
    assert info["ram"]["transferred"] >= 16 << 20
    assert info["total-time"] >= info["downtime"]
    assert (await destination.execute("query-migrate"))["status"] == "completed"
    assert await source.execute("query-status") == {"running": False, "status": "postmigrate"}
    assert await destination.execute("query-status") == {"running": True, "status": "running"}
    with pytest.raises(qmp.ExecuteError) as caught:
        await source.execute("cont")
    assert caught.value.error.error.class_ == "GenericError"
    for client in (source, destination):
        with client.listener("SHUTDOWN") as end:
            assert await client.execute("quit") == {}
            event = await end.get()
            assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}
        await gone(client)
    return heard


async def _until_completed(events: Any) -> list[str]:
    heard: list[str] = []
    async for event in events:
        data = event.get("data", {})
        number = f"pass {data.get('pass')}"
        name = event["event"]
        heard.append({"MIGRATION": data.get("status"), "MIGRATION_PASS": number}.get(name, name))
        if heard[-1] == "completed":
            return heard
    raise AssertionError("unreachable: events do not end")


async def test_many_clients_at_once_all_see_the_same_migration(place: Path) -> None:
    async with pair(place) as (source, destination):
        here = str(source.address)
        await destination.execute("migrate-incoming", uri=f"unix:{place / 'in'}")

        async def watch(client: Any) -> list[str]:
            with client.listener(("MIGRATION", "STOP")) as events:
                ready.release()
                heard = []
                async for event in events:
                    heard.append(event.get("data", {}).get("status", event["event"]))
                    assert (await client.execute("query-migrate"))["status"]
                    if heard[-1] == "completed":
                        break
            await client.disconnect()
            return heard

        async def all_of_them() -> list[list[str]]:
            # One after the other: a Linux refuses a unix connection that it has no room for, and
            # asyncio takes that for a success.
            clients = [await connected(here) for _ in range(20)]
            watching = [asyncio.create_task(watch(client)) for client in clients]
            for _ in watching:
                await ready.acquire()
            starter = await connected(here)
            await starter.execute("migrate-set-capabilities", switched(events=True))
            await starter.execute("migrate", {"uri": f"unix:{place / 'in'}"})
            await starter.disconnect()
            return await asyncio.gather(*watching)

        ready = asyncio.Semaphore(0)
        for heard in await outside(all_of_them):
            assert heard == SOURCE_ORDER
        assert await run_state(destination) == "running"


async def test_descriptors_are_passed_and_closed(place: Path) -> None:
    async with hosted(place, "a") as (process, here):

        async def talk() -> None:
            client = await connected(here)
            reader, writer = os.pipe()
            client.send_fd_scm(writer)
            assert await client.execute("getfd", {"fdname": "pipe"}) == {}
            os.close(writer)
            with pytest.raises(qmp.ExecuteError, match="no file descriptor came"):
                await client.execute("getfd", {"fdname": "another"})
            with pytest.raises(qmp.ExecuteError, match="'another'"):
                await client.execute("closefd", {"fdname": "another"})
            os.set_blocking(reader, False)
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
            assert await client.execute("closefd", {"fdname": "pipe"}) == {}
            assert os.read(reader, 1) == b""
            os.close(reader)
            with pytest.raises(qmp.ExecuteError, match="'pipe'"):
                await client.execute("closefd", {"fdname": "pipe"})
            await client.execute("quit")
            await gone(client)

        await outside(talk)
        await consistent(process)


async def hand_over(client: Any, number: int, command: str, **arguments: Any) -> Any:
    """Give a command together with a descriptor, which is closed here."""
    client.send_fd_scm(number)
    answer = await client.execute(command, arguments)
    os.close(number)
    return answer


async def moves_over(
    place: Path, prepare: Callable[[Any, Any], Awaitable[tuple[str, str]]]
) -> None:
    """Move a guest over what both hosts are handed, and see that nothing of it stays open."""
    async with (
        hosted(place, "a") as (source, here),
        hosted(place, "b", "--incoming", "defer") as (destination, there),
    ):
        processes = (source.pid, destination.pid)

        async def talk() -> None:
            ours, theirs = await connected(here), await connected(there)
            before = [open_descriptors(pid) for pid in processes]
            target, uri = await prepare(ours, theirs)
            if uri.startswith("fd:"):
                await theirs.execute("migrate-incoming", {"uri": uri})
            await ours.execute("migrate", {"uri": target})
            await reached(ours, "completed")
            if not uri.startswith("fd:"):
                await theirs.execute("migrate-incoming", {"uri": uri})
            await reached(theirs, "completed")
            for client in (ours, theirs):
                for fdset in await client.execute("query-fdsets"):
                    await client.execute("remove-fd", {"fdset-id": fdset["fdset-id"]})
            for pid, number in zip(processes, before, strict=True):
                assert open_descriptors(pid) <= number
            assert (await theirs.execute("query-status"))["status"] == "running"
            assert (await ours.execute("query-status"))["status"] == "postmigrate"
            for client in (ours, theirs):
                await client.execute("quit")
                await gone(client)

        await outside(talk)
        await consistent(source)
        await consistent(destination)


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def reached(client: Any, status: str) -> None:
    while True:
        info = await client.execute("query-migrate")
        assert info.get("status") != "failed", info
        if info.get("status") == status:
            return
        await asyncio.sleep(POLL_S)


@pytest.mark.parametrize("kind", ["socket", "pipe"])
async def test_guest_moves_over_descriptors_that_both_were_handed_by_name(
    place: Path, kind: str
) -> None:
    async def prepare(ours: Any, theirs: Any) -> tuple[str, str]:
        if kind == "socket":
            writes, reads = (end.detach() for end in socket.socketpair())
        else:
            reads, writes = os.pipe()
        await hand_over(ours, writes, "getfd", fdname="out")
        await hand_over(theirs, reads, "getfd", fdname="in")
        return "fd:out", "fd:in"

    await moves_over(place, prepare)


@pytest.mark.parametrize("offset", ["", ",offset=0x1000"])
async def test_guest_moves_through_a_file_of_which_both_were_handed_a_set(
    place: Path, offset: str
) -> None:
    async def prepare(ours: Any, theirs: Any) -> tuple[str, str]:
        path = place / "stream"
        out = os.open(path, os.O_WRONLY | os.O_CREAT)
        await hand_over(ours, out, "add-fd", **{"fdset-id": 3, "opaque": "out"})
        back = os.open(path, os.O_RDONLY)
        await hand_over(theirs, back, "add-fd", **{"fdset-id": 4, "opaque": "back"})
        return f"file:/dev/fdset/3{offset}", f"file:/dev/fdset/4{offset}"

    await moves_over(place, prepare)


# --- qmp-shell ------------------------------------------------------------------------------------


async def shell(address: str, place: Path, *lines: str) -> list[Json]:
    """Type lines into qmp-shell; returns all that it prints and that is JSON."""
    where = place_of(address)
    result = await trio.run_process(
        [str(QMP_SHELL), where if isinstance(where, str) else f"{where[0]}:{where[1]}"],
        stdin="".join(f"{line}\n" for line in lines).encode(),
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
        env={**os.environ, "HOME": str(place), "PYTHONWARNINGS": "error"},
    )
    printed = result.stdout.decode()
    assert result.returncode == 0, printed
    assert "Traceback" not in printed, printed
    assert "Connected to QEMU 10.0.2" in printed
    return [json.loads(one) for one in re.findall(r"\{.*\}", printed)]


@pytest.mark.skipif(not QMP_SHELL.exists(), reason="qmp-shell is not installed beside Python")
async def test_qmp_shell_moves_a_guest(place: Path) -> None:
    at = "tcp:127.0.0.1:0"
    async with (
        hosted(place, "a", at=at) as (source, here),
        hosted(place, "b", "--incoming", "defer", at=at) as (destination, there),
    ):
        uri = f"unix:{place / 'in'}"
        replies = await shell(there, place, f"migrate-incoming uri={uri}", "query-migrate")
        assert replies[0] == {"return": {}}
        assert replies[1]["return"]["status"] == "setup"
        replies = await shell(
            here,
            place,
            "migrate-set-parameters max-bandwidth=67108864 downtime-limit=500",
            'migrate-set-capabilities capabilities=[{"capability":"return-path","state":true}]',
            "migrate_set_downtime value=1",
            "query-migrate-cache-size",
            "migrate uri=nowhere",
            "migrate-nonsense",
            f"migrate uri={uri} detach=true",
        )
        assert replies[:3] == [{"return": {}}] * 3
        assert replies[3] == {"return": 64 << 20}
        assert replies[4]["error"]["class"] == "GenericError"
        assert replies[5]["error"]["class"] == "CommandNotFound"
        assert replies[6] == {"return": {}}
        async with open_qmp(here) as client:
            assert (await status_reached(client, "completed"))["status"] == "completed"
        for where in (here, there):
            replies = await shell(where, place, "query-migrate", "quit")
            assert replies[0]["return"]["status"] == "completed"
            assert {"return": {}} in replies
        await consistent(source)
        await consistent(destination)


@pytest.mark.skipif(not QMP_SHELL.exists(), reason="qmp-shell is not installed beside Python")
async def test_qmp_shell_does_what_the_guide_shows(place: Path) -> None:
    text = (DOCS / "how-to" / "drive-a-migration.md").read_text(encoding="utf-8")
    part = re.search(r"^## From qmp-shell$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert part is not None
    sessions = re.findall(
        r"^```console\n\$ qmp-shell (\S+)\n(.*?)^```$", part[1], re.MULTILINE | re.DOTALL
    )
    assert [path for path, _ in sessions] == ["/tmp/b.qmp", "/tmp/a.qmp"]
    async with pair(place) as (source, destination):
        for path, session in sessions:
            session = session.replace("/tmp/", f"{place}/")
            typed = re.findall(r"^\(QEMU\) (.*)$", session, re.MULTILINE)
            shown = re.findall(r"^(?!\(QEMU\) |Welcome|Connected)(.+)$", session, re.MULTILINE)
            replies = await shell(f"unix:{place}/{Path(path).name}", place, *typed)
            assert len(replies) == len(typed) == len(shown)
            for reply, line in zip(replies, shown, strict=True):
                if "..." not in line:
                    assert reply == json.loads(line)
                else:
                    assert "status" in reply["return"]
        await status_reached(source, "completed")
        await status_reached(destination, "completed")


# --- the examples of the guide --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "scheme"), [("drive_with_qemu_qmp.py", ""), ("drive_with_transship.py", "unix:")]
)
async def test_example_of_the_guide_moves_a_guest(place: Path, example: str, scheme: str) -> None:
    async with pair(place) as (source, destination):
        result = await trio.run_process(
            [
                *(sys.executable, "-W", "error", str(DOCS / "examples" / example)),
                *(f"{scheme}{place / 'a.qmp'}", f"{scheme}{place / 'b.qmp'}"),
                f"unix:{place / 'in'}",
            ],
            capture_stdout=True,
        )
        said = result.stdout.decode().splitlines()
        assert said[:4] == ["setup", "active", "device", "completed"]
        assert await run_state(source) == "postmigrate"
        assert await run_state(destination) == "running"


# --- how processes end ----------------------------------------------------------------------------


async def test_quit_cancels_what_is_under_way_and_ends_the_process(place: Path) -> None:
    async with (
        hosted(place, "a", "--bandwidth", "1MiB/s") as (source, here),
        hosted(place, "b", "--incoming", "defer") as (destination, there),
        open_qmp(there) as other,
    ):
        uri = f"unix:{place / 'in'}"
        await other.execute("migrate-incoming", uri=uri, exit_on_error=False)
        async with open_qmp(here) as client:
            await client.execute("migrate", uri=uri)
            await status_reached(client, "active")
            await client.execute("quit")
        assert await consistent(source) == ["failed", "stopped"]
        assert (await status_reached(other, "failed"))["error-desc"]
        assert await run_state(other) == "inmigrate"
        assert destination.exit_code is None
        await other.execute("quit")
        (await destination.outcome()).expect(0)


async def test_quit_ends_a_process_that_waits_for_a_guest(place: Path) -> None:
    async with hosted(place, "b", "--incoming", "defer") as (process, there):
        async with open_qmp(there) as client:
            await client.execute("migrate-incoming", uri=f"unix:{place / 'in'}")
            await client.execute("quit")
        (await process.outcome()).expect(0)
    assert not (place / "in").exists()
    assert not (place / "b.qmp").exists()


@pytest.mark.seed("S37", "S70")
@pytest.mark.parametrize("exits", [True, False])
async def test_destination_that_fails_ends_unless_it_was_told_to_stay(
    place: Path, exits: bool
) -> None:
    async with (
        hosted(place, "a", "--bandwidth", "1MiB/s") as (_, here),
        hosted(place, "b", "--incoming", "defer") as (destination, there),
        open_qmp(here) as source,
    ):
        uri = f"unix:{place / 'in'}"
        async with open_qmp(there) as client, AsyncExitStack() as stack:
            events = stack.enter_context(client.subscribe())
            await client.execute("migrate-set-capabilities", **switched(events=True))
            await client.execute("migrate-incoming", uri=uri, exit_on_error=exits)
            await source.execute("migrate", uri=uri)
            await status_reached(client, "active")
            await source.execute("migrate_cancel")
            for status in ("setup", "active", "failed"):
                assert (await anext(events)).data == {"status": status}
            assert await status_reached(source, "cancelled") == {"status": "cancelled"}
            assert await run_state(source) == "running"
            if not exits:
                info = await status_reached(client, "failed")
                assert info["error-desc"]
                assert await run_state(client) == "inmigrate"
                await client.execute("quit")
                (await destination.outcome()).expect(0)
        if exits:
            outcome = await destination.outcome()
            assert outcome.exit_code != 0
            assert outcome.events[-1]["event"] == "failed"


async def test_failure_is_said_by_query_migrate_and_the_next_attempt_succeeds(place: Path) -> None:
    async with pair(place) as (source, destination):
        await source.execute("migrate", uri=f"unix:{place / 'nobody'}")
        info = await status_reached(source, "failed")
        assert "No such file or directory" in info["error-desc"]
        assert await run_state(source) == "running"
        with pytest.raises(QmpCommandError) as caught:
            await source.execute("migrate", uri="unix:")
        assert caught.value.error_class == "GenericError"
        assert await source.execute("query-migrate") == info
        await destination.execute("migrate-incoming", uri=f"unix:{place / 'in'}")
        await source.execute("migrate", uri=f"unix:{place / 'in'}")
        assert "error-desc" not in await status_reached(source, "completed")


async def test_migrate_incoming_is_tried_again_after_nobody_could_listen(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with pair(place) as (source, destination):
            with pytest.raises(QmpCommandError, match="in use"):
                await destination.execute("migrate-incoming", uri=f"tcp:127.0.0.1:{port}")
            with pytest.raises(QmpCommandError, match="No such file"):
                await destination.execute("migrate-incoming", uri=f"unix:{place}/no/in")
            assert await destination.execute("query-migrate") == {}
            await destination.execute("migrate-incoming", uri=f"unix:{place / 'in'}")
            with pytest.raises(QmpCommandError, match="has begun to wait"):
                await destination.execute("migrate-incoming", uri=f"unix:{place / 'other'}")
            await source.execute("migrate", uri=f"unix:{place / 'in'}")
            await status_reached(source, "completed")


async def test_guest_that_is_not_to_be_started_waits_for_cont(place: Path) -> None:
    uri = f"unix:{place / 'in'}"
    async with (
        hosted(place, "a") as (_, here),
        hosted(place, "b", "--incoming", uri, "--paused") as (destination, there),
        open_qmp(here) as source,
        open_qmp(there) as client,
    ):
        await destination.listening()
        await source.execute("migrate", uri=uri)
        await status_reached(source, "completed")
        await client.execute("cont")
        await status_reached(client, "completed")
        assert await run_state(client) == "running"


async def test_signal_ends_a_process_with_clients(place: Path) -> None:
    async with hosted(place, "a") as (process, here), open_qmp(here) as client:
        os.kill(process.pid, signal.SIGTERM)
        await consistent(process)
        with pytest.raises(QmpError):
            await client.execute("query-status")
    assert not (place / "a.qmp").exists()


# --- clients that mean no good --------------------------------------------------------------------


def malformed(rng: random.Random) -> bytes:
    """Something that no client should say, or not so."""
    command = rng.choice(["migrate", "migrate_cancel", "query-migrate", "quit", "stop", "nonsense"])
    good = json.dumps({"execute": command, "arguments": {}, "id": rng.randrange(99)}).encode()
    kinds: list[Callable[[], bytes]] = [
        lambda: rng.randbytes(rng.randrange(1, 300)),
        lambda: good[: rng.randrange(1, len(good))],
        lambda: b"{" * rng.randrange(1, 300),
        lambda: b"[" * 2000,
        lambda: b'{"execute": "' + b"x" * rng.randrange(1 << 16) + b'"}',
        lambda: b'{"execute": "query-status", "id": "' + b"y" * rng.randrange(1 << 14) + b'"}',
        lambda: b'{"execute": "migrate", "arguments": {"uri": 5, "channels": []}}',
        lambda: b'{"execute": "migrate", "arguments": {"uri": "unix:/nowhere"}}',
        lambda: b'{"execute": "migrate-incoming", "arguments": {"uri": "tcp:127.0.0.1:0"}}',
        lambda: b'{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": "x"}}',
        lambda: b'{"execute": "migrate-set-parameters", "arguments": {"downtime-limit": -5}}',
        lambda: b'{"execute": "migrate-set-capabilities", "arguments": {"capabilities": [{}]}}',
        lambda: b'{"execute": "migrate-continue", "arguments": {"state": "device"}}',
        lambda: b'{"execute": "query-migrate", "arguments": null}',
        lambda: b'{"exec-oob": "quit"}',
        lambda: b'{"execute": "quit", "arguments": {"now": true}}',
        lambda: b'{"execute": "stop", "extra": 1}',
        lambda: b'"execute"',
        lambda: b"\xff\x00\x01{}",
        lambda: b"\n" * 100,
        lambda: b'{"execute": "query-commands"}' * 20,
    ]
    return rng.choice(kinds)() + rng.choice([b"", b"\n", b"\r\n", b"\xff"])


async def attack(address: str, rng: random.Random) -> None:
    """One client that says a few malformed things and vanishes, in one way or another."""
    where = place_of(address)
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with trio.socket.socket(family) as connection, suppress(OSError):
        await connection.connect(where)
        if rng.random() < 0.8:
            await connection.send(b'{"execute": "qmp_capabilities"}')
        with trio.move_on_after(2):
            for _ in range(rng.randrange(10, 30)):
                if rng.random() < 0.02:
                    await _send(connection, b'{"a": "' + b"x" * (1 << 21))
                await _send(connection, malformed(rng))
                if rng.random() < 0.3:
                    await connection.recv(1 << 16)


async def _send(connection: trio.socket.SocketType, data: bytes) -> None:
    with memoryview(data) as view:
        sent = 0
        while sent < len(view):
            sent += await connection.send(view[sent:])


@pytest.mark.seed("S22")
async def test_migration_completes_whatever_other_clients_say_meanwhile(place: Path) -> None:
    rng = random.Random(SEED)
    uri = f"unix:{place / 'in'}"
    async with (
        hosted(place, "a") as (source, here),
        hosted(place, "b", "--incoming", "defer") as (destination, there),
        open_qmp(here) as operator,
        open_qmp(there) as other,
    ):
        await operator.execute("migrate-set-parameters", max_bandwidth=1 << 20)
        await other.execute("migrate-incoming", uri=uri)
        await operator.execute("migrate", uri=uri)
        await status_reached(operator, "active")
        async with trio.open_nursery() as nursery:
            for number in range(24):
                target = here if number % 2 else there
                nursery.start_soon(attack, target, random.Random(rng.random()))
        info = await operator.execute("query-migrate")
        assert isinstance(info, dict)
        assert info["status"] == "active", f"the attack took too long; seed {SEED}"
        await operator.execute("migrate-set-parameters", max_bandwidth=0, downtime_limit=1000)
        await status_reached(operator, "completed")
        await status_reached(other, "completed")
        assert await run_state(operator) == "postmigrate"
        assert await run_state(other) == "running"
        await operator.execute("quit")
        await other.execute("quit")
        assert await consistent(source) == ["left", "stopped"]
        assert await consistent(destination) == ["arrived", "stopped"]
        for process in (source, destination):
            assert "Traceback" not in process.stderr_text()


async def test_client_that_reads_nothing_does_not_stop_a_migration(place: Path) -> None:
    async with pair(place) as (source, destination), AsyncExitStack() as deaf:
        for client in (source, destination):
            for _ in range(3):
                connection = deaf.enter_context(trio.socket.socket(socket.AF_UNIX))
                await connection.connect(client.address.path)
                with trio.move_on_after(0.2):
                    await _send(connection, b'{"execute": "qmp_capabilities"}')
                    await _send(connection, b'{"execute": "query-qmp-schema"}' * 1000)
            await client.execute("migrate-set-capabilities", **switched(events=True))
        await destination.execute("migrate-incoming", uri=f"unix:{place / 'in'}")
        await source.execute("migrate", uri=f"unix:{place / 'in'}")
        await status_reached(source, "completed")
        await status_reached(destination, "completed")
        assert await run_state(destination) == "running"
