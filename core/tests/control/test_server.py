"""Many clients at once: order, events, and whatever a client may do to the others."""

from __future__ import annotations

import json
import logging
import resource
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from transship.control.server import limits

from .control_helpers import Client, Tick, Workshop, connected, negotiated, serving

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from transship.control.registry import Context
    from transship.control.server.serving import Server


def command(name: str, **arguments: object) -> bytes:
    return json.dumps({"execute": name, "arguments": arguments}).encode()


def urgent(name: str, **arguments: object) -> bytes:
    return json.dumps({"exec-oob": name, "arguments": arguments}).encode()


async def eventually(condition: Any) -> None:
    """Wait until something is true; a test that waits in vain fails by time."""
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - it is not ours to notify
            await trio.sleep(0.001)


# Talking


async def test_greeting_is_a_line_of_ascii_that_says_what_this_is(path: Path) -> None:
    async with connected(path) as client:
        line = await client.line()
    assert line.isascii()
    assert line.endswith(b"}\r\n")
    greeting = json.loads(line)["QMP"]
    assert greeting["capabilities"] == ["oob"]
    assert greeting["version"]["qemu"]["major"] == 10
    assert greeting["version"]["package"].startswith("transship")


async def test_commands_in_one_piece_are_answered_in_order(path: Path) -> None:
    async with connected(path) as client:
        await client.read()
        await client.send(command("qmp_capabilities"))
        await client.send(b"".join(command("say", text=str(index)) for index in range(100)))
        assert await client.read() == {"return": {}}
        for index in range(100):
            assert await client.read() == {"return": str(index)}


async def test_command_in_many_pieces_is_answered(path: Path) -> None:
    async with negotiated(path) as client:
        for byte in command("say", text="é") + b"\n":
            await client.send(bytes([byte]))
        assert await client.read() == {"return": "é"}


async def test_commands_wait_for_those_before_them(path: Path, workshop: Workshop) -> None:
    async with negotiated(path) as client:
        await client.send(command("wait", text="a") + command("say", text="b"))
        await eventually(lambda: workshop.log)
        await wait_all_tasks_blocked()
        assert workshop.log == ["begin a"]
        workshop.gate.set()
        assert await client.read() == {"return": {}}
        assert await client.read() == {"return": "b"}
        assert workshop.log == ["begin a", "end a", "b"]


async def test_commands_of_others_do_not_wait(path: Path, workshop: Workshop) -> None:
    async with negotiated(path) as slow, negotiated(path) as other:
        await slow.send(command("wait", text="a"))
        await eventually(lambda: workshop.log)
        assert await other.execute("say", text="b") == {"return": "b"}


async def test_replies_are_sent_to_a_client_that_only_stopped_talking(path: Path) -> None:
    async with negotiated(path) as client:
        await client.send(command("say", text="a") + command("say", text="b"))
        client.socket.shutdown(socket.SHUT_WR)
        assert await client.read() == {"return": "a"}
        assert await client.read() == {"return": "b"}
        assert await client.is_closed()


async def test_eight_commands_are_read_ahead_and_no_more(path: Path, workshop: Workshop) -> None:
    async with negotiated(path, "oob") as client:
        await client.send(command("wait", text="a"))
        await client.send(b"".join(command("say", text=str(index)) for index in range(7)))
        await client.send(urgent("say-now", text="now"))
        await eventually(lambda: workshop.log)
        await trio.sleep(0.05)
        assert workshop.log == ["begin a"]  # the urgent one is not even read
        workshop.gate.set()
        await eventually(lambda: "now" in workshop.log)


# Out of band


async def test_urgent_command_overtakes(path: Path, workshop: Workshop) -> None:
    async with negotiated(path, "oob") as client:
        await client.send(command("wait", text="a") + command("say", text="b"))
        await eventually(lambda: workshop.log)
        assert await client.execute("say-now", "exec-oob", text="now") == {"return": {}}
        assert workshop.log == ["begin a", "now"]
        workshop.gate.set()
        assert await client.read() == {"return": {}}
        assert await client.read() == {"return": "b"}


async def test_urgent_command_is_carried_out_to_its_end_without_its_client(
    path: Path, workshop: Workshop
) -> None:
    async with negotiated(path, "oob") as client:
        await client.send(urgent("wait-now", text="a"))
        await eventually(lambda: workshop.log)
    workshop.gate.set()
    await eventually(lambda: workshop.log == ["begin a", "end a"])


# Events


async def test_events_reach_all_who_negotiated(path: Path, workshop: Workshop) -> None:
    async with (
        negotiated(path) as first,
        negotiated(path) as second,
        connected(path) as silent,
    ):
        await silent.read()
        assert workshop.server is not None
        workshop.server.broadcast(workshop.tick, Tick(1))
        workshop.server.broadcast(workshop.idle, None)
        for client in (first, second):
            event = await client.read()
            assert event["event"] == "TICK"
            assert event["data"] == {"number": 1}
            assert event["timestamp"]["seconds"] > 1_700_000_000
            assert 0 <= event["timestamp"]["microseconds"] < 1_000_000
            assert (await client.read())["event"] == "IDLE"
        assert await silent.execute("qmp_capabilities") == {"return": {}}


async def test_event_caused_by_a_command_comes_before_its_reply(path: Path) -> None:
    async with negotiated(path) as client:
        await client.send(command("tick", number=3))
        assert (await client.read())["data"] == {"number": 3}
        assert await client.read() == {"return": {}}


async def test_events_never_tear_a_reply(path: Path, workshop: Workshop) -> None:
    """Replies larger than the socket's buffer, and an event at every chance."""
    text = "x" * 900_000
    async with negotiated(path) as client, trio.open_nursery() as nursery:
        assert workshop.server is not None

        async def tick() -> None:
            while True:
                assert workshop.server is not None
                workshop.server.broadcast(workshop.tick, Tick(1))
                await trio.sleep(0.0005)

        nursery.start_soon(tick)
        for _ in range(5):
            await client.send(command("say", text=text))
            messages = [await client.read()]
            while "event" in messages[-1]:
                messages.append(await client.read())
            assert messages[-1] == {"return": text}
        nursery.cancel_scope.cancel()


# Clients that are slow


async def test_client_that_reads_no_events_is_cut_off_alone(
    path: Path, workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    async with negotiated(path) as deaf, negotiated(path) as other:
        assert workshop.server is not None
        sent = 0
        while not caplog.records:
            workshop.server.broadcast(workshop.tick, Tick(sent))
            assert (await other.read())["data"] == {"number": sent}
            sent += 1
        assert "unread" in caplog.text
        assert limits.OUTPUT_BYTES / 200 < sent < 50_000
        assert await other.execute("say", text="a") == {"return": "a"}
        # What is already in the socket may still be read, and then there is an end.
        while not await deaf.is_closed():
            pass


async def test_client_that_reads_no_replies_is_not_worked_for(
    path: Path, workshop: Workshop
) -> None:
    text = "x" * 100_000
    async with negotiated(path) as deaf, negotiated(path) as other:
        with trio.move_on_after(0.5):
            while True:
                await deaf.send(command("say", text=text))
        assert len(workshop.log) < 20
        assert await other.execute("say", text="a") == {"return": "a"}
        # Once it reads, all that it said is answered.
        for _ in range(len(workshop.log) - 1):
            assert await deaf.read() == {"return": text}


async def test_client_that_takes_nothing_for_a_minute_is_cut_off(
    path: Path,
    workshop: Workshop,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with negotiated(path) as deaf:
        await deaf.send(b"".join(command("say", text="x" * 900_000) for _ in range(3)))
        begin = trio.current_time()
        await eventually_by_clock(lambda: "has read nothing" in caplog.text)
        assert trio.current_time() - begin == pytest.approx(limits.UNREAD_S, abs=2)
        async with negotiated(path) as other:
            assert await other.execute("say", text="a") == {"return": "a"}


async def eventually_by_clock(condition: Any) -> None:
    with trio.fail_after(1000):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(1)


# Clients that vanish


async def test_command_is_carried_out_to_its_end_without_its_client(
    path: Path, workshop: Workshop
) -> None:
    async with negotiated(path) as client:
        await client.send(command("wait", text="a"))
        await eventually(lambda: workshop.log)
    async with negotiated(path) as other:
        assert await other.execute("say", text="b") == {"return": "b"}
    workshop.gate.set()
    await eventually(lambda: workshop.log == ["begin a", "b", "end a"])


async def test_commands_of_a_client_that_broke_off_are_not_begun(
    path: Path, workshop: Workshop
) -> None:
    async with negotiated(path) as client:
        await client.send(command("wait", text="a") + command("say", text="b"))
        await eventually(lambda: workshop.log)
        assert workshop.server is not None
        workshop.server.broadcast(workshop.tick, Tick(1))  # so that it breaks off with data unread
        await trio.sleep(0.01)
    await trio.sleep(0.05)
    workshop.gate.set()
    await eventually(lambda: "end a" in workshop.log)
    await trio.sleep(0.05)
    assert "b" not in workshop.log


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"execute":"qmp_capabilities"}',
        b'{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}' * 10,
        b"nonsense" * 10,
    ],
)
async def test_client_that_vanishes_at_any_time_is_nobody_elses_matter(
    path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        async with connected(path) as client:
            await client.send(data)
    async with negotiated(path) as other:
        assert await other.execute("say", text="a") == {"return": "a"}
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_clients_beyond_the_limit_are_turned_away(
    path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:

        async def stay(task_status: trio.TaskStatus[None]) -> None:
            async with negotiated(path):
                task_status.started()
                await trio.sleep_forever()

        for _ in range(limits.CLIENTS):
            await nursery.start(stay)
        async with connected(path) as one_more:
            assert await one_more.is_closed()
        assert "turned a client" in caplog.text
        nursery.cancel_scope.cancel()
    await eventually(lambda: not server._connections)
    async with negotiated(path) as client:
        assert await client.execute("say", text="a") == {"return": "a"}


async def test_server_that_has_no_file_descriptors_left_accepts_when_it_has(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with trio.socket.socket(socket.AF_UNIX) as connection:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            await connection.connect(str(path))
            await eventually(lambda: "cannot accept" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        client = Client(connection)
        await client.negotiate()
        assert await client.execute("say", text="a") == {"return": "a"}


# The end


async def test_reply_that_is_ready_is_sent_although_the_server_ends(tmp_path: Path) -> None:
    workshop = Workshop()
    quitting = trio.Event()

    @workshop.table.command("quit")
    async def quit_(context: Context) -> None:
        await trio.lowlevel.checkpoint()
        quitting.set()

    async with trio.open_nursery() as nursery:
        async with serving(f"unix:{tmp_path}/other", workshop):
            client = await nursery.start(_quit, tmp_path / "other")
            await quitting.wait()
        assert await client.read() == {"return": {}}
        assert await client.is_closed()
        client.socket.close()


async def _quit(path: Path, task_status: trio.TaskStatus[Client]) -> None:
    connection = trio.socket.socket(socket.AF_UNIX)
    await connection.connect(str(path))
    client = Client(connection)
    await client.negotiate()
    task_status.started(client)
    await client.send(command("quit"))


async def test_server_ends_within_a_second_although_a_client_does_not_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "other"
    async with serving(f"unix:{path}", Workshop()):
        connection = trio.socket.socket(socket.AF_UNIX)
        await connection.connect(str(path))
        client = Client(connection)
        await client.negotiate()
        await client.send(command("say", text="x" * 900_000))
        await wait_all_tasks_blocked()
        begin = trio.current_time()
    assert trio.current_time() - begin <= limits.FLUSH_S
    assert not path.exists()
    connection.close()


async def test_command_under_way_is_cancelled_when_the_server_ends(tmp_path: Path) -> None:
    workshop = Workshop()
    path = tmp_path / "other"
    async with trio.open_nursery() as nursery:
        async with serving(f"unix:{path}", workshop):
            client = await nursery.start(_quit, path)
            await client.read()  # there is no such command here
            await client.send(command("wait", text="a"))
            await eventually(lambda: workshop.log)
        assert await client.is_closed()
        assert workshop.log == ["begin a"]
        client.socket.close()
