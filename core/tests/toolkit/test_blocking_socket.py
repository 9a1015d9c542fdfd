"""The halves of a socket in the hands of a thread: how calls end that do not end well."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from transship.errors import ChannelError, PeerClosedError, StalledError
from transship.toolkit import BlockingSocketReceiver, BlockingSocketSender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def broken(error: OSError) -> ChannelError:
    return PeerClosedError(f"broken: {error.strerror}")


def receiver_of(connection: socket.socket, timeout_s: float = 10.0) -> BlockingSocketReceiver:
    return BlockingSocketReceiver(connection, "peer", timeout_s, broken, lambda: None)


def sender_of(connection: socket.socket, timeout_s: float = 10.0) -> BlockingSocketSender:
    return BlockingSocketSender(connection, "peer", timeout_s, broken, lambda: None)


def with_views(receiver: BlockingSocketReceiver) -> int:
    return receiver.receive([memoryview(bytearray(6))])


def with_a_function(receiver: BlockingSocketReceiver) -> int:
    return receiver.receive_with(lambda descriptor: len(os.read(descriptor, 6)))


def with_one_view(receiver: BlockingSocketReceiver) -> int:
    return receiver.receive_some(memoryview(bytearray(6)))


each_way = pytest.mark.parametrize("receive", [with_views, with_a_function, with_one_view])


@each_way
def test_bytes_come(
    receive: Callable[[BlockingSocketReceiver], int], pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    far.sendall(b"stream")
    assert receive(receiver_of(near)) == 6


@each_way
def test_end_is_no_error(
    receive: Callable[[BlockingSocketReceiver], int], pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    far.close()
    assert receive(receiver_of(near)) == 0


@each_way
def test_silence_is_borne_with_for_a_while(
    receive: Callable[[BlockingSocketReceiver], int], pair: tuple[socket.socket, socket.socket]
) -> None:
    with pytest.raises(StalledError, match=r"sent nothing for 0\.05 s"):
        receive(receiver_of(pair[0], 0.05))


@each_way
def test_interruption_ends_a_call_under_way_and_all_later_ones(
    receive: Callable[[BlockingSocketReceiver], int], pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    receiver = receiver_of(near)
    threading.Timer(0.05, receiver.interrupt).start()
    began = time.perf_counter()
    for _ in range(2):
        with pytest.raises(ChannelError, match="closed on this side"):
            receive(receiver)
    assert time.perf_counter() - began < 5
    near.send(b"the other half works on")
    assert far.recv(3) == b"the"


@each_way
def test_broken_connection_is_told_in_the_channels_words(
    receive: Callable[[BlockingSocketReceiver], int],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    with near:
        near.send(b"unread")
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(PeerClosedError, match="broken: Connection reset"):
            receive(receiver_of(near))


def send_segments(sender: BlockingSocketSender, data: bytes) -> None:
    sender.send([data])


def send_with_a_function(sender: BlockingSocketSender, data: bytes) -> None:
    def write_all(descriptor: int) -> int:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
        return done

    assert sender.send_with(write_all) == len(data)


each_way_to_send = pytest.mark.parametrize("send", [send_segments, send_with_a_function])


@each_way_to_send
def test_bytes_go(
    send: Callable[[BlockingSocketSender, bytes], None], pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    send(sender_of(near), b"stream")
    assert far.recv(7) == b"stream"


@each_way_to_send
def test_sender_that_nobody_reads_from_gives_up(
    send: Callable[[BlockingSocketSender, bytes], None], pair: tuple[socket.socket, socket.socket]
) -> None:
    sender = sender_of(pair[0], 0.05)
    with pytest.raises(StalledError, match="took nothing"):
        send(sender, bytes(16 << 20))


@each_way_to_send
def test_interruption_ends_sending(
    send: Callable[[BlockingSocketSender, bytes], None], pair: tuple[socket.socket, socket.socket]
) -> None:
    sender = sender_of(pair[0])
    threading.Timer(0.05, sender.interrupt).start()
    with pytest.raises(ChannelError, match="closed on this side"):
        send(sender, bytes(16 << 20))
