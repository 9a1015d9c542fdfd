"""NBD as it is on the wire, for peers that say whatever a test wants."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

from nbd_peers import PATIENCE_S

from transship_nbd import _protocol as nbd
from transship_nbd._protocol import Option, Reply

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from types import TracebackType


def string(text: bytes) -> bytes:
    return nbd.COUNT.pack(len(text)) + text


# A client


class Client:
    """Says whatever a test wants."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            some = self.socket.recv(length - len(data))
            if not some:
                raise ConnectionResetError("the server has left")
            data += some
        return data

    def greet(self, flags: int = 3) -> None:
        """Answer the greeting of our server."""
        magic, second, offered = nbd.GREETING.unpack(self.receive(nbd.GREETING.size))
        assert (magic, second, offered) == (nbd.SERVER_MAGIC, nbd.OPTION_MAGIC, 3)
        self.socket.sendall(nbd.CLIENT_FLAGS.pack(flags))

    def ask(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """All replies to an option, the final one last."""
        self.socket.sendall(nbd.OPTION.pack(nbd.OPTION_MAGIC, option, len(data)) + data)
        replies = []
        while True:
            header = self.receive(nbd.OPTION_REPLY.size)
            magic, answered, kind, length = nbd.OPTION_REPLY.unpack(header)
            assert (magic, answered) == (nbd.REPLY_MAGIC, option)
            replies.append((kind, self.receive(length)))
            if kind == Reply.ACK or kind & nbd.REPLY_IS_ERROR:
                return replies

    def go(self, name: bytes = b"disk", *, chunks: bool = False) -> None:
        self.greet()
        if chunks:
            assert self.ask(Option.STRUCTURED_REPLY) == [(Reply.ACK, b"")]
        assert self.ask(Option.GO, string(name) + b"\0\0")[-1] == (Reply.ACK, b"")

    def request(
        self, command: int, offset: int, length: int, payload: bytes = b"", flags: int = 0
    ) -> int:
        """The error in a simple reply."""
        self.socket.sendall(
            nbd.REQUEST.pack(nbd.REQUEST_MAGIC, flags, command, 77, offset, length) + payload
        )
        magic, error, cookie = nbd.SIMPLE.unpack(self.receive(nbd.SIMPLE.size))
        assert (magic, cookie) == (nbd.SIMPLE_MAGIC, 77)
        return int(error)

    def is_dropped(self) -> bool:
        try:
            return not self.socket.recv(1)
        except ConnectionError:
            return True

    def start_tls(self, context: ssl.SSLContext, hostname: str = "localhost") -> None:
        """Go over to TLS as Python does it by itself."""
        assert self.ask(Option.STARTTLS) == [(Reply.ACK, b"")]
        self.socket = context.wrap_socket(
            self.socket, server_hostname=hostname, suppress_ragged_eofs=False
        )


# A server


def receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        some = connection.recv(length - len(data))
        if not some:
            raise ConnectionResetError("the client has left")
        data += some
    return data


def greet(connection: socket.socket) -> None:
    connection.sendall(nbd.GREETING.pack(nbd.SERVER_MAGIC, nbd.OPTION_MAGIC, 3))
    receive(connection, 4)


def answer(connection: socket.socket, option: int, *replies: tuple[int, bytes]) -> None:
    for kind, data in replies:
        header = nbd.OPTION_REPLY.pack(nbd.REPLY_MAGIC, option, kind, len(data))
        connection.sendall(header + data)


def receive_option(connection: socket.socket) -> int:
    _, option, length = nbd.OPTION.unpack(receive(connection, nbd.OPTION.size))
    receive(connection, length)
    return int(option)
