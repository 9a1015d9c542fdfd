"""The ways that the demonstration knows, one for each scheme: what either process is told."""

from __future__ import annotations

import os
import shlex
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError
from transship.plugin.discovery import find_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from transship.abc import Options


@dataclass(frozen=True, slots=True)
class Route:
    """How a guest gets from the first process to the second.

    Args:
        incoming: Where the second process waits.
        outgoing: Where the first one sends to; None for where the second says that it waits.
        options: Of the first one's transport.
        inherited: What the second process inherits; closed here once it has it.
        is_stored: Whether the guest lies somewhere in between: the second process begins when the
            first has ended.
    """

    incoming: str
    outgoing: str | None = None
    options: Options = field(default_factory=dict)
    inherited: tuple[socket.socket, ...] = ()
    is_stored: bool = False


def route_of(transport: str, folder: str) -> AbstractContextManager[Route]:
    """The way that a scheme stands for, or a whole address.

    Args:
        transport: One of them.
        folder: For sockets, pipes and files.

    Raises:
        PluginError: Nobody carries the scheme.
        BlockedError: There is a transport for it, but no way is known.
    """
    scheme, colon, _ = transport.partition(":")
    find_transport(scheme)
    if colon:
        return _whole(transport)
    if scheme not in ROUTES:
        raise BlockedError(
            f"the demonstration knows no address for {scheme!r}",
            expected=f"{', '.join(ROUTES)}, or a whole address such as SCHEME:ADDRESS",
        )
    return ROUTES[scheme](folder)


@contextmanager
def _whole(address: str) -> Iterator[Route]:
    yield Route(address)


@contextmanager
def _by_unix(folder: str) -> Iterator[Route]:
    yield Route(f"unix:{folder}/demo.sock")


@contextmanager
def _by_tcp(folder: str) -> Iterator[Route]:
    yield Route("tcp:127.0.0.1:0")


@contextmanager
def _by_rdma(folder: str) -> Iterator[Route]:
    yield Route("rdma:127.0.0.1:0")


@contextmanager
def _by_exec(folder: str) -> Iterator[Route]:
    """A command on either side, and a named pipe between the two."""
    pipe = f"{folder}/demo.pipe"
    os.mkfifo(pipe, 0o600)
    quoted = shlex.quote(pipe)
    yield Route(f"exec:cat {quoted}", f"exec:cat > {quoted}")


@contextmanager
def _by_fd(folder: str) -> Iterator[Route]:
    """A pair of sockets, of which the second process inherits one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Route(
            f"fd:{theirs.fileno()}",
            f"fd:{ours.fileno()}",
            {"descriptor": ours.fileno()},
            inherited=(theirs,),
        )


@contextmanager
def _by_file(folder: str) -> Iterator[Route]:
    path = f"file:{folder}/demo.stream"
    yield Route(path, path, is_stored=True)


ROUTES: Final[Mapping[str, Callable[[str], AbstractContextManager[Route]]]] = {
    "unix": _by_unix,
    "tcp": _by_tcp,
    "exec": _by_exec,
    "fd": _by_fd,
    "file": _by_file,
    "rdma": _by_rdma,
}
"""By scheme."""
