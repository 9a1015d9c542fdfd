"""File descriptors over a unix socket: named by getfd, and closed once whatever happens."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship.control.descriptors import UNCLAIMED_DESCRIPTORS

from .control_helpers import Client, Workshop, connected, negotiated, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def getfd(name: str) -> bytes:
    return json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def is_same(descriptor: int, other: int) -> bool:
    return os.path.sameopenfile(descriptor, other)


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


async def taken(client: Client, name: str) -> int:
    """What a command gets that uses the descriptor of that name."""
    return int((await client.execute("use-fd", text=name))["return"])


async def test_descriptor_sent_with_the_command_gets_its_name(path: Path) -> None:
    async with negotiated(path) as client:
        with pipe() as (end, _):
            await client.send_descriptors(getfd("a"), end)
            assert await client.read() == {"return": {}}
            descriptor = await taken(client, "a")
            assert is_same(descriptor, end)
            assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            os.close(descriptor)
        assert "error" in await client.execute("closefd", fdname="a")


async def test_descriptor_sent_before_the_command_gets_its_name(path: Path) -> None:
    async with negotiated(path) as client:
        with pipe() as (end, _):
            await client.send_descriptors(b" ", end)
        assert await client.execute("getfd", fdname="a") == {"return": {}}
        assert await client.execute("closefd", fdname="a") == {"return": {}}
        assert "error" in await client.execute("closefd", fdname="a")


async def test_descriptors_sent_in_a_row_are_kept_apart(path: Path, workshop: Workshop) -> None:
    """All at once, while an earlier command keeps them from being named."""
    async with negotiated(path) as client:
        with pipe() as (first, second), pipe() as (third, _):
            await client.send(json.dumps({"execute": "wait", "arguments": {"text": "a"}}).encode())
            await client.send_descriptors(getfd("first"), first)
            await client.send_descriptors(b" ", second)
            await client.send(getfd("second"))
            await client.send_descriptors(getfd("third") + b"\r\n", third)
            await trio.sleep(0.01)
            workshop.gate.set()
            for _ in range(4):
                assert await client.read() == {"return": {}}
            for name, end in [("first", first), ("second", second), ("third", third)]:
                descriptor = await taken(client, name)
                assert is_same(descriptor, end)
                os.close(descriptor)


async def test_descriptor_of_another_command_is_not_taken_for_ours(path: Path) -> None:
    async with negotiated(path) as client:
        with pipe() as (stale, fresh):
            await client.send_descriptors(b'{"execute":"use-this"}\n', stale)
            assert (await client.read())["error"]["class"] == "CommandNotFound"
            await client.send_descriptors(getfd("a") + b"\n", fresh)
            assert await client.read() == {"return": {}}
            descriptor = await taken(client, "a")
            assert is_same(descriptor, fresh)
            os.close(descriptor)


async def test_getfd_without_a_descriptor_is_an_error(path: Path) -> None:
    async with negotiated(path) as client:
        assert "error" in await client.execute("getfd", fdname="a")


async def test_names_are_those_of_one_client(path: Path) -> None:
    async with negotiated(path) as client, negotiated(path) as other:
        with pipe() as (end, _):
            await client.send_descriptors(getfd("a"), end)
            assert await client.read() == {"return": {}}
        assert "error" in await other.execute("closefd", fdname="a")


async def test_nothing_stays_open_behind_a_client(path: Path) -> None:
    async with connected(path):
        await trio.sleep(0.01)
    await trio.sleep(0.05)
    before = open_count()
    with pipe() as (end, _):
        async with negotiated(path) as client:
            for name in ("a", "a", "b", "1"):  # replaced, kept, refused
                await client.send_descriptors(getfd(name), end)
                await client.read()
            await client.send_descriptors(b" ", end, end, end)  # never asked for
            await client.execute("say", text="a")
    await trio.sleep(0.05)
    assert open_count() == before


@pytest.mark.parametrize("count", [UNCLAIMED_DESCRIPTORS + 1, 200])
async def test_more_at_once_than_there_is_room_for_are_all_closed(
    path: Path, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with negotiated(path) as client:
        before = open_count()
        with pipe() as (end, _):
            await client.send_descriptors(getfd("a"), *[end] * count)
            assert "error" in await client.read()
        assert open_count() == before
        assert "too many" in caplog.text


async def test_descriptors_that_pile_up_are_closed(path: Path) -> None:
    async with negotiated(path) as client:
        before = open_count()
        with pipe() as (end, _):
            for _ in range(5 * UNCLAIMED_DESCRIPTORS):
                await client.send_descriptors(b" ", end)
            assert await client.execute("say", text="a") == {"return": "a"}
        assert open_count() == before + UNCLAIMED_DESCRIPTORS


async def test_tcp_client_has_no_descriptors_to_name() -> None:
    async with serving("tcp:127.0.0.1:0", Workshop()) as server:
        port = int(server.address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            client = Client(stream.socket)
            await client.negotiate()
            assert "error" in await client.execute("getfd", fdname="a")
