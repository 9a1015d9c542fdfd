"""All ways a guest can go from one side to the other, for tests of what they have in common."""

from __future__ import annotations

import importlib.util
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from tls_certificates import SERVER, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Addresses:
    """Where one passage goes.

    Args:
        uri: Where the destination is.
        target: Where the source goes; None for what the listener says.
        descriptors: Those that both inherit.
    """

    uri: str
    target: str | None = None
    descriptors: tuple[int, ...] = ()

    def close_untouched(self) -> None:
        """Close what nobody came to use, and another could; what was taken is not inherited."""
        for number in self.descriptors:
            with suppress(OSError):
                if os.get_inheritable(number):
                    os.close(number)


@dataclass(frozen=True)
class Way:
    """How a guest goes.

    Args:
        prepare: Makes addresses in an empty folder.
        is_stored: Whether it is written whole, and then read.
        capabilities: Of both sides.
        is_secured: Whether it goes over TLS.
        provider: What libfabric must have.
    """

    prepare: Callable[[Path], Addresses]
    is_stored: bool = False
    capabilities: frozenset[str] = frozenset()
    is_secured: bool = False
    provider: str | None = None

    def skip_if_missing(self) -> None:
        """Skip the test where the way does not exist."""
        if self.provider is not None:
            if importlib.util.find_spec("transship_rdma") is None:
                pytest.skip("transship-rdma is not installed")
            from transship_rdma import _fabric

            if self.provider not in _fabric.providers_at("127.0.0.1"):
                pytest.skip(f"this libfabric has no provider {self.provider}")

    def parameters(self, place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the source, and of the destination."""
        if not self.is_secured:
            return {}, {}
        folder = place / "pki"
        credentials = f"{folder}/" if folder.exists() else make_folder(folder)
        return {"tls_creds": credentials, "tls_hostname": SERVER}, {"tls_creds": credentials}


def inherited(number: int) -> str:
    """The address of a descriptor, which is as one that the process was started with."""
    os.set_inheritable(number, True)
    return f"fd:{number}"


def _fifo(path: Path) -> Path:
    if not path.exists():
        os.mkfifo(path)
    return path


def _commands(place: Path) -> Addresses:
    fifo = _fifo(place / "fifo")
    return Addresses(f"exec:cat {fifo}", f"exec:cat > {fifo}")


def _commands_both_ways(place: Path) -> Addresses:
    there, back = _fifo(place / "there"), _fifo(place / "back")
    return Addresses(
        f"exec:cat {there} & exec cat > {back}",
        f"exec:cat {back} & exec cat > {there}",
    )


def _pipe(_: Path) -> Addresses:
    reads, writes = os.pipe()
    return Addresses(inherited(reads), inherited(writes), (reads, writes))


def _sockets(_: Path) -> Addresses:
    one, other = (end.detach() for end in socket.socketpair())
    return Addresses(inherited(one), inherited(other), (one, other))


def _file(place: Path) -> Addresses:
    uri = f"file:{place}/stream,offset=64k"
    return Addresses(uri, uri)


def _fabric(provider: str) -> Way:
    uri = f"rdma:127.0.0.1:0,provider={provider}"
    return Way(lambda _: Addresses(uri), provider=provider)


WAYS: Final = {
    "tcp": Way(lambda _: Addresses("tcp:127.0.0.1:0")),
    "unix": Way(lambda place: Addresses(f"unix:{place}/socket")),
    "exec": Way(_commands),
    "exec, and back": Way(_commands_both_ways, capabilities=frozenset({"return-path"})),
    "fd, a pipe": Way(_pipe),
    "fd, a socket": Way(_sockets),
    "file": Way(_file, is_stored=True),
    "rdma, tcp": _fabric("tcp;ofi_rxm"),
    "rdma, sockets": _fabric("sockets"),
    "TLS over tcp": Way(lambda _: Addresses("tcp:127.0.0.1:0"), is_secured=True),
    "TLS over unix": Way(lambda place: Addresses(f"unix:{place}/socket"), is_secured=True),
    "TLS over fd": Way(_sockets, is_secured=True),
}
"""By a name for people."""

all_ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
