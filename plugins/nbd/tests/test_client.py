"""What a guest's disk can do wrong while a real qemu-nbd holds it."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from nbd_peers import PATIENCE_S, QEMU_NBD_MISSING, QemuNbd, make_image, owned

from transship.abc import Address, Disk, Extent
from transship.errors import BlockedError, ConnectError, LocalError
from transship.plugin.discovery import find_block_devices
from transship_nbd._protocol import Command
from transship_nbd.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transship_nbd._connection import Connection
    from transship_nbd.client import NbdDevice

MIB = 1 << 20
SIZE = 8 * MIB

pytestmark = pytest.mark.skipif(QEMU_NBD_MISSING, reason="qemu-nbd or qemu-img is not installed")


@pytest.fixture
def server(place: Path) -> Iterator[QemuNbd]:
    with QemuNbd(make_image(place / "disk", SIZE, "qcow2"), "qcow2", place / "socket") as server:
        yield server


@pytest.fixture
def device(server: QemuNbd) -> Iterator[NbdDevice]:
    device = owned(server.uri, {"timeout": 5})
    yield device
    device.close()


def read(device: NbdDevice, offset: int, length: int) -> bytes:
    data = bytearray(length)
    device.read_into(offset, memoryview(data))
    return bytes(data)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Finding it


def test_core_finds_the_plugin_by_the_scheme(server: QemuNbd) -> None:
    device = find_block_devices("nbd+unix").open(Address.parse(server.uri), {})
    try:
        assert device.size_bytes == SIZE
    finally:
        device.close()


def test_server_that_is_not_there_is_a_refusal_that_names_it(place: Path) -> None:
    with pytest.raises(ConnectError, match=r"nbd\+unix:.*/nobody: No such file"):
        connect(f"nbd+unix:///?socket={place}/nobody")


def test_export_that_is_not_there_is_a_refusal_that_says_so(server: QemuNbd) -> None:
    with pytest.raises(ConnectError, match=r"it has no such export: .*other"):
        connect(server.uri.replace("/disk?", "/other?"))


def test_unknown_option_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(BlockedError):
        connect("nbd://127.0.0.1:1/", {"speed": 1})


# What is in it


def test_image_of_qemu_has_what_was_written(place: Path) -> None:
    image = make_image(place / "disk", SIZE, "raw")
    with QemuNbd(image, "raw", place / "socket") as server:
        device = owned(server.uri)
        device.acquire()
        device.write(12_345, b"a guest was here")
        device.write_zeroes(0, 4096)
        device.release()
        device.close()
    expected = bytearray(SIZE)
    expected[12_345 : 12_345 + 16] = b"a guest was here"
    assert image.read_bytes() == expected


def test_request_longer_than_the_server_takes_is_cut(place: Path) -> None:
    large = 80 * MIB
    with QemuNbd(make_image(place / "disk", large, "raw"), "raw", place / "socket") as server:
        device = owned(server.uri)
        pattern = os.urandom(65_536) * (70 * MIB // 65_536)
        device.write(5, pattern)
        assert read(device, 5, len(pattern)) == pattern
        device.write_zeroes(0, large)
        assert not any(read(device, 0, large))
        device.close()


def test_holes_are_told(device: NbdDevice) -> None:
    device.write(MIB, b"x" * 65_536)
    extents = list(device.extents(0, SIZE))
    assert [(one.offset, one.length) for one in extents if not one.reads_as_zero] == [(MIB, 65_536)]
    assert all(one.is_allocated for one in extents)


def test_what_an_overlay_takes_from_its_base_is_told(place: Path) -> None:
    base = make_image(place / "base", SIZE, "qcow2")
    with QemuNbd(base, "qcow2", place / "base-socket") as server:
        device = owned(server.uri)
        device.write(MIB, b"base" * (MIB // 4))
        device.release()
        device.close()
    overlay = make_image(place / "over", SIZE, "qcow2", "-b", str(base), "-F", "qcow2")
    with QemuNbd(overlay, "qcow2", place / "socket", "-A") as server:
        device = owned(server.uri)
        device.write(2 * MIB, b"x" * MIB)
        assert list(device.extents(MIB, 3 * MIB)) == [
            Extent(MIB, MIB, is_allocated=False, reads_as_zero=False),
            Extent(2 * MIB, MIB, is_allocated=True, reads_as_zero=False),
            Extent(3 * MIB, MIB, is_allocated=False, reads_as_zero=True),
        ]
        device.close()


def test_read_only_export_can_be_read_and_not_written(place: Path) -> None:
    image = make_image(place / "disk", SIZE, "raw")
    with QemuNbd(image, "raw", place / "socket", "-r") as server:
        device = owned(server.uri)
        assert device.is_read_only
        device.acquire()
        assert read(device, 0, 100) == bytes(100)
        calls: tuple[Callable[[], None], ...] = (
            lambda: device.write(0, b"no"),
            lambda: device.write_zeroes(0, 512),
            lambda: device.discard(0, 512),
        )
        for call in calls:
            with pytest.raises(OSError, match="read-only") as caught:
                call()
            assert caught.value.errno == errno.EROFS
        device.release()
        device.close()


# Many at once


def test_threads_share_one_connection(device: NbdDevice) -> None:
    before = descriptors()
    barrier = threading.Barrier(8, timeout=PATIENCE_S)
    counting = threading.Lock()  # who counts has a descriptor of the list open

    def work(number: int) -> int:
        data = bytes([number + 1]) * 50_000
        barrier.wait()
        for turn in range(40):
            offset = number * MIB + turn * 7
            device.write(offset, data)
            assert read(device, offset, len(data)) == data
        with counting:
            return descriptors()

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(8))) <= before


def test_nothing_is_left_when_closed(server: QemuNbd) -> None:
    threads, opened = threading.active_count(), descriptors()
    for _ in range(5):
        device = owned(server.uri)
        device.acquire()
        device.write(0, b"x")
        device.release()
        read(device, 0, 1)
        device.close()
    assert (threading.active_count(), descriptors()) == (threads, opened)


# The server goes


def readers(device: NbdDevice, count: int) -> tuple[list[threading.Thread], list[OSError]]:
    """Threads that read until they fail, and how they failed."""
    errors: list[OSError] = []

    def work() -> None:
        try:
            while True:
                read(device, 0, MIB)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, errors


def test_everybody_who_waits_is_told_when_the_server_is_killed(
    server: QemuNbd, device: NbdDevice
) -> None:
    threads, errors = readers(device, 5)
    time.sleep(0.1)
    server.kill()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(errors) == 5
    assert all(device._address.uri in str(error) for error in errors)
    for call in (lambda: read(device, 0, 1), lambda: device.write(0, b"x"), device.flush):
        with pytest.raises(OSError, match="connection"):
            call()


def test_server_that_hangs_is_given_up_after_the_time_out(server: QemuNbd) -> None:
    device = owned(server.uri, {"timeout": "0.5"})
    threads, errors = readers(device, 3)
    time.sleep(0.1)
    os.kill(server.process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert 0.3 < time.monotonic() - begun < 5
    assert [error.errno for error in errors] == [errno.ETIMEDOUT] * 3
    device.close()


def test_closing_ends_calls_under_way(server: QemuNbd) -> None:
    device = owned(server.uri)
    os.kill(server.process.pid, signal.SIGSTOP)
    threads, errors = readers(device, 4)
    time.sleep(0.2)
    device.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(errors) == 4
    assert all("was closed" in str(error) for error in errors)


def test_device_is_had_again_when_it_is_acquired_anew_and_not_before(place: Path) -> None:
    image = make_image(place / "disk", SIZE, "raw")
    with QemuNbd(image, "raw", place / "socket") as server:
        device = owned(server.uri)
        device.acquire()
        device.write(0, b"old")
        device.flush()
    with pytest.raises(OSError, match="connection"):
        device.release()
    (place / "socket").unlink()
    os.truncate(image, 2 * SIZE)
    with QemuNbd(image, "raw", place / "socket"):
        with pytest.raises(OSError, match="connection"):
            read(device, 0, 3)
        device.acquire()
        assert device.size_bytes == 2 * SIZE
        assert read(device, 0, 3) == b"old"
        device.close()


def test_server_that_serves_one_client_serves_the_next_when_the_disk_is_given_up(
    place: Path,
) -> None:
    image = make_image(place / "disk", SIZE, "qcow2")
    with QemuNbd(image, "qcow2", place / "socket", "-e", "1") as server:
        source = Disk("drive", connect(server.uri, {"timeout": 5}))
        source.activate()
        source.write(0, b"handed over")
        source.inactivate()
        destination = Disk("drive", connect(server.uri, {"timeout": 5}))
        destination.activate()
        target = bytearray(11)
        destination.read_into(0, memoryview(target))
        assert target == b"handed over"
        destination.device.close()
        source.activate()
        source.write(0, b"and back")
        source.device.close()


def test_device_cannot_be_acquired_from_a_server_that_is_gone(server: QemuNbd) -> None:
    device = connect(server.uri)
    server.kill()
    disk = Disk("drive", device)
    with pytest.raises(LocalError, match="cannot be had"):
        disk.activate()
    assert not disk.is_active


def test_write_by_somebody_who_has_not_acquired_it_is_refused(server: QemuNbd) -> None:
    device = connect(server.uri)
    with pytest.raises(PermissionError, match="is not acquired"):
        device.write(0, b"x")
    device.acquire()
    device.write(0, b"x")
    device.release()
    with pytest.raises(PermissionError, match="is not acquired"):
        device.write_zeroes(0, 1)
    assert read(device, 0, 1) == b"x"
    device.close()


def interrupted(device: NbdDevice, call: Callable[[], None]) -> str:
    """What a call fails with that hangs until the device is interrupted, which takes no time."""
    failures: list[Exception] = []

    def attempt() -> None:
        try:
            call()
        except (OSError, LocalError) as error:
            failures.append(error)

    calling = threading.Thread(target=attempt)
    calling.start()
    time.sleep(0.2)
    began = time.monotonic()
    device.interrupt()
    calling.join()
    assert time.monotonic() - began < 1
    return str(failures[0])


def test_interrupt_ends_a_call_to_a_server_that_hangs_and_the_device_can_be_had_again(
    server: QemuNbd, device: NbdDevice
) -> None:
    os.kill(server.process.pid, signal.SIGSTOP)
    assert "interrupted" in interrupted(device, lambda: device.write(0, bytes(MIB)))
    os.kill(server.process.pid, signal.SIGCONT)
    device.acquire()
    device.write(0, b"again")


def test_interrupt_ends_an_acquisition_from_a_server_that_hangs(server: QemuNbd) -> None:
    device = connect(server.uri)
    os.kill(server.process.pid, signal.SIGSTOP)
    assert "it was interrupted" in interrupted(device, device.acquire)
    device.close()


def test_interrupt_between_a_negotiation_and_its_end_is_not_lost(
    server: QemuNbd, device: NbdDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.release()
    connect_as_ever = device._connect

    def connect_and_be_interrupted(*arguments: object) -> Connection:
        connection = connect_as_ever(*arguments)
        device.interrupt()
        return connection

    monkeypatch.setattr(device, "_connect", connect_and_be_interrupted)
    with pytest.raises(LocalError, match="it was interrupted"):
        device.acquire()
    monkeypatch.undo()
    device.acquire()
    device.write(0, b"again")


def test_nothing_is_asked_behind_the_farewell(device: NbdDevice) -> None:
    connection = device._connection
    assert connection is not None
    say_as_ever = connection._say_farewell
    errors: list[OSError] = []

    def ask_and_say() -> None:
        try:
            connection.call(Command.FLUSH)
        except OSError as error:
            errors.append(error)
        say_as_ever()

    connection._say_farewell = ask_and_say  # type: ignore[method-assign]
    device.close()
    assert [error.errno for error in errors] == [errno.EBADF]


def test_time_to_connect_can_be_said_apart(server: QemuNbd) -> None:
    os.kill(server.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(ConnectError, match="cannot connect"):
        connect(server.uri, {"open-timeout": "0.3"})
    assert time.monotonic() - began < 3
