"""Remote memory over libfabric: what the kit cannot know of, and peers that are killed."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

pytest.importorskip("transship_rdma", reason="transship-rdma is not installed")

import trio.lowlevel
from rdma_helpers import (
    PROVIDERS,
    connected,
    listening,
    loads_seen,
    needs_provider,
    pair_over,
    until,
    write_through,
)

from transship.abc import RemoteRun
from transship.errors import ChannelError, PeerClosedError, StalledError
from transship.testing.checking import receive_exactly
from transship_rdma import _exposure, _fabric, _link, _remote_memory, _writer
from transship_rdma._messages import CHUNK_BYTES, MOST_BLOCKS, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from transship.abc import Channel, RemoteWriter
    from transship_rdma._channel import FabricChannel

MIB = 1 << 20


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    needs_provider(name)
    return name


@asynccontextmanager
async def joined(
    provider: str, here: bytearray, there: bytearray, *, at_once: bool = False
) -> AsyncIterator[tuple[FabricChannel, FabricChannel, RemoteWriter]]:
    with memoryview(here) as ours, memoryview(there) as theirs:
        async with pair_over(provider) as (source, destination):
            async with destination.expose({"ram": theirs}, at_once=at_once):
                async with source.mirror({"ram": ours}, at_once=at_once) as writer:
                    yield source, destination, writer


async def write_for_ever(writer: RemoteWriter, length: int) -> None:
    while True:
        await write_through(writer, RemoteRun("ram", 0, length))


@pytest.mark.parametrize("at_once", [False, True])
async def test_runs_across_many_chunks_arrive(provider: str, at_once: bool) -> None:
    size = 100 * MIB + 4097
    chance = random.Random(size)
    here = bytearray(chance.randbytes(MIB) * 101)[:size]
    there = bytearray(size)
    async with joined(provider, here, there, at_once=at_once) as (_, _, writer):
        with trio.fail_after(60):
            await write_through(writer, RemoteRun("ram", 0, size))
            assert there == here
            for start in range(0, size - 8192, 8192 * 7):
                here[start : start + 8192] = bytes([start % 251 + 1]) * 8192
            await writer.write(
                [RemoteRun("ram", start, 8192) for start in range(0, size - 8192, 8192 * 7)]
            )
            await writer.flush()
            assert there == here


def registrations(monkeypatch: pytest.MonkeyPatch, *, is_target: bool) -> list[tuple[int, int]]:
    """Addresses and lengths of what one side registers from now on."""
    registered: list[tuple[int, int]] = []
    register = _fabric.Endpoint.register
    is_wanted = is_target

    def note(self: _fabric.Endpoint, address: int, length: int, *, is_target: bool) -> object:
        if is_target == is_wanted:
            registered.append((address, length))
        return register(self, address, length, is_target=is_target)

    monkeypatch.setattr(_fabric.Endpoint, "register", note)
    return registered


@pytest.mark.parametrize("at_once", [False, True])
async def test_memory_is_registered_on_the_sources_side_where_the_provider_wants_it(
    provider: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No provider that can be tested without hardware wants it; all accept it."""
    registered = registrations(monkeypatch, is_target=False)

    def insisting(
        endpoint: _fabric.Endpoint, blocks: dict[str, memoryview], peer: str, **_: bool
    ) -> _writer.FabricWriter:
        return _writer.FabricWriter(endpoint, blocks, peer, needs_local_regions=True)

    monkeypatch.setattr(_remote_memory, "FabricWriter", insisting)
    here, there = bytearray(os.urandom(2 * MIB + 5)), bytearray(2 * MIB + 5)
    async with joined(provider, here, there, at_once=at_once) as (_, _, writer):
        await write_through(writer, RemoteRun("ram", 0, len(here)), RemoteRun("ram", 5, 5))
    assert there == here
    lengths = [length for _, length in registered]
    assert lengths == ([2 * MIB + 5] if at_once else [MIB, MIB, 5])


async def test_each_chunk_is_registered_once_and_only_when_it_is_wanted(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = registrations(monkeypatch, is_target=True)
    here, there = bytearray(10 * MIB), bytearray(10 * MIB)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(there))
    async with joined(provider, here, there) as (_, _, writer):
        for _ in range(3):
            await write_through(
                writer, RemoteRun("ram", 3 * MIB - 1, 2), RemoteRun("ram", 9 * MIB, 1)
            )
    places = sorted((address - begin, length) for address, length in registered)
    assert places == [(2 * MIB, MIB), (3 * MIB, MIB), (9 * MIB, MIB)]


async def test_memory_may_be_exposed_again_when_it_was_left(provider: str) -> None:
    async with pair_over(provider) as (source, destination):
        for turn in range(3):
            here, there = bytearray(os.urandom(10_000)), bytearray(10_000)
            with memoryview(here) as ours, memoryview(there) as theirs:
                async with destination.expose({"ram": theirs}, at_once=bool(turn % 2)):
                    async with source.mirror({"ram": ours}, at_once=False) as writer:
                        await write_through(writer, RemoteRun("ram", 0, 10_000))
            assert there == here
            await source.send_segments([b"x"])
            assert await receive_exactly(destination, 1) == b"x"


async def test_source_that_reads_late_of_a_withdrawal_goes_on_to_the_next_memory(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair_over(provider) as (source, destination):
        memory = source._memory
        deliver, held = memory.deliver, []
        monkeypatch.setattr(memory, "deliver", lambda *message: held.append(message))

        async def let_them_come_when_the_source_is_on_its_way() -> None:
            await until(lambda: len(held) == 1)
            deliver(*held.pop())
            await until(lambda: memory._writer is not None)
            await until(lambda: [kind for kind, _ in held] == [Kind.WITHDRAWN, Kind.EXPOSED])
            monkeypatch.undo()
            for message in held:
                deliver(*message)

        here, there = bytearray(os.urandom(4096)), bytearray(4096)
        with memoryview(here) as ours, memoryview(there) as theirs, trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                async with destination.expose({"ram": theirs}, at_once=False):
                    nursery.start_soon(let_them_come_when_the_source_is_on_its_way)
                    await until(lambda: memory._offer is not None)
                async with destination.expose({"ram": theirs}, at_once=False):
                    async with source.mirror({"ram": ours}, at_once=False) as writer:
                        await write_through(writer, RemoteRun("ram", 0, 4096))
        assert there == here


async def test_memory_is_mirrored_once_and_a_second_time_refused(provider: str) -> None:
    with memoryview(bytearray(4096)) as memory:
        async with pair_over(provider) as (source, destination):
            async with destination.expose({"ram": memory}, at_once=False):
                async with source.mirror({"ram": memory}, at_once=False):
                    with pytest.raises(trio.BusyResourceError):
                        async with source.mirror({"ram": memory}, at_once=False):
                            pass
                with pytest.raises(ChannelError, match="mirrored already"):
                    async with source.mirror({"ram": memory}, at_once=False):
                        pass


async def test_refusal_names_the_blocks_that_differ(provider: str) -> None:
    with memoryview(bytearray(4096)) as memory, memory[:4095] as less:
        async with pair_over(provider) as (source, destination):
            async with destination.expose({"ram": memory, "vga": memory}, at_once=False):
                with pytest.raises(ChannelError, match=r"expected.*vga \(4096.*found.*rom \(4095"):
                    async with source.mirror({"ram": memory, "rom": less}, at_once=False):
                        pass


async def test_too_many_blocks_are_refused_on_either_side(provider: str) -> None:
    with memoryview(bytearray(1)) as memory:
        blocks = {f"block{number}": memory for number in range(MOST_BLOCKS + 1)}
        async with pair_over(provider) as (source, destination):
            for context in (
                destination.expose(blocks, at_once=False),
                source.mirror(blocks, at_once=False),
            ):
                with pytest.raises(ChannelError, match="at most 512 blocks"):
                    async with context:
                        pass


async def test_memory_that_cannot_be_registered_is_the_sources_error_too(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write_to(source: FabricChannel) -> None:
        with memoryview(bytearray(4096)) as memory:
            async with source.mirror({"ram": memory}, at_once=False) as writer:
                await writer.write([RemoteRun("ram", 0, 4096)])

    def refuse(*_: object, **__: object) -> None:
        raise ChannelError("no more memory may be locked")

    monkeypatch.setattr(_fabric.Endpoint, "register", refuse)
    with memoryview(bytearray(4096)) as memory:
        async with pair_over(provider) as (source, destination):
            with pytest.raises(ChannelError, match="no more memory may be locked"):
                async with destination.expose({"ram": memory}, at_once=True):
                    pass
            async with destination.expose({"ram": memory}, at_once=False):
                with trio.fail_after(5):
                    with pytest.raises(
                        ChannelError, match=r"refuses: no more memory may be locked"
                    ):
                        await write_to(source)


async def test_destination_that_does_not_answer_is_a_stall(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writer, "STALL_S", 0.2)
    monkeypatch.setattr(_exposure.Exposure, "_answer", lambda *_: None)
    here, there = bytearray(4096), bytearray(4096)
    with trio.fail_after(5):
        async with joined(provider, here, there) as (_, _, writer):
            with pytest.raises(StalledError):
                await writer.write([RemoteRun("ram", 0, 4096)])


async def test_write_is_alone_where_the_provider_gets_stuck_easily(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever came behind it might begin with what fills the kernel's buffer, and no more."""
    needs_provider("sockets")
    loads = loads_seen(monkeypatch)
    here, there = bytearray(b"\1" * 8 * MIB), bytearray(8 * MIB)
    async with joined("sockets", here, there) as (_, _, writer):
        await write_through(writer, RemoteRun("ram", 0, 4 * MIB), RemoteRun("ram", 4 * MIB, MIB))
    assert there[: 5 * MIB] == here[: 5 * MIB]
    assert max(load.operations for load in loads if load.writes) == 1


async def test_write_that_never_ends_is_a_stall(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a wrong key, which no error may tell of; or the provider tells, which is as good."""
    monkeypatch.setattr(_link, "STALL_S", 0.5)
    monkeypatch.setattr(_writer, "STALL_S", 0.5)
    here, there = bytearray(b"\1" * 4096), bytearray(4096)
    with trio.fail_after(10):
        async with joined(provider, here, there) as (_, _, writer):
            await write_through(writer, RemoteRun("ram", 0, 1))
            assert isinstance(writer, _writer.FabricWriter)
            writer._blocks[0].keys[0] ^= 0x55
            with pytest.raises(ChannelError):
                await write_through(writer, RemoteRun("ram", 0, 4096))
    assert not any(there[1:])


async def test_write_beyond_what_is_registered_touches_nothing(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "STALL_S", 0.5)
    monkeypatch.setattr(_writer, "STALL_S", 0.5)
    here, there = bytearray(b"\1" * 3 * CHUNK_BYTES), bytearray(3 * CHUNK_BYTES)
    with trio.fail_after(10):
        async with joined(provider, here, there) as (_, _, writer):
            await write_through(writer, RemoteRun("ram", 0, 1))
            assert isinstance(writer, _writer.FabricWriter)
            writer._blocks[0].addresses[0] += CHUNK_BYTES  # the neighbour, by the same key
            with pytest.raises(ChannelError):
                await write_through(writer, RemoteRun("ram", 0, CHUNK_BYTES))
    assert not any(there[1:])


async def test_stream_goes_on_when_memory_is_taken_back_amid_writes(provider: str) -> None:
    """So that the destination can say why."""
    async with pair_over(provider) as (source, destination):
        with memoryview(bytearray(8 * MIB)) as ours, memoryview(bytearray(8 * MIB)) as theirs:

            async def write_until_it_fails() -> None:
                async with source.mirror({"ram": ours}, at_once=False) as writer:
                    leave.set()
                    with pytest.raises(ChannelError):
                        await write_for_ever(writer, 8 * MIB)

            leave = trio.Event()
            async with trio.open_nursery() as nursery:
                async with destination.expose({"ram": theirs}, at_once=False):
                    nursery.start_soon(write_until_it_fails)
                    with trio.fail_after(5):
                        await leave.wait()
                    await trio.sleep(0.02)
        for end, other in ((source, destination), (destination, source)):
            await end.send_segments([b"sorry"])
            assert await receive_exactly(other, 5) == b"sorry"


async def test_second_task_that_writes_is_refused(provider: str) -> None:
    here, there = bytearray(8 * MIB), bytearray(8 * MIB)
    refusals: list[trio.BusyResourceError] = []
    async with joined(provider, here, there) as (_, _, writer):

        async def use(call: Callable[[], Awaitable[None]]) -> None:
            try:
                await call()
            except trio.BusyResourceError as error:
                refusals.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, lambda: writer.write([RemoteRun("ram", 0, 8 * MIB)]))
            nursery.start_soon(use, writer.flush)
    assert len(refusals) == 1


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.01, 0.03, 0.1])
async def test_cancelled_amid_writes_nothing_is_read_or_written_any_more(
    provider: str, delay_s: float
) -> None:
    here, there = bytearray(b"\1" * 8 * MIB), bytearray(8 * MIB)
    async with pair_over(provider) as (source, destination):
        with memoryview(there) as theirs, memoryview(here) as ours:
            async with destination.expose({"ram": theirs}, at_once=False):
                with trio.fail_after(2), trio.move_on_after(delay_s):
                    async with source.mirror({"ram": ours}, at_once=False) as writer:
                        await write_for_ever(writer, 8 * MIB)
                here[:] = b"\2" * len(here)
                await trio.sleep(0.02)
        there[:] = bytes(len(there))
        await trio.sleep(0.05)
        assert not any(there)


async def test_memory_of_a_mapping_can_be_unmapped_when_left(provider: str) -> None:
    with mmap.mmap(-1, 4 * MIB) as there, mmap.mmap(-1, 4 * MIB) as here:
        async with pair_over(provider) as (source, destination):
            with memoryview(there) as theirs, memoryview(here) as ours:
                async with destination.expose({"ram": theirs}, at_once=False):
                    async with source.mirror({"ram": ours}, at_once=True) as writer:
                        await write_through(writer, RemoteRun("ram", 0, 4 * MIB))


# A peer that is killed

DESTINATION = """
import sys, trio
from transship.abc import Address
from transship_rdma import plugin

async def main():
    async with plugin.start_incoming(Address.parse(sys.argv[1]), {}) as listener:
        print(listener.uri, flush=True)
        channel = await listener.accept()
        memory = memoryview(bytearray(64 << 20))
        async with channel.expose({"ram": memory}, at_once=False):
            await trio.sleep(60)

trio.run(main)
"""

SOURCE = """
import sys, trio
from transship.abc import Address, RemoteRun
from transship_rdma import plugin

async def main():
    async with plugin.start_outgoing(Address.parse(sys.argv[1]), {}) as channel:
        memory = memoryview(bytearray(b"\\1" * (64 << 20)))
        async with channel.mirror({"ram": memory}, at_once=False) as writer:
            await channel.send_segments([b"!"])
            while True:
                await writer.write([RemoteRun("ram", 0, 64 << 20)])
                await writer.flush()

trio.run(main)
"""


@asynccontextmanager
async def running(script: str, argument: str) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process([sys.executable, "-c", script, argument], stdout=-1)
    try:
        yield process
    finally:
        process.kill()
        await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


@asynccontextmanager
async def writer_to_another_process(
    provider: str,
) -> AsyncIterator[tuple[RemoteWriter, trio.Process]]:
    async with running(DESTINATION, f"rdma:127.0.0.1:0,provider={provider}") as peer:
        assert peer.stdout is not None
        told = b""
        with trio.fail_after(30):
            while not told.endswith(b"\n"):
                told += await peer.stdout.receive_some()
        async with connected(told.decode().strip()) as source:
            with memoryview(bytearray(64 * MIB)) as memory, trio.fail_after(30):
                async with source.mirror({"ram": memory}, at_once=False) as writer:
                    await write_through(writer, RemoteRun("ram", 0, 64 * MIB))
                    yield writer, peer


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_destination_that_is_killed_amid_writes_breaks_them(
    provider: str, how: signal.Signals
) -> None:
    async with writer_to_another_process(provider) as (writer, peer):
        peer.send_signal(how)
        with trio.fail_after(3), pytest.raises(ChannelError):
            await write_for_ever(writer, 64 * MIB)


async def test_stopped_destination_is_a_stall(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "STALL_S", 1.0)
    monkeypatch.setattr(_writer, "STALL_S", 1.0)
    async with writer_to_another_process(provider) as (writer, peer):
        peer.send_signal(signal.SIGSTOP)
        with trio.fail_after(5), pytest.raises(StalledError):
            await write_for_ever(writer, 64 * MIB)


async def test_source_that_is_killed_amid_writes_ends_the_channel(provider: str) -> None:
    async with listening(f"rdma:127.0.0.1:0,provider={provider}") as listener:
        async with running(SOURCE, listener.uri) as peer:
            with trio.fail_after(30):
                channel = await listener.accept()
                there = bytearray(64 * MIB)
                with memoryview(there) as memory:
                    async with channel.expose({"ram": memory}, at_once=False):  # type: ignore[attr-defined]
                        await until_it_writes(channel, there)
                        peer.send_signal(signal.SIGKILL)
                        with trio.fail_after(3):
                            with pytest.raises(PeerClosedError, match="process is gone"):
                                await receive_exactly(channel, 1)
                there[:] = bytes(len(there))
                await trio.sleep(0.05)
                assert not any(there)
                await channel.aclose()


async def until_it_writes(channel: Channel, memory: bytearray) -> None:
    assert await receive_exactly(channel, 1) == b"!"
    await until(lambda: memory[-1] == 1)
