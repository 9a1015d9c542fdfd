"""Servers that break the rules: the client says so, at once, and believes nothing they said."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest
from nbd_peers import PATIENCE_S, scripted_server
from nbd_raw import answer, greet, receive, receive_option

from transship.errors import ConnectError
from transship_nbd import _protocol as nbd
from transship_nbd._protocol import Chunk, Info, Option, Reply, Transmission
from transship_nbd.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Script = Callable[[socket.socket], None]

SIZE = 1 << 20
FLAGS = Transmission.HAS_FLAGS | Transmission.SEND_FLUSH
CANARY = b"\xa5" * 4096


def export(size: int = SIZE, flags: int = FLAGS) -> tuple[int, bytes]:
    return Reply.INFO, nbd.INFO_EXPORT.pack(Info.EXPORT, size, flags)


def negotiate(connection: socket.socket, *, chunks: bool = True, status: bool = False) -> None:
    """As an honest server does."""
    greet(connection)
    while True:
        option = receive_option(connection)
        if option == Option.STRUCTURED_REPLY:
            answer(connection, option, (Reply.ACK if chunks else Reply.ERR_UNSUP, b""))
        elif option == Option.SET_META_CONTEXT:
            told = [(Reply.META_CONTEXT, nbd.COUNT.pack(7) + nbd.ALLOCATION.encode())]
            answer(connection, option, *(told if status else []), (Reply.ACK, b""))
        else:
            answer(connection, option, export(), (Reply.ACK, b""))
            return


def cookie_of(connection: socket.socket) -> int:
    """Of the next request, whose payload is none."""
    request = nbd.REQUEST.unpack(receive(connection, nbd.REQUEST.size))
    return int(request[3])


def chunk(cookie: int, kind: int, payload: bytes, flags: int = nbd.CHUNK_IS_LAST) -> bytes:
    return nbd.CHUNK.pack(nbd.CHUNK_MAGIC, flags, kind, cookie, len(payload)) + payload


def data_at(offset: int, length: int, byte: bytes = b"d") -> bytes:
    return nbd.OFFSET.pack(offset) + byte * length


# The negotiation


def says(data: bytes) -> Script:
    return lambda connection: connection.sendall(data)


def answers_with(option: Option, *replies: tuple[int, bytes]) -> Script:
    """Behaves until it is asked for that option."""

    def script(connection: socket.socket) -> None:
        greet(connection)
        while (asked := receive_option(connection)) != option:
            answer(connection, asked, (Reply.ACK, b""))
        answer(connection, asked, *replies)
        receive(connection, 1)

    return script


def answers_with_bytes(data: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        greet(connection)
        receive_option(connection)
        connection.sendall(data)
        receive(connection, 1)

    return script


BLOCKS = nbd.INFO_BLOCK_SIZE
NEGOTIATIONS: dict[str, tuple[Script, str]] = {
    "no NBD": (says(b"220 smtp.example.org ready\r\n"), "it is no NBD server"),
    "oldstyle": (says(nbd.GREETING.pack(nbd.SERVER_MAGIC, 0x420281861253, 3)), "not negotiate"),
    "nothing but a magic": (says(b"NBDMAGIC"), "closed the connection"),
    "another option": (
        answers_with_bytes(nbd.OPTION_REPLY.pack(nbd.REPLY_MAGIC, 99, Reply.ACK, 0)),
        "something else",
    ),
    "another magic": (answers_with_bytes(bytes(nbd.OPTION_REPLY.size)), "something else"),
    "an endless answer": (
        answers_with_bytes(
            nbd.OPTION_REPLY.pack(nbd.REPLY_MAGIC, Option.STRUCTURED_REPLY, Reply.ACK, 2**32 - 1)
        ),
        "with 4294967295 bytes",
    ),
    "endless answers": (
        answers_with(Option.GO, *[export()] * 100),
        "does not stop answering GO",
    ),
    "no size": (answers_with(Option.GO, (Reply.ACK, b"")), "how large the export is"),
    "a huge size": (answers_with(Option.GO, export(2**63), (Reply.ACK, b"")), "cannot have"),
    "a short size": (
        answers_with(Option.GO, (Reply.INFO, b"\0\0size"), (Reply.ACK, b"")),
        "what it says of the export has 6 bytes",
    ),
    "nothing": (
        answers_with(Option.GO, (Reply.INFO, b""), (Reply.ACK, b"")),
        "what it says of the export has 0 bytes",
    ),
    "blocks of 0": (
        answers_with(
            Option.GO, export(), (Reply.INFO, BLOCKS.pack(3, 0, 4096, SIZE)), (Reply.ACK, b"")
        ),
        "make no sense",
    ),
    "blocks of 3": (
        answers_with(
            Option.GO, export(), (Reply.INFO, BLOCKS.pack(3, 3, 4096, SIZE)), (Reply.ACK, b"")
        ),
        "make no sense",
    ),
    "blocks larger than payloads": (
        answers_with(
            Option.GO, export(), (Reply.INFO, BLOCKS.pack(3, 4096, 4096, 512)), (Reply.ACK, b"")
        ),
        "make no sense",
    ),
    "half a block at the end": (
        answers_with(
            Option.GO, export(5000), (Reply.INFO, BLOCKS.pack(3, 4096, 4096, SIZE)), (1, b"")
        ),
        "the last cannot be reached",
    ),
    "TLS": (answers_with(Option.GO, (Reply.ERR_TLS_REQD, b"")), "insists on TLS"),
    "shut down": (answers_with(Option.GO, (Reply.ERR_SHUTDOWN, b"")), "is shutting down"),
    "an unknown error": (answers_with(Option.GO, ((1 << 31) + 77, b"because")), "because"),
    "a context twice": (
        answers_with(
            Option.SET_META_CONTEXT,
            *[(Reply.META_CONTEXT, nbd.COUNT.pack(7) + b"base:allocation")] * 2,
            (Reply.ACK, b""),
        ),
        "what nobody asked for",
    ),
    "another context": (
        answers_with(Option.SET_META_CONTEXT, (Reply.META_CONTEXT, nbd.COUNT.pack(7) + b"x-y:z")),
        "what nobody asked for",
    ),
}


@pytest.mark.parametrize("case", NEGOTIATIONS)
def test_negotiation_that_breaks_the_rules_is_refused(case: str, place: Path) -> None:
    script, why = NEGOTIATIONS[case]
    with scripted_server(place / "socket", script) as uri:
        with pytest.raises(ConnectError, match=why):
            connect(uri, {"timeout": 5})


def test_server_that_says_nothing_is_given_up_after_the_time_out(place: Path) -> None:
    def silent(connection: socket.socket) -> None:
        receive(connection, 1)

    with scripted_server(place / "socket", silent) as uri:
        why = r"the server says nothing; the negotiation may go on for 0\.2 s"
        with pytest.raises(ConnectError, match=why):
            connect(uri, {"timeout": "0.2"})


def test_server_that_says_a_byte_at_a_time_is_given_up(place: Path) -> None:
    def slow(connection: socket.socket) -> None:
        over = threading.Event()
        for byte in nbd.GREETING.pack(nbd.SERVER_MAGIC, nbd.OPTION_MAGIC, 3):
            connection.sendall(bytes([byte]))
            over.wait(0.1)
        receive(connection, 100)

    with scripted_server(place / "socket", slow) as uri:
        with pytest.raises(ConnectError, match=r"for 0\.3 s"):
            connect(uri, {"timeout": "0.3"})


def drips(pieces: Iterable[bytes], every_s: float = 0.1) -> Script:
    """Says one piece after the other, each in good time."""

    def script(connection: socket.socket) -> None:
        over = threading.Event()
        for piece in pieces:
            connection.sendall(piece)
            over.wait(every_s)

    return script


def test_server_that_answers_on_and_on_is_given_up_in_the_time_of_one_negotiation(
    place: Path,
) -> None:
    greeting = nbd.GREETING.pack(nbd.SERVER_MAGIC, nbd.OPTION_MAGIC, 3)
    more = nbd.OPTION_REPLY.pack(nbd.REPLY_MAGIC, Option.STRUCTURED_REPLY, 77, 0)
    with scripted_server(place / "socket", drips([greeting, *[more] * 60])) as uri:
        began = time.monotonic()
        with pytest.raises(ConnectError, match=r"the negotiation may go on for 0\.5 s"):
            connect(uri, {"open-timeout": "0.5"})
        assert time.monotonic() - began < 1.5


def test_places_of_one_host_share_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as waiting:
        full = waiting.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        place = full.getsockname()
        for _ in range(8):  # more than it keeps waiting: the next has no answer
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(place)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place)] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        began = time.monotonic()
        with pytest.raises(ConnectError, match=r"does not take the connection.* for 0\.5 s"):
            connect("nbd://somewhere/", {"open-timeout": "0.5"})
        assert time.monotonic() - began < 1.5


# The transmission


def replies(*parts: Callable[[int], bytes], chunks: bool = True) -> Script:
    """Answers a read of 1000 bytes at 5000, and goes on listening."""

    def script(connection: socket.socket) -> None:
        negotiate(connection, chunks=chunks)
        cookie = cookie_of(connection)
        for part in parts:
            connection.sendall(part(cookie))
        receive(connection, 1)

    return script


READS: dict[str, tuple[Script, str]] = {
    "another magic": (replies(lambda cookie: b"\xff" * 20), "begins no reply"),
    "another cookie": (
        replies(lambda cookie: chunk(cookie + 1, Chunk.OFFSET_DATA, data_at(5000, 1000))),
        "a request that there is not",
    ),
    "answered twice": (
        replies(lambda cookie: chunk(0, Chunk.NONE, b"")),
        "a request that there is not",
    ),
    "before the range": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(4999, 1000))),
        "which nobody asked for",
    ),
    "beyond the range": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5001, 1000))),
        "which nobody asked for",
    ),
    "more than the range": (
        replies(
            lambda cookie: nbd.CHUNK.pack(nbd.CHUNK_MAGIC, 1, Chunk.OFFSET_DATA, cookie, 2**32 - 1),
            lambda cookie: nbd.OFFSET.pack(5000),
        ),
        "which nobody asked for",
    ),
    "less than the range": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5000, 999))),
        "did not answer all of a READ",
    ),
    "nothing": (
        replies(lambda cookie: chunk(cookie, Chunk.NONE, b"")),
        "did not answer all of a READ",
    ),
    "a part twice": (
        replies(
            lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5000, 500), 0),
            lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5400, 600), 0),
        ),
        "which nobody asked for",
    ),
    "a part twice, the later first": (
        replies(
            lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5500, 100), 0),
            lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5500, 500), 0),
        ),
        "which nobody asked for",
    ),
    "overlapping parts that leave a gap": (
        replies(
            lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5500, 500), 0),
            lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5700, 100), 0),
            lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5000, 500)),
        ),
        "which nobody asked for",
    ),
    "too many parts out of order": (
        replies(
            *[
                lambda cookie, at=5999 - number: chunk(cookie, 1, data_at(at, 1), 0)
                for number in range(300)
            ]
        ),
        "which nobody asked for",
    ),
    "an empty hole": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_HOLE, nbd.HOLE.pack(5000, 0), 0)),
        "which nobody asked for",
    ),
    "a huge hole": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_HOLE, nbd.HOLE.pack(5000, 2**32 - 1))),
        "which nobody asked for",
    ),
    "a short hole": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_HOLE, b"hole")),
        "which answers nothing",
    ),
    "an unknown kind": (replies(lambda cookie: chunk(cookie, 3, b"")), "which answers nothing"),
    "a status": (
        replies(lambda cookie: chunk(cookie, Chunk.BLOCK_STATUS, bytes(12))),
        "which answers nothing",
    ),
    "a simple reply": (
        replies(lambda cookie: nbd.SIMPLE.pack(nbd.SIMPLE_MAGIC, 0, cookie) + bytes(1000)),
        "without chunks",
    ),
    "an error that is none": (
        replies(lambda cookie: chunk(cookie, Chunk.ERROR, nbd.ERROR.pack(0, 0))),
        "an error that is none",
    ),
    "an error longer than it is": (
        replies(lambda cookie: chunk(cookie, Chunk.ERROR, nbd.ERROR.pack(5, 100))),
        "an error that is none",
    ),
    "an endless error": (
        replies(lambda cookie: nbd.CHUNK.pack(nbd.CHUNK_MAGIC, 1, Chunk.ERROR, cookie, 2**32 - 1)),
        "an error of 4294967295 bytes",
    ),
    "chunks that were not agreed on": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5000, 1000)), chunks=False),
        "begins no reply",
    ),
    "the end in the middle": (
        replies(lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5000, 1000))[:100]),
        "says too little|says nothing",
    ),
}


@pytest.mark.parametrize("case", READS)
def test_reply_that_breaks_the_rules_ends_the_connection(case: str, place: Path) -> None:
    script, why = READS[case]
    target = bytearray(CANARY)
    with scripted_server(place / "socket", script) as uri:
        device = connect(uri, {"timeout": 1})
        with memoryview(target) as view, view[100:1100] as part:
            with pytest.raises(OSError, match=why):
                device.read_into(5000, part)
        with pytest.raises(OSError, match=why):
            device.flush()
        device.close()
    assert target[:100] == CANARY[:100]
    assert target[1100:] == CANARY[1100:]
    target.clear()  # nobody holds a view of it


def test_parts_in_any_order_and_holes_make_a_whole(place: Path) -> None:
    script = replies(
        lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5900, 100, b"c"), 0),
        lambda cookie: chunk(cookie, Chunk.OFFSET_HOLE, nbd.HOLE.pack(5300, 600), 0),
        lambda cookie: chunk(cookie, Chunk.OFFSET_DATA, data_at(5000, 300, b"a"), 0),
        lambda cookie: chunk(cookie, Chunk.NONE, b""),
    )
    target = bytearray(CANARY)
    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)
        device.read_into(5000, memoryview(target)[:1000])
        device.close()
    assert target[:1000] == b"a" * 300 + bytes(600) + b"c" * 100


def test_server_without_chunks_is_understood(place: Path) -> None:
    script = replies(
        lambda cookie: nbd.SIMPLE.pack(nbd.SIMPLE_MAGIC, 0, cookie) + b"s" * 1000, chunks=False
    )
    target = bytearray(1000)
    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)
        device.read_into(5000, memoryview(target))
        assert [(one.length, one.reads_as_zero) for one in device.extents(0, SIZE)] == [
            (SIZE, False)
        ]
        device.close()
    assert target == b"s" * 1000


@pytest.mark.parametrize("is_brief", [True, False])
def test_server_that_knows_no_go_is_asked_in_the_old_way(place: Path, is_brief: bool) -> None:
    def script(connection: socket.socket) -> None:
        flags = 3 if is_brief else 1
        connection.sendall(nbd.GREETING.pack(nbd.SERVER_MAGIC, nbd.OPTION_MAGIC, flags))
        assert receive(connection, 4) == struct.pack(">I", flags)
        while (option := receive_option(connection)) != Option.EXPORT_NAME:
            answer(connection, option, (Reply.ERR_UNSUP, b""))
        connection.sendall(nbd.EXPORT_ANSWER.pack(SIZE, FLAGS) + bytes(0 if is_brief else 124))
        cookie = cookie_of(connection)
        connection.sendall(nbd.SIMPLE.pack(nbd.SIMPLE_MAGIC, 0, cookie) + b"o" * 10)

    target = bytearray(10)
    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)
        assert device.size_bytes == SIZE
        device.read_into(0, memoryview(target))
        device.close()
    assert target == b"o" * 10


@pytest.mark.parametrize(
    ("number", "code"), [(1, errno.EPERM), (5, errno.EIO), (28, errno.ENOSPC), (99, errno.EINVAL)]
)
def test_error_of_the_server_is_told_and_the_connection_goes_on(
    place: Path, number: int, code: int
) -> None:
    why = b"the medium is scratched"

    def script(connection: socket.socket) -> None:
        negotiate(connection)
        payload = nbd.ERROR.pack(number, len(why)) + why
        connection.sendall(chunk(cookie_of(connection), Chunk.ERROR, payload))
        connection.sendall(nbd.SIMPLE.pack(nbd.SIMPLE_MAGIC, 0, cookie_of(connection)))

    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)
        with pytest.raises(OSError, match="refuses READ of 10 bytes at 0: the medium") as caught:
            device.read_into(0, memoryview(bytearray(10)))
        assert caught.value.errno == code
        device.flush()
        device.close()


def test_server_that_shuts_down_is_asked_no_more(place: Path) -> None:
    def script(connection: socket.socket) -> None:
        negotiate(connection)
        connection.sendall(nbd.SIMPLE.pack(nbd.SIMPLE_MAGIC, 108, cookie_of(connection)))
        assert connection.recv(100) == b""

    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)
        for _ in range(2):
            with pytest.raises(OSError, match="FLUSH") as caught:
                device.flush()
            assert caught.value.errno == errno.ESHUTDOWN
        device.close()


STATUSES: dict[str, bytes] = {
    "no extent": nbd.COUNT.pack(7),
    "half an extent": nbd.COUNT.pack(7) + bytes(4),
    "an empty extent": nbd.COUNT.pack(7) + nbd.DESCRIPTOR.pack(0, 0),
    "another context": nbd.COUNT.pack(8) + nbd.DESCRIPTOR.pack(SIZE, 0),
}


@pytest.mark.parametrize("case", STATUSES)
def test_status_that_is_none_ends_the_connection(case: str, place: Path) -> None:
    def script(connection: socket.socket) -> None:
        negotiate(connection, status=True)
        connection.sendall(chunk(cookie_of(connection), Chunk.BLOCK_STATUS, STATUSES[case]))
        receive(connection, 1)

    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)
        with pytest.raises(OSError, match="status") as caught:
            list(device.extents(0, SIZE))
        assert caught.value.errno == errno.EPROTO
        device.close()


def test_status_beyond_what_was_asked_for_is_cut(place: Path) -> None:
    def script(connection: socket.socket) -> None:
        negotiate(connection, status=True)
        told = nbd.COUNT.pack(7) + nbd.DESCRIPTOR.pack(500, 0) + nbd.DESCRIPTOR.pack(2**32 - 1, 3)
        connection.sendall(chunk(cookie_of(connection), Chunk.BLOCK_STATUS, told))

    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)
        found = [(one.offset, one.length, one.reads_as_zero) for one in device.extents(100, 900)]
        device.close()
    assert found == [(100, 500, False), (600, 400, True)]


def test_one_rule_broken_is_told_to_everybody_who_waits(place: Path) -> None:
    count = 4

    def script(connection: socket.socket) -> None:
        negotiate(connection)
        for _ in range(count):
            cookie_of(connection)
        connection.sendall(bytes(64))
        receive(connection, 1)

    errors: list[OSError] = []
    with scripted_server(place / "socket", script) as uri:
        device = connect(uri)

        def read() -> None:
            try:
                device.read_into(0, memoryview(bytearray(10)))
            except OSError as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        device.close()
    assert [error.errno for error in errors] == [errno.EPROTO] * count
