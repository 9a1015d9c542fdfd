"""What only descriptors can do wrong: whose they are, what they are, and who closes them when."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Address, DescriptorPassing
from transship.errors import ChannelError, ConnectError
from transship.testing.checking import receive_exactly, receive_to_end
from transship_fd import plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transship.abc import Incoming, Outgoing


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


def outgoing(number: int, **options: int) -> Outgoing:
    return plugin.start_outgoing(Address("fd", "name" if options else str(number)), options)


def incoming(number: int, **options: int) -> Incoming:
    return plugin.start_incoming(Address("fd", "name" if options else str(number)), options)


def inherited(number: int) -> int:
    """As a descriptor is that whoever started this process had open for it."""
    os.set_inheritable(number, True)
    return number


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def children_see(number: int) -> bool:
    probe = f"import os; os.fstat({number})"
    result = subprocess.run(
        [sys.executable, "-c", probe], close_fds=False, stderr=subprocess.DEVNULL
    )
    return result.returncode == 0


async def refused(prepare: Callable[[], Outgoing | Incoming], match: str) -> None:
    with pytest.raises(ConnectError, match=match):
        async with prepare():
            pass


async def test_inherited_descriptor_is_closed_once_and_children_do_not_get_it() -> None:
    reads, writes = os.pipe()
    async with outgoing(inherited(writes)) as channel:
        assert not children_see(writes)
        await channel.send_segments([b"x"])
        await channel.aclose()
        assert not is_open(writes)
        other = os.dup(reads)
        assert other == writes, "the kernel gives the lowest number that is free"
    assert is_open(other)
    os.close(other)
    os.close(reads)


async def test_inherited_descriptor_is_used_once() -> None:
    reads, writes = os.pipe()
    async with outgoing(inherited(writes)):
        await refused(lambda: outgoing(writes), "not a descriptor that this process inherited")
    await refused(lambda: outgoing(writes), "Bad file descriptor .whoever starts this process")
    os.close(reads)


async def test_descriptor_of_the_process_itself_is_refused_and_stays_open(tmp_path: Path) -> None:
    own = os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT)
    await refused(lambda: outgoing(own), "not a descriptor that this process inherited")
    await refused(lambda: incoming(own), "not a descriptor that this process inherited")
    os.close(own)


async def test_borrowed_descriptor_is_open_afterwards_and_can_be_lent_again() -> None:
    reads, writes = os.pipe()
    for word in (b"one", b"two"):
        async with outgoing(writes, descriptor=writes) as channel:
            await channel.send_segments([word])
        assert is_open(writes)
        async with incoming(reads, descriptor=reads) as listener:
            channel = await listener.accept()
            assert await receive_exactly(channel, 3) == word
            await channel.aclose()
        assert is_open(reads)
    os.close(reads)
    os.close(writes)


@pytest.mark.parametrize("number", [1, 2])
async def test_where_results_go_no_stream_goes(number: int) -> None:
    await refused(lambda: outgoing(number), "where results and progress go")
    assert is_open(number)


def made(kind: str, path: Path) -> int:
    """A descriptor that cannot carry a stream to somebody."""
    match kind:
        case "device":
            return os.open("/dev/null", os.O_RDWR)
        case "folder":
            return os.open(path, os.O_RDONLY)
        case "datagrams":
            return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
        case "unconnected":
            return socket.socket().detach()
        case "listening":
            return socket.create_server(("127.0.0.1", 0)).detach()
        case "to be read":
            return os.open(__file__, os.O_RDONLY)
        case "to append":
            return os.open(path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("device", "cannot carry a stream"),
        ("folder", "cannot carry a stream"),
        ("datagrams", "expected a stream socket; found SOCK_DGRAM"),
        ("unconnected", "is not connected"),
        ("listening", "is not connected"),
        ("to be read", "was not opened to be written to"),
        ("to append", "was opened to append"),
    ],
)
async def test_what_cannot_be_sent_to_is_refused_and_closed(
    kind: str, reason: str, tmp_path: Path
) -> None:
    number = inherited(made(kind, tmp_path))
    await refused(lambda: outgoing(number), reason)
    assert not is_open(number)


async def test_what_was_opened_to_be_written_is_not_read() -> None:
    reads, writes = os.pipe()
    await refused(lambda: incoming(inherited(writes)), "was not opened to be read from")
    os.close(reads)


async def test_listener_waits_for_the_first_byte_and_can_be_left() -> None:
    reads, writes = os.pipe()
    async with incoming(inherited(reads)) as listener:
        with trio.move_on_after(0.1) as scope:
            await listener.accept()
        assert scope.cancelled_caught
    assert not is_open(reads)
    os.close(writes)


async def test_listening_socket_accepts_several_and_stops_when_left() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    where = listening.getsockname()
    async with incoming(inherited(listening.detach())) as listener:
        for word in (b"one", b"two"):
            with socket.create_connection(where) as connection:
                channel = await listener.accept()
                connection.sendall(word)
                assert await receive_exactly(channel, 3) == word
                await channel.aclose()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)


async def test_file_goes_on_where_it_stands_and_is_cut_off_there_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    for fails in (False, True):
        number = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(number, b"head")
        try:
            async with outgoing(inherited(number)) as channel:
                await channel.send_segments([b"stream"])
                if fails:
                    raise ChannelError("too bad")
        except ChannelError:
            assert fails
        assert path.read_bytes() == (b"head" if fails else b"headstream")


async def test_standard_input_stays_open() -> None:
    reads, writes = os.pipe()
    saved = os.dup(0)
    os.dup2(reads, 0)
    try:
        os.write(writes, b"stream")
        os.close(writes)
        async with incoming(0) as listener:
            channel = await listener.accept()
            assert await receive_to_end(channel) == b"stream"
            await channel.aclose()
        assert is_open(0)
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(reads)


async def test_entering_in_a_cancelled_scope_takes_nothing() -> None:
    reads, writes = os.pipe()
    for context in (outgoing(inherited(writes)), incoming(inherited(reads))):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with context:
                pass
        assert scope.cancelled_caught
    os.close(reads)
    os.close(writes)


async def test_unix_socket_of_the_same_user_passes_descriptors() -> None:
    here, there = (inherited(end.detach()) for end in socket.socketpair())
    async with outgoing(here) as source, incoming(there) as listener:
        await source.send_segments([b"x"])
        destination = await listener.accept()
        await receive_exactly(destination, 1)
        for channel in (source, destination):
            assert channel.capability(DescriptorPassing) is not None
        await destination.aclose()


async def test_socket_that_may_lead_to_another_host_passes_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = inherited(socket.create_connection(server.getsockname()).detach())
        there, _ = server.accept()
    with there:
        async with outgoing(here) as source:
            assert source.capability(DescriptorPassing) is None
