"""What our server does for its clients, good and bad, and what is left when it ends."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from nbd_peers import PATIENCE_S, Exporting, owned
from nbd_raw import Client, string

from transship.abc import Disk
from transship.disks import GuestView, LoadView, RawImage
from transship.errors import BlockedError, ConnectError
from transship.testing.memory_device import HeldDevice, MemoryDevice
from transship_nbd import _protocol as nbd
from transship_nbd._protocol import Chunk, Command, CommandFlag, Info, Option, Reply
from transship_nbd.client import connect
from transship_nbd.server import Export, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transship_nbd.client import NbdDevice

SIZE = 4 << 20


@pytest.fixture
def device() -> MemoryDevice:
    device = MemoryDevice(SIZE)
    device.acquire()
    return device


@pytest.fixture
def server(device: MemoryDevice, place: Path) -> Iterator[Exporting]:
    exports = {"disk": Export(device, description="a disk"), "other": Export(MemoryDevice(SIZE))}
    with Exporting(exports, f"{place}/socket") as server:
        yield server


@pytest.fixture
def client(server: Exporting, place: Path) -> Iterator[Client]:
    client = Client(place / "socket")
    yield client
    client.socket.close()


def read(device: NbdDevice, offset: int, length: int) -> bytes:
    data = bytearray(length)
    device.read_into(offset, memoryview(data))
    return bytes(data)


# The negotiation


def test_exports_are_listed_with_their_descriptions(client: Client) -> None:
    client.greet()
    assert client.ask(Option.LIST) == [
        (Reply.SERVER, string(b"disk") + b"a disk"),
        (Reply.SERVER, string(b"other")),
        (Reply.ACK, b""),
    ]


def test_export_is_told_of_before_it_is_chosen(client: Client) -> None:
    client.greet()
    asked = nbd.INFO_KIND.pack(1) + nbd.INFO_KIND.pack(Info.DESCRIPTION)
    replies = {
        nbd.INFO_KIND.unpack_from(said)[0]: said
        for kind, said in client.ask(Option.INFO, string(b"disk") + asked)
        if kind == Reply.INFO
    }
    assert nbd.INFO_EXPORT.unpack(replies[Info.EXPORT])[1] == SIZE
    assert nbd.INFO_BLOCK_SIZE.unpack(replies[Info.BLOCK_SIZE])[1:] == (1, 4096, 32 << 20)
    assert replies[Info.DESCRIPTION][2:] == b"a disk"


def test_only_export_has_no_need_of_a_name(place: Path, device: MemoryDevice) -> None:
    with Exporting({"disk": Export(device)}, f"{place}/socket"):
        other = owned(f"nbd+unix:///?socket={place}/socket")
        assert other.size_bytes == SIZE
        other.close()


def test_client_of_long_ago_is_served(client: Client, device: MemoryDevice) -> None:
    device.write(0, b"old times")
    client.greet(0)
    client.socket.sendall(nbd.OPTION.pack(nbd.OPTION_MAGIC, Option.EXPORT_NAME, 4) + b"disk")
    size, _ = nbd.EXPORT_ANSWER.unpack(client.receive(nbd.EXPORT_ANSWER.size))
    assert (size, client.receive(nbd.ZEROES_BYTES)) == (SIZE, bytes(nbd.ZEROES_BYTES))
    assert client.request(Command.READ, 0, 9) == 0
    assert client.receive(9) == b"old times"


@pytest.mark.parametrize(
    ("option", "data", "refusal"),
    [
        (Option.STARTTLS, b"", Reply.ERR_POLICY),
        (11, b"", Reply.ERR_UNSUP),
        (Option.LIST, b"x", Reply.ERR_INVALID),
        (Option.GO, string(b"nobody") + b"\0\0", Reply.ERR_UNKNOWN),
        (Option.GO, b"", Reply.ERR_INVALID),
        (Option.GO, nbd.COUNT.pack(2**32 - 1) + b"disk", Reply.ERR_INVALID),
        (Option.GO, string(b"disk") + b"\xff\xff", Reply.ERR_INVALID),
        (Option.GO, string(b"disk") + b"\0\0more", Reply.ERR_INVALID),
        (Option.GO, string(b"\xff\xfe") + b"\0\0", Reply.ERR_INVALID),
        (Option.SET_META_CONTEXT, string(b"disk") + nbd.COUNT.pack(0), Reply.ERR_INVALID),
        (Option.LIST_META_CONTEXT, string(b"disk") + nbd.COUNT.pack(2**32 - 1), Reply.ERR_INVALID),
        (Option.LIST_META_CONTEXT, string(b"nobody") + nbd.COUNT.pack(0), Reply.ERR_UNKNOWN),
    ],
)
def test_option_that_makes_no_sense_is_refused_and_the_next_is_answered(
    client: Client, option: int, data: bytes, refusal: int
) -> None:
    client.greet()
    (kind, why), *more = client.ask(option, data)
    assert (kind, more) == (refusal, [])
    assert why.decode().isprintable()
    assert client.ask(Option.LIST)[-1] == (Reply.ACK, b"")


def test_client_may_leave_in_the_negotiation(client: Client) -> None:
    client.greet()
    assert client.ask(Option.ABORT) == [(Reply.ACK, b"")]
    assert client.is_dropped()


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff",
        nbd.CLIENT_FLAGS.pack(3) + b"GET / HTTP/1.1\r\n",
        nbd.CLIENT_FLAGS.pack(3) + nbd.OPTION.pack(nbd.OPTION_MAGIC, Option.LIST, 2**32 - 1),
        nbd.CLIENT_FLAGS.pack(3) + nbd.OPTION.pack(nbd.OPTION_MAGIC, Option.EXPORT_NAME, 1) + b"?",
        nbd.CLIENT_FLAGS.pack(3) + nbd.OPTION.pack(nbd.OPTION_MAGIC, 99, 0) * 65,
    ],
    ids=["flags", "no option", "an endless option", "no such export", "options without end"],
)
def test_client_that_breaks_the_rules_is_dropped_and_the_next_is_served(
    client: Client, server: Exporting, said: bytes
) -> None:
    client.receive(nbd.GREETING.size)
    client.socket.sendall(said)
    while not client.is_dropped():
        pass
    good = owned(server.uri)
    assert good.size_bytes == SIZE
    good.close()


def test_client_that_says_nothing_is_dropped(
    place: Path, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_nbd.server._STALL_S", 0.3)
    with Exporting({"disk": Export(device)}, f"{place}/socket") as server:
        silent = Client(place / "socket")
        silent.receive(nbd.GREETING.size)
        begun = time.monotonic()
        assert silent.is_dropped()
        assert time.monotonic() - begun < 5
        halfway = Client(place / "socket")
        halfway.go()
        halfway.socket.sendall(b"\x25")
        assert halfway.is_dropped()
        idle = Client(place / "socket")
        idle.go()
        time.sleep(0.7)  # between messages a client may take its time
        assert idle.request(Command.FLUSH, 0, 0) == 0
        assert server.server.clients == 1
        for one in (silent, halfway, idle):
            one.socket.close()


# Requests


@pytest.mark.parametrize(
    ("command", "offset", "length", "flags", "code"),
    [
        (99, 0, 0, 0, errno.EINVAL),
        (Command.READ, SIZE - 5, 10, 0, errno.EINVAL),
        (Command.READ, 2**64 - 1, 10, 0, errno.EINVAL),
        (Command.READ, 0, 2**32 - 1, 0, errno.EINVAL),
        (Command.READ, 0, 10, 1 << 9, errno.EINVAL),
        (Command.READ, 0, 10, CommandFlag.NO_HOLE, errno.EINVAL),
        (Command.WRITE_ZEROES, SIZE, 1, 0, errno.ENOSPC),
        (Command.WRITE_ZEROES, 0, 1, 1 << 4, errno.EINVAL),
        (Command.TRIM, 2**63, 1, 0, errno.ENOSPC),
        (Command.BLOCK_STATUS, 0, 512, 0, errno.EINVAL),
    ],
)
def test_request_that_cannot_be_done_is_refused_and_the_next_is_done(
    client: Client,
    device: MemoryDevice,
    command: int,
    offset: int,
    length: int,
    flags: int,
    code: int,
) -> None:
    client.go()
    assert client.request(command, offset, length, flags=flags) == code
    assert client.request(Command.WRITE, 0, 4, b"next") == 0
    assert device.medium.data[:4] == b"next"
    assert device.calls.count("write") == 1


def test_write_beyond_the_end_is_refused_and_its_payload_passed_over(
    client: Client, device: MemoryDevice
) -> None:
    client.go()
    assert client.request(Command.WRITE, SIZE - 2, 4, b"over") == errno.ENOSPC
    assert client.request(Command.WRITE, SIZE - 4, 4, b"fits") == 0
    assert device.medium.data[-4:] == b"fits"


def test_error_of_the_device_is_told_with_its_reason(
    server: Exporting, device: MemoryDevice
) -> None:
    device.failing = {"write"}
    client = owned(server.uri)
    with pytest.raises(OSError, match="refuses WRITE of 4 bytes at 8: Input/output") as caught:
        client.write(8, b"data")
    assert caught.value.errno == errno.EIO
    device.failing = set()
    client.write(8, b"data")
    client.close()


def test_device_with_a_fault_fails_a_request_and_not_the_server(
    server: Exporting, device: MemoryDevice, caplog: pytest.LogCaptureFixture
) -> None:
    device.medium.owner = None  # a write is an AssertionError now
    client = owned(server.uri)
    with pytest.raises(OSError, match="the device failed"):
        client.write(0, b"data")
    assert "AssertionError" in caplog.text
    device.acquire()
    client.write(0, b"data")
    client.close()


@pytest.mark.parametrize(
    ("command", "payload"),
    [(Command.WRITE, b"data"), (Command.WRITE_ZEROES, b""), (Command.TRIM, b"")],
)
def test_write_that_is_to_be_durable_is_flushed_before_it_is_acknowledged(
    client: Client, device: MemoryDevice, command: int, payload: bytes
) -> None:
    client.go()
    assert client.request(command, 0, 4, payload) == 0
    assert "flush" not in device.calls
    assert client.request(command, 0, 4, payload, flags=CommandFlag.FUA) == 0
    assert device.calls[-1] == "flush"


def test_zeroes_without_holes_are_written(place: Path) -> None:
    image = RawImage.create(place / "disk", SIZE)
    image.acquire()
    try:
        with Exporting({"disk": Export(image)}, f"{place}/socket"):
            client = Client(place / "socket")
            client.go()
            assert client.request(Command.WRITE_ZEROES, 0, 3 << 20) == 0
            assert (place / "disk").stat().st_blocks == 0
            flags = CommandFlag.NO_HOLE
            assert client.request(Command.WRITE_ZEROES, 0, 3 << 20, flags=flags) == 0
            assert (place / "disk").stat().st_blocks * 512 >= 3 << 20
            client.socket.close()
    finally:
        image.close()


@pytest.mark.parametrize("flags", [0, CommandFlag.DF])
def test_read_comes_in_one_chunk(client: Client, device: MemoryDevice, flags: int) -> None:
    device.write(1000, b"whole")
    client.go(chunks=True)
    client.socket.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, flags, Command.READ, 5, 0, 70_000))
    header = nbd.CHUNK.unpack(client.receive(nbd.CHUNK.size))
    assert header == (nbd.CHUNK_MAGIC, 1, Chunk.OFFSET_DATA, 5, 70_008)
    payload = client.receive(70_008)
    assert payload[8:] == device.medium.data[:70_000]


def test_status_of_one_extent_if_one_is_wanted(place: Path) -> None:
    image = RawImage.create(place / "disk", SIZE)
    image.acquire()
    try:
        image.write(1 << 20, b"x" * 4096)
        with Exporting({"disk": Export(image)}, f"{place}/socket"):
            client = Client(place / "socket")
            client.greet()
            client.ask(Option.STRUCTURED_REPLY)
            query = string(b"disk") + nbd.COUNT.pack(1) + string(nbd.ALLOCATION.encode())
            (_, context), _ = client.ask(Option.SET_META_CONTEXT, query)
            client.ask(Option.GO, string(b"disk") + b"\0\0")
            lengths = []
            for flags in (CommandFlag(0), CommandFlag.REQ_ONE):
                client.socket.sendall(
                    nbd.REQUEST.pack(nbd.REQUEST_MAGIC, flags, Command.BLOCK_STATUS, 5, 0, SIZE)
                )
                *_, length = nbd.CHUNK.unpack(client.receive(nbd.CHUNK.size))
                payload = client.receive(length)
                assert payload[:4] == context[:4]
                lengths.append([size for size, _ in nbd.DESCRIPTOR.iter_unpack(payload[4:])])
            assert lengths == [[1 << 20, 4096, SIZE - (1 << 20) - 4096], [1 << 20]]
            client.socket.close()
    finally:
        image.close()


@pytest.mark.parametrize(
    "said",
    [
        bytes(nbd.REQUEST.size),
        nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, Command.WRITE, 1, 0, (32 << 20) + 1),
        nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, Command.DISC, 1, 0, 0),
    ],
    ids=["no request", "a huge write", "farewell"],
)
def test_client_that_is_done_with_is_disconnected(
    client: Client, server: Exporting, said: bytes
) -> None:
    client.go()
    client.socket.sendall(said)
    assert client.is_dropped()
    good = owned(server.uri)
    assert read(good, 0, 1) == b"\0"
    good.close()


def test_client_that_dies_in_a_write_changes_nothing(
    client: Client, server: Exporting, device: MemoryDevice
) -> None:
    client.go()
    header = nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, Command.WRITE, 1, 0, 4096)
    client.socket.sendall(header + b"x" * 4000)
    client.socket.close()
    good = owned(server.uri)
    good.write(8192, b"fine")
    good.close()
    assert device.calls.count("write") == 1
    assert not any(device.medium.data[:4096])


def test_read_only_export_refuses_writes(place: Path, device: MemoryDevice) -> None:
    with Exporting({"disk": Export(device, is_read_only=True)}, f"{place}/socket"):
        client = Client(place / "socket")
        client.go()
        assert client.request(Command.WRITE, 0, 4, b"data") == errno.EPERM
        assert client.request(Command.WRITE_ZEROES, 0, 4) == errno.EPERM
        assert client.request(Command.TRIM, 0, 4) == errno.EPERM
        assert client.request(Command.READ, 0, 4) == 0
        client.socket.close()
    assert not any(device.medium.data[:4])


# A guest's disk


def test_writes_to_a_guests_disk_are_logged_and_refused_when_it_is_handed_over(
    place: Path,
) -> None:
    disk = Disk("drive", MemoryDevice(SIZE))
    disk.activate()
    log = disk.start_log(65_536)
    with Exporting({"drive": Export(GuestView(disk))}, f"{place}/socket") as server:
        client = owned(server.uri)
        client.write(3 * 65_536, b"logged")
        assert log.count_dirty() == 1
        disk.inactivate()
        with pytest.raises(OSError, match="is not active here") as caught:
            client.write(0, b"late")
        assert caught.value.errno == errno.EPERM
        assert read(client, 3 * 65_536, 6) == b"logged"
        client.close()
    log.stop()


def test_disk_is_filled_before_the_guest_comes_and_not_after(place: Path) -> None:
    disk = Disk("drive", MemoryDevice(SIZE))
    with Exporting({"drive": Export(LoadView(disk.start_load()))}, f"{place}/socket") as server:
        client = owned(server.uri)
        client.write(100, b"mirrored")
        client.write_zeroes(104, 2)
        client.discard(0, 50)
        client.flush()
        disk.activate()
        with pytest.raises(OSError, match="nothing can be loaded"):
            client.write(0, b"late")
        client.close()
    target = bytearray(8)
    disk.read_into(100, memoryview(target))
    assert target == b"mirr\0\0ed"


# Exports that come and go


async def in_thread(function: Callable[..., Any], *arguments: object) -> Any:
    return await trio.to_thread.run_sync(partial(function, *arguments))


async def test_export_is_had_from_when_it_comes_until_it_is_withdrawn(place: Path) -> None:
    device, other = MemoryDevice(SIZE), MemoryDevice(SIZE)
    device.acquire()
    async with serve(f"nbd+unix:///?socket={place}/socket", {}) as server:
        server.export("other", other, is_writable=False)
        with pytest.raises(ConnectError):
            await in_thread(connect, server.uri_of("disk"))
        server.export("disk", device, is_writable=True)
        client = await in_thread(owned, server.uri_of("disk"))
        await in_thread(client.write, 0, b"x")
        reader = await in_thread(connect, server.uri_of("other"))
        assert reader.is_read_only
        assert server.clients == 2
        await server.withdraw("disk")
        device.release()
        with pytest.raises(OSError, match=r"nbd"):
            await in_thread(client.write, 0, b"y")
        assert device.medium.data[0] == ord("x")
        with pytest.raises(ConnectError):
            await in_thread(connect, server.uri_of("disk"))
        assert await in_thread(read, reader, 0, 1) == b"\0"
        await server.withdraw("disk")
        server.export("disk", other, is_writable=False)
        for one in (client, reader):
            await in_thread(one.close)


async def test_withdrawing_waits_for_a_request_that_has_begun(place: Path) -> None:
    device = HeldDevice(SIZE)
    device.acquire()
    async with serve(f"nbd+unix:///?socket={place}/socket", {}) as server:
        server.export("disk", device, is_writable=True)
        client = await in_thread(owned, server.uri_of("disk"))
        is_withdrawn = trio.Event()

        async def withdraw() -> None:
            await server.withdraw("disk")
            is_withdrawn.set()

        async def write_something() -> None:
            with suppress(OSError):  # its answer may find nobody any more
                await in_thread(client.write, 0, b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_something)
            assert await in_thread(device.has_begun.wait, PATIENCE_S)
            with trio.move_on_after(0.1):  # what is given up is waited for by the next
                await server.withdraw("disk")
            with pytest.raises(BlockedError, match="already"):
                server.export("disk", device, is_writable=True)
            nursery.start_soon(withdraw)
            await trio.sleep(0.1)
            assert not is_withdrawn.is_set()
            device.may_go_on.set()
            with trio.fail_after(PATIENCE_S):
                await is_withdrawn.wait()
        assert device.medium.data[0] == ord("x")
        await in_thread(client.close)


async def test_export_whose_name_is_taken_or_too_long_is_refused(place: Path) -> None:
    async with serve(f"nbd+unix:///?socket={place}/socket", {}) as server:
        server.export("disk", MemoryDevice(SIZE), is_writable=False)
        with pytest.raises(BlockedError, match="'disk' already"):
            server.export("disk", MemoryDevice(SIZE), is_writable=False)
        with pytest.raises(BlockedError, match="at most 4096 bytes"):
            server.export("d" * 4097, MemoryDevice(SIZE), is_writable=False)


async def test_server_has_no_options(place: Path) -> None:
    with pytest.raises(BlockedError, match="expected none; found 'backlog'"):
        async with serve(f"nbd+unix:///?socket={place}/socket", {}, {"backlog": 1}):
            pass


# Beginning and ending


async def test_socket_file_is_private_and_goes_with_the_server(place: Path) -> None:
    path = place / "socket"
    async with serve(f"nbd+unix:///?socket={path}", {}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_abstract_socket_and_free_port_can_be_had(device: MemoryDevice) -> None:
    for uri in (f"nbd+unix:///?socket=%00nbd-{os.getpid()}", "nbd://127.0.0.1:0", "nbd://[::1]:0"):
        async with serve(uri, {"disk": Export(device)}) as server:
            client = await trio.to_thread.run_sync(owned, server.uri_of("disk"))
            assert client.size_bytes == SIZE
            client.close()


async def test_address_in_use_is_refused(place: Path) -> None:
    async with serve("nbd://127.0.0.1:0", {}) as server:
        with pytest.raises(ConnectError, match="Address already in use"):
            async with serve(server.uri_of(""), {}):
                raise AssertionError("two servers on one port")


async def test_malformed_address_is_refused() -> None:
    with pytest.raises(BlockedError):
        async with serve("tcp:127.0.0.1:0", {}):
            raise AssertionError("no such server")


async def test_error_within_comes_out_as_it_is(place: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with serve(f"nbd+unix:///?socket={place}/socket", {}):
            raise ZeroDivisionError


async def test_cancelling_disconnects_and_waits_for_writes_that_have_begun(place: Path) -> None:
    device = HeldDevice(SIZE)
    device.acquire()
    errors: list[OSError] = []
    opened = len(os.listdir("/proc/self/fd"))

    def write(uri: str) -> None:
        client = owned(uri)
        try:
            client.write(0, b"begun")
        except OSError as error:
            errors.append(error)
        client.close()

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(PATIENCE_S) as scope:
            async with serve(f"nbd+unix:///?socket={place}/socket", {"": Export(device)}) as server:
                nursery.start_soon(trio.to_thread.run_sync, write, server.uri_of(""))
                await trio.to_thread.run_sync(device.has_begun.wait)
                threading.Timer(0.2, device.may_go_on.set).start()
                scope.cancel()
                await trio.sleep_forever()
        assert device.medium.data[:5] == b"begun"
    assert len(errors) == 1
    assert len(os.listdir("/proc/self/fd")) == opened


async def test_clients_beyond_the_limit_wait_for_their_turn(
    place: Path, device: MemoryDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transship_nbd.server._CLIENTS", 2)
    uri = f"nbd+unix:///disk?socket={place}/socket"
    async with serve(uri, {"disk": Export(device)}) as server:
        first = [await trio.to_thread.run_sync(connect, uri) for _ in range(2)]
        with pytest.raises(ConnectError, match="says nothing"):
            await trio.to_thread.run_sync(connect, uri, {"timeout": "0.3"})
        first.pop().close()
        third = await trio.to_thread.run_sync(connect, uri)
        assert server.clients == 2
        for one in (*first, third):
            one.close()
