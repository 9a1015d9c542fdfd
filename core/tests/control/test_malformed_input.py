"""Whatever a client sends costs an error of the right class, or its connection with a reason.

The server goes on for everybody else.
"""

from __future__ import annotations

import json
import logging
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from hypothesis import given, strategies as st

from transship.control.registry import CommandTable
from transship.control.server import limits, protocol
from transship.control.server.dispatcher import Dispatcher
from transship.control.server.jsonstream import JsonReader
from transship.control.session import Session

from .control_helpers import NO_HOST, Client, Workshop, connected, negotiated, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio.testing import MockClock

MIB: Final = 1 << 20

SYNC: Final = b'\xff{"execute":"say","arguments":{"text":"here"},"id":"sync"}'
"""Gets a client back into step: what it says is answered, after an error."""

NO_PART: Final = {"class": "GenericError", "desc": "byte 0xff is no part of a message"}
"""The error, if the client had been in step already."""


async def replies_to(client: Client, data: bytes) -> list[Any]:
    """The replies to some bytes, without the error that getting back into step may cost."""
    await client.send(data + SYNC)
    replies = []
    with trio.fail_after(30):
        while (reply := await client.read()) != {"return": "here", "id": "sync"}:
            assert reply is not None, "the connection was closed"
            assert reply.keys() - {"id"} in ({"return"}, {"error"})
            replies.append(reply)
    if replies and replies[-1].get("error") == NO_PART:
        replies.pop()
    return replies


def classes(replies: Iterable[Any]) -> list[str | None]:
    """The classes of the errors among replies; None for what is no error."""
    return [reply.get("error", {}).get("class") for reply in replies]


async def check_alive(path: Path) -> None:
    async with negotiated(path) as client:
        assert await client.execute("say", text="alive") == {"return": "alive"}


@pytest.fixture
async def client(path: Path) -> AsyncIterator[Client]:
    """A client; when it is through, another one must still be served."""
    async with negotiated(path) as client:
        yield client
    await check_alive(path)


# Syntax: one well-formed command, with something done to each of its bytes

GOOD: Final = b"""{"execute":"say",'arguments':{"text":"a\\n"},"id":[7,null]}"""


@pytest.mark.parametrize("end", range(1, len(GOOD)))
async def test_command_that_breaks_off_is_an_error(client: Client, end: int) -> None:
    assert classes(await replies_to(client, GOOD[:end])) == ["GenericError"]


@pytest.mark.parametrize("end", range(len(GOOD)))
async def test_client_that_vanishes_within_a_command_is_gone(path: Path, end: int) -> None:
    async with negotiated(path) as client:
        await client.send(GOOD[:end])
    await check_alive(path)


@pytest.mark.parametrize("place", range(len(GOOD)))
@pytest.mark.parametrize("byte", [b"", b"\0", b"\n", b'"', b"'", b"{", b"]", b"\\", b"\x80", b","])
async def test_command_with_a_byte_changed_is_answered_or_refused(
    client: Client, place: int, byte: bytes
) -> None:
    replies = await replies_to(client, GOOD[:place] + byte + GOOD[place + 1 :])
    assert replies
    assert set(classes(replies)) <= {"GenericError", "CommandNotFound", None}
    assert classes(replies).count(None) <= 1


@pytest.mark.parametrize("place", range(len(GOOD)))
async def test_command_with_a_byte_of_no_text_is_refused(client: Client, place: int) -> None:
    replies = await replies_to(client, GOOD[:place] + b"\xfe" + GOOD[place:])
    assert "GenericError" in classes(replies)
    assert all(name in ("GenericError", None) for name in classes(replies))


# Types and ranges: every argument with every wrong value

WRONG: Final = {
    "max-bandwidth": ["1.0", '"1"', "true", "null", "[]", "{}", "1e3", "18446744073709551616"],
    "downtime-limit": ["0.5", '""', "false", "null", "-9223372036854775809", "9" * 300],
    "multifd-channels": ["256", "-1", "1.5", "true", '"2"', "null", "[2]", "-9223372036854775808"],
    "x-checkpoint-delay": ["4294967296", "-1", "0.0", "{}", '"0x10"'],
    "count": ["9223372036854775808", "-9223372036854775809", "1.0", "1e18", "null", "true"],
    "ratio": ['"0.5"', "true", "null", "[0.5]", "{}"],
    "direct-io": ["0", "1", '"on"', "null", "[]", "0.0"],
    "tls-creds": ["0", "true", "[]", "{}", "1.5"],
    "compression": ['"lz4"', '"None"', "0", "null", '["none"]', "{}", '""', '"\\u0000"'],
    "max_bandwidth": ["1"],
    "MAX-BANDWIDTH": ["1"],
    "": ["1"],
    "\\u0000": ["1"],
    "__proto__": ["{}"],
}


@pytest.mark.parametrize(
    ("member", "value"),
    [(member, value) for member, values in WRONG.items() for value in values],
    ids=lambda text: text[:20],
)
async def test_wrong_argument_is_refused_and_nothing_is_done(
    client: Client, workshop: Workshop, member: str, value: str
) -> None:
    text = '{"execute":"set","arguments":{"ratio":1,"%s":%s},"id":{"a":1}}'
    if member == "ratio":
        text = text.replace('"ratio":1,', "")
    (reply,) = await replies_to(client, (text % (member, value)).encode() + b"\n")
    assert classes([reply]) == ["GenericError"]
    assert reply["id"] == {"a": 1}
    assert workshop.log == ["here"]


# Shapes


@pytest.mark.parametrize(
    "message",
    [
        "[]",
        '"execute"',
        "'execute'",
        "42",
        "-1.5e3",
        "null",
        "true",
        "nonsense",
        '[{"execute":"say"}]',
        "{}",
        '{"id":1}',
        '{"execute":null}',
        '{"execute":7}',
        '{"execute":{}}',
        '{"execute":["say"]}',
        '{"execute":"say"}',
        '{"execute":"say","arguments":null}',
        '{"execute":"say","arguments":[]}',
        '{"execute":"say","arguments":"text"}',
        '{"execute":"say","arguments":{"text":"a"},"other":1}',
        '{"execute":"say","arguments":{"text":"a"},"exec-oob":"say"}',
        '{"exec-oob":"say-now","arguments":{"text":"a"}}',
        '{"execute":"say","execute":"say","arguments":{"text":"a"}}',
        '{"execute":"say","arguments":{"text":"a","text":"b"}}',
        '{"execute":"say","arguments":{"text":"\\ud800"}}',
        '{"execute":"say","arguments":{"text":NaN}}',
        '{"execute":"query-version","arguments":{"a":1}}',
        '{"QMP":{}}',
        '{"return":{}}',
        '{"event":"STOP"}',
    ],
)
async def test_message_of_wrong_shape_is_refused(
    client: Client, workshop: Workshop, message: str
) -> None:
    replies = await replies_to(client, message.encode() + b"\n")
    assert classes(replies) == ["GenericError"]
    assert workshop.log == ["here"]


@pytest.mark.parametrize(
    "name", ["no-such", "", " ", "SAY", "say ", "qmp-capabilities", "qmp_capabilities", "\\u0000"]
)
async def test_command_that_there_is_not_is_not_found(client: Client, name: str) -> None:
    replies = await replies_to(client, f'{{"execute":"{name}"}}\n'.encode())
    assert classes(replies) == ["CommandNotFound"]


@pytest.mark.parametrize("message", [b'{"execute":"say"}', b'{"execute":"no-such"}'])
async def test_before_negotiation_nothing_is_found(path: Path, message: bytes) -> None:
    async with connected(path) as client:
        await client.read()
        await client.send(message)
        assert classes([await client.read()]) == ["CommandNotFound"]
    await check_alive(path)


# Depth and size


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b"{'a':["])
@pytest.mark.parametrize("depth", [limits.MESSAGE_DEPTH + 1, 1000, 1024, 5000, 100_000])
async def test_deep_nesting_is_the_end_with_a_reason(
    path: Path, opening: bytes, depth: int, caplog: pytest.LogCaptureFixture
) -> None:
    await check_cut_off(path, opening * depth, "levels", caplog)


@pytest.mark.parametrize("closing", [b"]", b"}", b"]}"])
async def test_brackets_that_close_nothing_are_one_error(client: Client, closing: bytes) -> None:
    assert classes(await replies_to(client, closing * 50_000)) == ["GenericError"]


@pytest.mark.parametrize("depth", [1, 7, 64, limits.MESSAGE_DEPTH - 1])
async def test_deep_id_comes_back(client: Client, depth: int) -> None:
    identity = "[" * depth + "]" * depth
    (reply,) = await replies_to(client, b'{"execute":"refuse","id":%s}' % identity.encode())
    assert reply["id"] == json.loads(identity)


async def test_large_id_comes_back(client: Client) -> None:
    identity = "é" * 400_000
    (reply,) = await replies_to(
        client, json.dumps({"execute": "refuse", "id": identity}, ensure_ascii=False).encode()
    )
    assert reply["id"] == identity


@pytest.mark.parametrize("item", [b"1", b'""', b"{}", b"null", b"-1.5", b"[]"])
async def test_too_many_values_are_the_end_with_a_reason(
    path: Path, item: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    data = b'{"execute":"say","id":[' + (item + b",") * limits.MESSAGE_TOKENS + b"1]}"
    await check_cut_off(path, data, "", caplog)


async def check_cut_off(
    path: Path, data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The data costs its sender the connection, which learns why, and so does the log."""
    async with negotiated(path) as client:
        await client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        with trio.fail_after(10):
            reply = await client.read()
            assert classes([reply]) == ["GenericError"]
            assert reason in reply["error"]["desc"]
            assert await client.is_closed()
    (record,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert "closing the connection" in record.getMessage()
    assert reply["error"]["desc"] in record.getMessage()
    await check_alive(path)


# 64 MiB without an end, in bounded memory


class PeakMemory:
    """How much the memory of this process has grown at most."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pytest.skip("the peak of this process's memory cannot be reset here")
        self._before = self._read("VmRSS")

    def growth_bytes(self) -> int:
        return self._read("VmHWM") - self._before

    @staticmethod
    def _read(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(name)]
        return int(line.split()[1]) * 1024


HUGE: Final = {
    "string": (b'{"execute":"', b"x"),
    "single-quoted string": (b"{'execute':'", b'"'),
    "escapes": (b'["', b"\\\\"),
    "escaped quotes": (b"['", b"\\'"),
    "surrogates": (b'["', b"\\ud800"),
    "text of two bytes": (b'["', "é".encode()),
    "bytes of no text": (b'["', b"\x80"),
    "digits": (b'{"id":', b"9"),
    "exponent": (b'{"id":1e', b"9"),
    "word": (b'{"id":', b"n"),
    "blanks in a message": (b"{", b" \r\n\t"),
    "commas": (b"[", b","),
    "colons": (b"{", b":"),
    "arrays": (b"", b"["),
    "objects": (b"", b'{"a":'),
    "empty arrays": (b"[", b"[],"),
    "empty strings": (b"[", b'"",'),
    "numbers": (b"[", b"1,"),
    "members": (b"{", b'"a":1,'),
}
ENDLESS: Final = {
    "blanks": b" ",
    "newlines": b"\r\n",
    "brackets": b"]",
    "words": b"x",
    "nothing": b"\0",
    "0xff": b"\xff",
}


async def send_much(client: Client, start: bytes, piece: bytes) -> None:
    block = piece * (65536 // len(piece))
    await client.send(start)
    for _ in range(64 * MIB // len(block)):
        await client.send(block)


@pytest.mark.parametrize("kind", HUGE)
async def test_message_of_64_mib_is_the_end_with_a_reason_in_little_memory(
    path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    start, piece = HUGE[kind]
    async with negotiated(path) as client:
        memory = PeakMemory()
        with trio.fail_after(60):
            await send_much(client, start, piece)
            client.socket.shutdown(socket.SHUT_WR)
            reply = await client.read()
            assert classes([reply]) == ["GenericError"]
            assert await client.is_closed()
        assert memory.growth_bytes() < 8 * MIB
    assert "a message has more than" in reply["error"]["desc"]
    assert reply["error"]["desc"] in caplog.text
    await check_alive(path)


@pytest.mark.parametrize("kind", ENDLESS)
async def test_64_mib_of_nothing_cost_one_error_and_little_memory(path: Path, kind: str) -> None:
    async with negotiated(path) as client:
        memory = PeakMemory()
        with trio.fail_after(60):
            await send_much(client, b"", ENDLESS[kind])
            replies = await replies_to(client, b" ")
        assert memory.growth_bytes() < 8 * MIB
    assert classes(replies) == [] if kind in ("blanks", "newlines") else ["GenericError"]
    await check_alive(path)


async def test_message_of_64_mib_over_tcp_is_the_end_with_a_reason() -> None:
    async with serving("tcp:127.0.0.1:0", Workshop()) as server:
        port = int(server.address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            client = Client(stream.socket)
            await client.negotiate()
            await send_much(client, b'["', b"x")
            client.socket.shutdown(socket.SHUT_WR)
            assert classes([await client.read()]) == ["GenericError"]
            assert await client.is_closed()


async def test_client_that_goes_on_for_ever_is_left_alone_after_a_while(
    path: Path, autojump_clock: MockClock
) -> None:
    async with negotiated(path) as client:
        await client.send(b"[" * 1000)
        assert classes([await client.read()]) == ["GenericError"]
        begin = trio.current_time()
        with suppress(OSError):
            while True:
                await client.send(b"[")
                await trio.sleep(0.5)
        assert trio.current_time() - begin <= limits.LINGER_S + 1
    await check_alive(path)


@pytest.mark.parametrize("kind", HUGE)
async def test_client_that_vanishes_within_a_huge_message_is_gone(path: Path, kind: str) -> None:
    start, piece = HUGE[kind]
    async with negotiated(path) as client:
        with trio.move_on_after(0.02):
            await send_much(client, start, piece)
    await check_alive(path)


async def test_flood_of_empty_messages_is_answered_as_fast_as_it_is_read(path: Path) -> None:
    count = 20_000
    async with negotiated(path) as client, trio.open_nursery() as nursery:
        memory = PeakMemory()
        nursery.start_soon(client.send, b"{}" * count)
        for _ in range(count):
            assert classes([await client.read()]) == ["GenericError"]
        assert memory.growth_bytes() < 8 * MIB
    await check_alive(path)


# Time


async def test_client_that_takes_an_hour_for_a_command_is_answered(
    path: Path, autojump_clock: MockClock
) -> None:
    async with negotiated(path) as client:
        for byte in GOOD:
            await client.send(bytes([byte]))
            await trio.sleep(60)
        assert await client.read() == {"return": "a\n", "id": [7, None]}


# Random


@given(
    st.lists(st.binary(max_size=80) | st.sampled_from([GOOD, b"\xff", b'{"execute":']), max_size=5)
)
def test_random_bytes_never_break_anything(pieces: list[bytes]) -> None:
    session = Session("a test", is_negotiated=True)
    table = CommandTable.joined(protocol.TABLE, Workshop().table)
    dispatcher = Dispatcher(NO_HOST, session, table)
    reader = JsonReader()

    async def answer() -> None:
        last = None
        for piece in [*pieces, SYNC]:
            reader.feed(piece)
            while (found := reader.next()) is not None:
                last = json.loads(await dispatcher.answer(found, 1))
        assert last == {"return": "here", "id": "sync"}

    trio.run(answer)
