"""What the names in braces of a dialogue stand for."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from tls_certificates import make_folder

from .sink import swallow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


_FILE_MODES: Final = {"written": os.O_WRONLY, "read": os.O_RDONLY, "both": os.O_RDWR}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the names in braces stand for, and descriptors to be handed over."""

    names: dict[str, str]
    descriptors: dict[str, int]

    def keep(self, name: str, value: str) -> None:
        """Let a name in braces stand for a value from now on."""
        self.names[name] = value

    def filled(self, text: str) -> str:
        """Replace the names in braces."""
        for name, value in self.names.items():
            text = text.replace(f"{{{name}}}", value)
        return text


@asynccontextmanager
async def surroundings(folder: Path) -> AsyncIterator[Surroundings]:
    """Somebody who reads whatever comes, places where nobody is, and a folder."""
    sink = await _listen(folder / "sink")
    silent = await _listen(folder / "silent")
    stuck = await _listen(folder / "stuck")
    (tcp,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with ExitStack() as stack:
        nobody = stack.enter_context(socket.socket())
        idle, _ = map(stack.enter_context, socket.socketpair())
        sunk, sunk_peer = map(stack.enter_context, socket.socketpair())
        descriptors = {"idle": idle.fileno(), "sink": sunk.fileno()}
        for name, flags in _FILE_MODES.items():
            descriptors[name] = os.open(folder / "saved", flags | os.O_CREAT, 0o600)
            stack.callback(os.close, descriptors[name])
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        names = {
            "sink": f"unix:{folder}/sink",
            "silent": f"unix:{folder}/silent",
            "stuck": f"unix:{folder}/stuck",
            "sink-port": str(tcp.socket.getsockname()[1]),
            "nobody": f"unix:{folder}/nobody",
            "nobody-port": str(nobody.getsockname()[1]),
            "tmp": str(folder),
            "pki": make_folder(folder / "pki"),
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, swallow, [sink, tcp])
            nursery.start_soon(_swallow_one, sunk_peer.dup())
            taciturn = partial(swallow, says_shut=False)
            nursery.start_soon(trio.serve_listeners, taciturn, [silent])
            nursery.start_soon(trio.serve_listeners, _ignore, [stuck])
            yield Surroundings(names, descriptors)
            nursery.cancel_scope.cancel()


async def _swallow_one(connected: socket.socket) -> None:
    async with trio.SocketStream(trio.socket.from_stdlib_socket(connected)) as stream:
        await swallow(stream)


async def _listen(path: Path) -> trio.SocketListener:
    listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listening.bind(str(path))
    listening.listen()
    return trio.SocketListener(listening)


async def _ignore(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def dial(path: str, data: bytes) -> None:
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(data)
