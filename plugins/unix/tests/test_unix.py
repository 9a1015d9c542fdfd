"""What only Unix sockets can do wrong: the socket file, whose it is, and who may open it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from transship.abc import Address
from transship.errors import ConnectError, PeerClosedError
from transship.testing.checking import (
    blocked,
    blocked_receive,
    blocked_send,
    receive_exactly,
)
from transship_unix import plugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from transship.abc import Channel, Listener


@asynccontextmanager
async def listening(path: Path | str) -> AsyncIterator[Listener]:
    async with plugin.start_incoming(Address("unix", str(path)), {}) as listener:
        yield listener


@asynccontextmanager
async def connected(path: Path | str) -> AsyncIterator[Channel]:
    async with plugin.start_outgoing(Address("unix", str(path)), {}) as channel:
        yield channel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "migration"


@pytest.fixture
def live(path: Path) -> Iterator[socket.socket]:
    """Somebody else who listens on the path."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        yield other


def leave_stale_file(path: Path) -> None:
    """A socket file whose process is gone."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


# The file


async def test_socket_file_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        async with listening(path):
            mode = path.stat().st_mode
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_socket_file_goes_when_listening_stops(path: Path) -> None:
    async with listening(path):
        assert path.exists()
    assert not path.exists()


async def test_socket_file_goes_when_listening_is_cancelled(path: Path) -> None:
    with trio.move_on_after(0.05) as scope:
        async with listening(path) as listener:
            await listener.accept()
    assert scope.cancelled_caught
    assert not path.exists()


async def test_socket_file_goes_from_a_relative_path_although_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with listening("migration") as listener:
        assert listener.uri == f"unix:{tmp_path}/migration"
        monkeypatch.chdir("/")
        async with connected(tmp_path / "migration"):
            await (await listener.accept()).aclose()
    assert not (tmp_path / "migration").exists()


async def test_file_of_somebody_else_is_left_when_listening_stops(path: Path) -> None:
    async with listening(path):
        path.unlink()
        path.write_text("a new tenant")
    assert path.read_text() == "a new tenant"


async def test_socket_of_somebody_else_is_left_when_listening_stops(path: Path) -> None:
    async with AsyncExitStack() as successor:
        async with listening(path):
            path.unlink()
            await successor.enter_async_context(listening(path))
        assert path.exists()


async def test_stopping_without_a_folder_is_no_error(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    async with listening(folder / "migration"):
        (folder / "migration").unlink()
        folder.rmdir()


async def test_stale_socket_file_is_replaced(path: Path) -> None:
    leave_stale_file(path)
    async with listening(path) as listener, connected(path):
        await (await listener.accept()).aclose()
    assert not path.exists()


async def test_live_socket_is_refused_and_notices_nothing(path: Path, live: socket.socket) -> None:
    with pytest.raises(ConnectError, match="somebody else listens there"):
        async with listening(path):
            pass
    assert path.exists()
    live.setblocking(False)
    with pytest.raises(BlockingIOError):  # no connection was made to find out
        live.accept()


async def test_socket_that_is_bound_and_not_yet_listening_is_refused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        with pytest.raises(ConnectError, match="somebody else listens there"):
            async with listening(path):
                pass


async def test_live_datagram_socket_is_refused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ConnectError, match="somebody else listens there"):
            async with listening(path):
                pass


async def test_file_that_is_no_socket_is_refused_and_kept(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ConnectError, match="no socket"):
        async with listening(path):
            pass
    assert path.read_text() == "precious"


async def test_link_is_no_socket_even_if_it_leads_to_a_stale_one(tmp_path: Path) -> None:
    target, link = tmp_path / "stale", tmp_path / "link"
    leave_stale_file(target)
    link.symlink_to(target)
    with pytest.raises(ConnectError, match="no socket"):
        async with listening(link):
            pass
    assert link.is_symlink()
    assert target.exists()


async def test_listening_that_the_kernel_refuses_says_so(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    def refuse(self: socket.socket, backlog: int) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(socket.socket, "listen", refuse)
    with pytest.raises(ConnectError, match=r"cannot listen on unix:.*already in use"):
        async with listening(path):
            pass
    assert not path.exists()


async def test_listening_in_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"cannot listen on unix:.*No such file"):
        async with listening(tmp_path / "nowhere" / "migration"):
            pass


@pytest.mark.parametrize("length", [106, 107])
async def test_longest_path_works(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with listening("a" * length) as listener, connected("a" * length):
        await (await listener.accept()).aclose()


# Connecting


@pytest.mark.seed("S42")
async def test_nobody_there_is_refused_with_the_reason(path: Path) -> None:
    with pytest.raises(ConnectError, match=r"cannot connect to unix:.*No such file"):
        async with connected(path):
            pass
    leave_stale_file(path)
    with pytest.raises(ConnectError, match="Connection refused") as caught:
        async with connected(path):
            pass
    assert isinstance(caught.value.__cause__, OSError)


async def test_full_backlog_is_waited_for(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))

            async def connect() -> None:
                async with connected(path):
                    pass

            async with blocked("connecting", connect) as attempt:
                other.accept()[0].close()
                await attempt.wait()
            assert attempt.error is None


async def test_waiting_for_a_full_backlog_can_be_cancelled(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            before = len(os.listdir("/proc/self/fd"))
            with trio.move_on_after(0.05) as scope:
                async with connected(path):
                    pass
            assert scope.cancelled_caught
            assert len(os.listdir("/proc/self/fd")) == before


async def test_entering_in_a_cancelled_scope_does_not_go_through(
    path: Path, live: socket.socket
) -> None:
    other_path = path.with_name("other")
    before = len(os.listdir("/proc/self/fd"))
    for context in (listening(other_path), connected(path)):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with context:
                pass
        assert scope.cancelled_caught
    assert len(os.listdir("/proc/self/fd")) == before
    assert not other_path.exists()


async def test_peers_are_named_by_path_and_process(path: Path) -> None:
    async with listening(path) as listener, connected(path) as source:
        destination = await listener.accept()
        expected = f"unix:{path} (process {os.getpid()}, user {os.getuid()})"
        assert source.peer == destination.peer == expected
        await destination.aclose()


# A peer that is killed

SOURCE = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(b"half")
    time.sleep(60)
"""


@asynccontextmanager
async def channel_of_another_process(path: Path) -> AsyncIterator[tuple[Channel, trio.Process]]:
    """A channel from a process that sends four bytes and then neither sends nor reads."""
    async with listening(path) as listener:
        peer = await trio.lowlevel.open_process([sys.executable, "-c", SOURCE, str(path)])
        try:
            with trio.fail_after(20):
                channel = await listener.accept()
                assert await receive_exactly(channel, 4) == b"half"
                yield channel, peer
                await channel.aclose()
        finally:
            peer.kill()
            await peer.wait()


async def test_peer_that_is_killed_ends_a_receive(path: Path) -> None:
    async with channel_of_another_process(path) as (channel, peer):
        async with blocked_receive(channel) as attempt:
            peer.send_signal(signal.SIGKILL)
            await attempt.wait()


@pytest.mark.seed("S59")
async def test_peer_that_is_killed_breaks_a_blocked_send(path: Path) -> None:
    async with channel_of_another_process(path) as (channel, peer):
        async with blocked_send(channel) as attempt:
            peer.send_signal(signal.SIGKILL)
            await attempt.wait()
        assert isinstance(attempt.error, PeerClosedError)


async def test_listener_that_was_killed_leaves_a_file_that_the_next_one_replaces(
    path: Path,
) -> None:
    program = (
        "import socket, sys, time\n"
        "listening = socket.socket(socket.AF_UNIX)\n"
        "listening.bind(sys.argv[1])\n"
        "listening.listen()\n"
        "time.sleep(60)\n"
    )
    peer = await trio.lowlevel.open_process([sys.executable, "-c", program, str(path)])
    with trio.fail_after(20):
        for _ in range(1_000):
            if path.exists():
                break
            await trio.sleep(0.01)
        peer.send_signal(signal.SIGKILL)
        await peer.wait()
    assert path.exists()
    async with listening(path) as listener, connected(path):
        await (await listener.accept()).aclose()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o660), (0o000, 0o666), (0o022, 0o600)])
async def test_socket_file_has_the_mode_that_was_asked_for(
    umask: int, mode: int, path: Path
) -> None:
    before = os.umask(umask)
    try:
        async with plugin.start_incoming(Address("unix", str(path)), {"mode": mode}):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize("tight", [True, False])
async def test_abstract_socket_carries_bytes_and_has_no_file(tight: bool, path: Path) -> None:
    address, options = Address("unix", str(path)), {"abstract": True, "tight": tight}
    async with (
        plugin.start_incoming(address, options) as listener,
        plugin.start_outgoing(address, options) as source,
    ):
        assert not path.exists()
        assert listener.uri == f"unix:{path}"
        destination = await listener.accept()
        await source.send_segments([b"moving"])
        assert await receive_exactly(destination, 6) == b"moving"
        with pytest.raises(ConnectError, match="in use"):
            async with plugin.start_incoming(address, options):
                pytest.fail("two listen under one name")
        await destination.aclose()
    with pytest.raises(ConnectError, match="refused"):
        async with plugin.start_outgoing(address, options):
            pytest.fail("nobody listens")


async def test_tight_name_is_another_than_the_one_that_is_filled_up(path: Path) -> None:
    address = Address("unix", str(path))
    async with plugin.start_incoming(address, {"abstract": True}):
        with pytest.raises(ConnectError):
            async with plugin.start_outgoing(address, {"abstract": True, "tight": False}):
                pytest.fail("it was taken for another")
