"""QEMU's own Python client, from PyPI, takes the server for one of QEMU's."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from .control_helpers import Tick, Workshop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

qmp: Any = pytest.importorskip("qemu.qmp")


async def with_client(path: Path, talk: Callable[[Any], Awaitable[None]]) -> None:
    """Let the client, which runs on asyncio, talk from a thread of its own."""

    async def main() -> None:
        client = qmp.QMPClient("transship")
        await client.connect(str(path))
        try:
            await talk(client)
        finally:
            await client.disconnect()

    with trio.fail_after(30):
        await trio.to_thread.run_sync(asyncio.run, main())


async def test_it_negotiates_asks_and_is_refused(path: Path) -> None:
    async def talk(client: Any) -> None:
        assert client.greeting.QMP.capabilities == ["oob"]
        assert (await client.execute("query-version"))["qemu"]["major"] == 10
        assert len(await client.execute("query-qmp-schema")) > 20
        assert await client.execute("say", {"text": "é"}) == "é"
        with pytest.raises(qmp.ExecuteError, match="no-such"):
            await client.execute("no-such")

    await with_client(path, talk)


async def test_it_overtakes_out_of_band(path: Path, workshop: Workshop) -> None:
    async def talk(client: Any) -> None:
        waiting = asyncio.create_task(client.execute("wait", {"text": "a"}))
        await asyncio.sleep(0.05)
        assert await client.execute("say-now", {"text": "now"}, oob=True) == {}
        assert not waiting.done()
        trio_token.run_sync_soon(workshop.gate.set)
        assert await waiting == {}

    trio_token = trio.lowlevel.current_trio_token()
    await with_client(path, talk)
    assert workshop.log == ["begin a", "now", "end a"]


async def test_it_hears_events(path: Path, workshop: Workshop) -> None:
    async def talk(client: Any) -> None:
        assert workshop.server is not None
        with client.listener("TICK") as listener:
            trio_token.run_sync_soon(workshop.server.broadcast, workshop.tick, Tick(3))
            assert (await listener.get())["data"] == {"number": 3}

    trio_token = trio.lowlevel.current_trio_token()
    await with_client(path, talk)


async def test_it_passes_file_descriptors(path: Path) -> None:
    async def talk(client: Any) -> None:
        for name in ("a", "b"):
            descriptor = os.open(os.devnull, os.O_RDONLY)
            client.send_fd_scm(descriptor)
            os.close(descriptor)
            assert await client.execute("getfd", {"fdname": name}) == {}
        assert await client.execute("closefd", {"fdname": "a"}) == {}
        with pytest.raises(qmp.ExecuteError):
            await client.execute("closefd", {"fdname": "a"})

    await with_client(path, talk)
