"""A server with a few commands of its own, and a client that says exactly what it is told to."""

from __future__ import annotations

import enum
import json
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import trio

from transship.control.qapi.declaring import (
    DEPRECATED,
    Object,
    OneOf,
    Size,
    UInt8,
    UInt16,
    UInt64,
)
from transship.control.registry import CommandTable
from transship.control.server.serving import serve
from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transship.control.registry import Context
    from transship.control.server.serving import Server
    from transship.hosting.host import Host

NO_HOST = cast("Host", object())
"""For commands that ask nothing of it."""


# Types of every kind there is.


class InetMembers(Object):
    host: str
    port: str
    to: UInt16 | None = None
    ipv4: bool | None = None


class InetAddress(InetMembers, tag_field="type", tag="inet"):
    pass


class UnixAddress(Object, tag_field="type", tag="unix"):
    path: str


class RdmaAddress(InetMembers, tag_field="transport", tag="rdma"):
    pass


class ExecAddress(Object, tag_field="transport", tag="exec"):
    args: list[str]


class FileAddress(Object, tag_field="transport", tag="file"):
    filename: str
    offset: UInt64


SocketAddress: TypeAlias = Annotated[
    InetAddress | UnixAddress, OneOf("SocketAddress", by="type", case="socket")
]
MigrationAddress: TypeAlias = Annotated[
    SocketAddress | RdmaAddress | ExecAddress | FileAddress,
    OneOf("MigrationAddress", by="transport"),
]


class ChannelType(enum.Enum):
    MAIN = "main"
    CPR = "cpr"


class Channel(Object):
    channel_type: ChannelType
    addr: MigrationAddress


class Migrate(Object):
    uri: str | None = None
    channels: list[Channel] | None = None
    detach: bool = False


class Compression(enum.Enum):
    NONE = "none"
    ZLIB = "zlib"
    X_ODD = "x-odd"


class Settings(Object):
    max_bandwidth: Size | None = None
    downtime_limit: UInt64 | None = None
    multifd_channels: UInt8 | None = None
    count: int | None = None
    ratio: float | None = None
    direct_io: bool | None = None
    compression: Compression | None = None


class Text(Object):
    text: str


class Tick(Object):
    number: int


class Workshop:
    """The commands, and what the test does to them and learns from them.

    Attributes:
        table: The commands.
        log: What has been done, in order.
        gate: What ``wait`` waits for.
        tick: An event.
    """

    def __init__(self) -> None:
        self.table = CommandTable()
        self.log: list[object] = []
        self.gate = trio.Event()
        self.server: Server | None = None
        self.tick = self.table.event("TICK", Tick)
        self.idle = self.table.event("IDLE")
        self._register()

    def _register(self) -> None:
        command = self.table.command

        @command("migrate")
        async def migrate(context: Context, arguments: Migrate) -> None:
            self.log.append(arguments)

        @command("set", features=(DEPRECATED,))
        async def set_(context: Context, arguments: Settings) -> Settings:
            self.log.append(arguments)
            return arguments

        @command("say")
        async def say(context: Context, arguments: Text) -> str:
            self.log.append(arguments.text)
            return arguments.text

        @command("wait")
        async def wait(context: Context, arguments: Text) -> None:
            self.log.append(f"begin {arguments.text}")
            await self.gate.wait()
            self.log.append(f"end {arguments.text}")

        @command("say-now", oob=True)
        async def say_now(context: Context, arguments: Text) -> None:
            self.log.append(arguments.text)

        @command("wait-now", oob=True)
        async def wait_now(context: Context, arguments: Text) -> None:
            self.log.append(f"begin {arguments.text}")
            await self.gate.wait()
            self.log.append(f"end {arguments.text}")

        @command("tick")
        async def tick(context: Context, arguments: Tick) -> None:
            assert self.server is not None
            self.server.broadcast(self.tick, arguments)

        @command("refuse")
        async def refuse(context: Context) -> None:
            raise BlockedError("the guest has moved away", hint="look elsewhere")

        @command("break")
        async def break_(context: Context) -> None:
            raise RuntimeError("nobody foresaw this")

        @command("infinite")
        async def infinite(context: Context) -> float:
            return float("inf")

        @command("use-fd")
        async def use_fd(context: Context, arguments: Text) -> int:
            return context.session.descriptors.take(arguments.text)


@asynccontextmanager
async def serving(address: str, workshop: Workshop) -> AsyncIterator[Server]:
    """A server, as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        workshop.server = await nursery.start(partial(serve, address, NO_HOST, workshop.table))
        yield workshop.server
        nursery.cancel_scope.cancel()


class Client:
    """The other end of a connection: raw bytes out, parsed lines in."""

    def __init__(self, connection: trio.socket.SocketType) -> None:
        self.socket = connection
        self._received = b""

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self.socket.send(view) :]

    async def send_descriptors(self, data: bytes, *descriptors: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(map(_packed, descriptors)))]
        assert await self.socket.sendmsg([data], rights) == len(data)

    async def line(self) -> bytes:
        """The next line as it is; nothing at the end."""
        while b"\r\n" not in self._received:
            data = await self.socket.recv(65536)
            if not data:
                rest, self._received = self._received, b""
                return rest
            self._received += data
        line, _, self._received = self._received.partition(b"\r\n")
        return line + b"\r\n"

    async def read(self) -> Any:
        """The next message; None at the end."""
        line = await self.line()
        return json.loads(line) if line else None

    async def is_closed(self) -> bool:
        """Whether nothing more comes."""
        try:
            return not await self.line()
        except OSError:
            return True

    async def execute(self, command: str, key: str = "execute", **arguments: object) -> Any:
        """Give a command, and return the next message."""
        await self.send(json.dumps({key: command, "arguments": arguments}).encode())
        return await self.read()

    async def negotiate(self, *capabilities: str) -> None:
        assert "QMP" in await self.read()
        assert await self.execute("qmp_capabilities", enable=capabilities) == {"return": {}}


def _packed(descriptor: int) -> bytes:
    return descriptor.to_bytes(4, "little", signed=True)


@asynccontextmanager
async def connected(path: Path | str) -> AsyncIterator[Client]:
    """A client that has not read its greeting yet."""
    with trio.socket.socket(socket.AF_UNIX) as connection:
        await connection.connect(str(path))
        yield Client(connection)


@asynccontextmanager
async def negotiated(path: Path | str, *capabilities: str) -> AsyncIterator[Client]:
    """A client that may give commands."""
    async with connected(path) as client:
        await client.negotiate(*capabilities)
        yield client
