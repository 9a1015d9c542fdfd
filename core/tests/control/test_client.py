"""The QMP client, against a server on a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from qmp_dialogue import GREETING, Dialogue, Hangup, Refusal, Silence, encode, speaking

from transship.control.address import QmpAddress
from transship.control.client import (
    QmpClient,
    QmpClosedError,
    QmpCommandError,
    QmpConnectError,
    QmpError,
    QmpProtocolError,
    QmpTimeoutError,
    open_qmp,
)

if TYPE_CHECKING:
    from pathlib import Path

STOP = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}


def migration_event(status: str) -> dict[str, Any]:
    return {
        "event": "MIGRATION",
        "data": {"status": status},
        "timestamp": {"seconds": 1, "microseconds": 2},
    }


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "qmp"


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/vm.qmp", QmpAddress(path="/run/vm.qmp")),
        ("unix:a:b", QmpAddress(path="a:b")),
        ("/run/vm.qmp", QmpAddress(path="/run/vm.qmp")),
        ("./odd:name", QmpAddress(path="./odd:name")),
        ("vm.qmp", QmpAddress(path="vm.qmp")),
        ("tcp:host:4444", QmpAddress(host="host", port=4444)),
        ("tcp::4444", QmpAddress(host="localhost", port=4444)),
        ("tcp:[::1]:4444", QmpAddress(host="::1", port=4444)),
    ],
)
def test_address_is_read_and_written_so_that_it_can_be_read_again(
    text: str, address: QmpAddress
) -> None:
    assert QmpAddress.parse(text) == address
    assert QmpAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "unix:", "tcp:host", "tcp:host:", "tcp:::1:1", "tcp:h:70000", "host:4444", "fd:3"]
)
def test_address_that_is_none_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="unix:PATH or tcp:HOST:PORT"):
        QmpAddress.parse(text)


# --- the beginning --------------------------------------------------------------------------------


async def test_client_greets_and_knows_the_version(socket: Path) -> None:
    dialogue = Dialogue()
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:
        assert client.version == "10.0.2"
        assert await client.execute("query-status") == {}
    assert [command for command, _ in dialogue.heard] == ["qmp_capabilities", "query-status"]


async def test_command_overtakes_one_that_hangs_where_the_server_can(socket: Path) -> None:
    dialogue = Dialogue({"blockdev-del": [Silence()], "yank": [{}]})
    async with speaking(dialogue, socket) as address, trio.open_nursery() as nursery:
        async with open_qmp(address, overtakes=True) as client:
            assert client.can_overtake
            for _ in range(8):
                nursery.start_soon(client.execute, "blockdev-del")
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                assert await client.overtake("yank", instances=[]) == {}
            nursery.cancel_scope.cancel()
    assert dialogue.heard[0] == ("qmp_capabilities", {"enable": ["oob"]})


async def test_command_waits_its_turn_where_the_server_knows_no_other_way(socket: Path) -> None:
    dialogue = Dialogue(greeting={"QMP": {**GREETING["QMP"], "capabilities": []}})
    async with speaking(dialogue, socket) as address:
        async with open_qmp(address, overtakes=True) as client:
            assert not client.can_overtake
            assert await client.overtake("yank", instances=[]) == {}
    assert dialogue.heard == [("qmp_capabilities", {}), ("yank", {"instances": []})]


async def test_client_says_that_nobody_listens(socket: Path) -> None:
    with pytest.raises(QmpConnectError, match=f"unix:{socket}: No such file"):
        async with open_qmp(str(socket)):
            pass
    with pytest.raises(QmpConnectError, match=r"tcp:127\.0\.0\.1:1: Connection refused"):
        async with open_qmp("tcp:127.0.0.1:1"):
            pass


@pytest.mark.parametrize(
    "greeting",
    [
        b"QEMU 10.0.2 monitor - type 'help' for more information\r\n(qemu) ",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"[1, 2]\r\n",
        b"\xff\xfe\r\n",
        b'{"hello": 1}\r\n',
        b'{"QMP": 1}\r\n',
        b"[" * 100_000 + b"\n",
    ],
)
async def test_client_says_that_it_is_no_qmp_server(socket: Path, greeting: bytes) -> None:
    async with speaking(Dialogue(greeting=greeting), socket) as address:
        with pytest.raises(QmpProtocolError, match=str(socket)):
            async with open_qmp(address):
                pass


async def test_client_bounds_the_size_of_a_message(
    socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship.control.client.messages._LONGEST_BYTES", 1 << 16)
    for endless in (b"x" * (1 << 17), b"{\n" + b" \n" * (1 << 17)):
        async with speaking(Dialogue(greeting=endless), socket) as address:
            with pytest.raises(QmpProtocolError, match="no end"):
                async with open_qmp(address):
                    pass
        socket.unlink()


async def test_client_says_what_it_means_when_a_server_is_silent(
    socket: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with speaking(Dialogue(greeting=b""), socket) as address:
        with pytest.raises(QmpTimeoutError, match="one client at a time"):
            async with open_qmp(address, timeout_s=3):
                pass


async def test_client_reads_what_a_pretty_monitor_writes(socket: Path) -> None:
    pretty = json.dumps(GREETING, indent=4).replace("\n", "\r\n").encode() + b"\r\n"
    async with speaking(Dialogue(greeting=pretty), socket) as address, open_qmp(address) as client:
        assert client.version == "10.0.2"


async def test_client_reads_a_greeting_byte_by_byte() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    client = QmpClient(QmpAddress(path="x"), ours, 1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.greet)
        for byte in encode(GREETING):
            await theirs.send_all(bytes([byte]))
    assert client.version == "10.0.2"


# --- commands -------------------------------------------------------------------------------------


async def test_arguments_get_hyphens_and_the_answer_is_the_return(socket: Path) -> None:
    dialogue = Dialogue({"query-migrate": [{"status": "active"}]})
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:
        await client.execute("migrate-set-parameters", max_bandwidth=1, **{"downtime-limit": 2})
        assert await client.execute("query-migrate") == {"status": "active"}
    assert dialogue.arguments_of("migrate-set-parameters") == {
        "max-bandwidth": 1,
        "downtime-limit": 2,
    }


async def test_refusal_has_its_class_and_its_sentence(socket: Path) -> None:
    dialogue = Dialogue({"nonsense": [Refusal("no such thing", "CommandNotFound")]})
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:
        with pytest.raises(QmpCommandError) as refused:
            await client.execute("nonsense")
        assert await client.execute("query-status") == {}
    assert refused.value.error_class == "CommandNotFound"
    assert refused.value.description == "no such thing"
    assert str(refused.value) == "nonsense: no such thing"


async def test_many_commands_at_once_get_their_own_answers(socket: Path) -> None:
    dialogue = Dialogue({f"query-{n}": [n] for n in range(50)})
    answers = {}
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:

        async def ask(number: int) -> None:
            answers[number] = await client.execute(f"query-{number}")

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)
    assert answers == {number: number for number in range(50)}


async def test_connection_that_is_lost_ends_all_commands_and_all_later_ones(socket: Path) -> None:
    # The eighth is the last one that is sent while seven wait; the others wait for their turn.
    dialogue = Dialogue({"ask": [*[Silence()] * 7, Hangup()]})
    failures = []
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:

        async def ask() -> None:
            with pytest.raises(QmpClosedError) as lost:
                await client.execute("ask")
            failures.append(lost.value)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        await ask()
    assert len(failures) == 21


async def test_command_without_an_answer_ends_in_time_and_its_late_answer_is_ignored(
    socket: Path,
) -> None:
    dialogue = Dialogue({"slow": [Silence(), 2]})
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:
        client.answer_timeout_s = 0.05
        with pytest.raises(QmpTimeoutError, match=r"did not answer slow within 0\.05 s"):
            await client.execute("slow")
        client.answer_timeout_s = 5.0
        assert await client.execute("slow") == 2


async def test_cancelled_command_leaves_the_connection_good(socket: Path) -> None:
    dialogue = Dialogue({"slow": [Silence()], "quick": [1]})
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:
        for deadline_s in (0, 0.001, 0.02):
            with trio.move_on_after(deadline_s) as scope:
                await client.execute("slow")
            assert scope.cancelled_caught
            assert await client.execute("quick") == 1


async def test_error_inside_arrives_as_it_is(socket: Path) -> None:
    async with speaking(Dialogue(), socket) as address:
        with pytest.raises(ZeroDivisionError):
            async with open_qmp(address):
                raise ZeroDivisionError


async def test_cancellation_inside_goes_on_outside(socket: Path) -> None:
    async with speaking(Dialogue(), socket) as address:
        with trio.CancelScope() as scope:
            async with open_qmp(address):
                scope.cancel()
                await trio.sleep_forever()
            pytest.fail("went on")
        assert scope.cancelled_caught


# --- events ---------------------------------------------------------------------------------------


async def test_events_come_in_order_between_answers(socket: Path) -> None:
    dialogue = Dialogue(
        events={"a": [migration_event("setup"), STOP], "b": [migration_event("active")]}
    )
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:
        await client.execute("a")
        with client.subscribe() as events:
            await client.execute("b")
            event = await anext(events)
    assert (event.name, event.data) == ("MIGRATION", {"status": "active"})


async def test_subscriber_that_waits_learns_that_the_connection_is_lost(socket: Path) -> None:
    dialogue = Dialogue({"b": [Hangup()]}, events={"b": [STOP]})
    async with speaking(dialogue, socket) as address, open_qmp(address) as client:
        with client.subscribe() as events:
            with pytest.raises(QmpError):
                await client.execute("b")
            assert (await anext(events)).name == "STOP"
            with pytest.raises(QmpClosedError):
                await anext(events)


async def test_subscriber_that_does_not_listen_keeps_the_youngest(socket: Path) -> None:
    many = [migration_event(str(number)) for number in range(3000)]
    async with speaking(Dialogue(events={"a": many}), socket) as address, open_qmp(address) as qmp:
        with qmp.subscribe() as events:
            await qmp.execute("a")
            kept = []
            with trio.fail_after(10):
                while "2999" not in kept:
                    kept.append((await anext(events)).data["status"])
    assert len(kept) < 3000
