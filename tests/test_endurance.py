"""Ten GiB through every transport, each byte compared; nothing is left of them."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from tls_certificates import make_folder
from tls_pair import secured

from transship.abc import Address, Incoming, Outgoing
from transship.plugin.discovery import find_transport
from transship.testing import (
    Endured,
    check_leaves_nothing_behind,
    check_medium_leaves_nothing_behind,
    check_remote_memory_leaves_nothing_behind,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from transship.abc import Channel
    from transship.testing import MakePair

TOTAL_BYTES: Final = 10 << 30

pytestmark = pytest.mark.soak


def outgoing(uri: str) -> Outgoing:
    address = Address.parse(uri)
    return find_transport(address.scheme).start_outgoing(address, {})


def incoming(uri: str) -> Incoming:
    address = Address.parse(uri)
    return find_transport(address.scheme).start_incoming(address, {})


# Those that listen.


def listening_at(uri: str) -> MakePair:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Channel, Channel]]:
        async with incoming(uri) as listener, outgoing(listener.uri) as source:
            destination = await listener.accept()
            try:
                yield source, destination
            finally:
                await destination.aclose()

    return make


# Those whose destination waits for the first byte.


def between(prepare: Callable[[], tuple[str, str]]) -> MakePair:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Channel, Channel]]:
        target, uri = prepare()
        async with outgoing(target) as source, incoming(uri) as listener:
            await source.send_segments((b"!",))
            destination = await listener.accept()
            await destination.receive_into(memoryview(bytearray(1)))
            try:
                yield source, destination
            finally:
                await destination.aclose()

    return make


def commands(place: Path) -> tuple[str, str]:
    fifo = place / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    return f"exec:cat > {fifo}", f"exec:cat {fifo}"


def inherited(number: int) -> str:
    os.set_inheritable(number, True)
    return f"fd:{number}"


def pipe(_: Path) -> tuple[str, str]:
    reads, writes = os.pipe()
    return inherited(writes), inherited(reads)


def sockets(_: Path) -> tuple[str, str]:
    one, other = socket.socketpair()
    return inherited(one.detach()), inherited(other.detach())


WAYS: Final[dict[str, Callable[[Path], MakePair]]] = {
    "tcp": lambda _: listening_at("tcp:127.0.0.1:0"),
    "unix": lambda place: listening_at(f"unix:{place}/socket"),
    "exec": lambda place: between(partial(commands, place)),
    "fd, a pipe": lambda place: between(partial(pipe, place)),
    "fd, a socket": lambda place: between(partial(sockets, place)),
    "rdma, tcp": lambda _: listening_at("rdma:127.0.0.1:0,provider=tcp;ofi_rxm"),
    "rdma, sockets": lambda _: listening_at("rdma:127.0.0.1:0,provider=sockets"),
}


def way_of(name: str, place: Path) -> MakePair:
    if name.startswith("rdma"):
        fabric = pytest.importorskip("transship_rdma._fabric", reason="rdma is not installed")
        provider = {"rdma, tcp": "tcp;ofi_rxm", "rdma, sockets": "sockets"}[name]
        if provider not in fabric.providers_at("127.0.0.1"):
            pytest.skip(f"this libfabric has no provider {provider}")
    return WAYS[name](place)


def tell(what: str, endured: Endured | None) -> None:
    assert endured is not None
    print(f"{what}: {endured}")


@pytest.mark.parametrize("name", WAYS)
async def test_ten_gib_leave_nothing_behind(name: str, place: Path) -> None:
    tell(name, await check_leaves_nothing_behind(way_of(name, place), TOTAL_BYTES))


@pytest.mark.parametrize("name", ["tcp", "unix", "fd, a socket"])
async def test_ten_gib_over_tls_leave_nothing_behind(name: str, place: Path) -> None:
    folder = place / "pki"
    make_folder(folder)
    over_tls = secured(way_of(name, place), folder)
    tell(f"TLS over {name}", await check_leaves_nothing_behind(over_tls, TOTAL_BYTES))


@pytest.mark.parametrize("name", ["rdma, tcp", "rdma, sockets"])
async def test_ten_gib_written_remotely_leave_nothing_behind(name: str, place: Path) -> None:
    endured = await check_remote_memory_leaves_nothing_behind(way_of(name, place), TOTAL_BYTES)
    tell(f"memory over {name}", endured)


@pytest.mark.parametrize("options", ["", ",offset=0x1001"], ids=["", "from an offset"])
async def test_ten_gib_in_a_file_leave_nothing_behind(options: str, place: Path) -> None:
    uri = f"file:{place}/stream{options}"
    endured = await check_medium_leaves_nothing_behind(
        partial(outgoing, uri), partial(incoming, uri), TOTAL_BYTES
    )
    (place / "stream").unlink()
    tell(f"a file{options}", endured)
