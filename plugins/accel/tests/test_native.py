"""What only compiled kernels can do wrong; what all kernels must do, the core's tests say."""

from __future__ import annotations

import os
import socket
import struct
import sysconfig
import threading
import time
from array import array
from pathlib import Path

import pytest

from transship.memory import kernels as known
from transship.plugin.discovery import install_kernels
from transship.wire.multifd import HEADER_BYTES, packet_bytes
from transship_accel import _native, kernels

PAGE = 4096
PACKET = packet_bytes(PAGE)
FULL, ZERO = 0x28, 0x22


def numbers(*values: int) -> memoryview:
    return memoryview(array("q", values))


def test_they_are_found_and_come_first() -> None:
    install_kernels()
    assert known.current().name == "native"


def test_one_build_is_for_every_python() -> None:
    assert Path(str(_native.__file__)).name == "_native.abi3.so"


def test_sanitized_build_is_the_one_under_test() -> None:
    if "TRANSSHIP_SANITIZED" not in os.environ:
        pytest.skip("only `make sanitize` builds with sanitizers")
    assert "sanitized" in str(_native.__file__)


@pytest.mark.parametrize("page", [-1, 4, 1 << 62, -(1 << 63)])
def test_page_that_is_not_there_is_refused(page: int) -> None:
    memory = bytearray(4 * PAGE)
    with pytest.raises(ValueError, match="not in the memory"):
        kernels.find_zero_pages(memory, PAGE, numbers(page))
    with pytest.raises(ValueError, match="not in the memory"):
        kernels.pack_pages(
            memory, PAGE, numbers(page), bytearray(1), FULL, ZERO, 1 << 62, bytearray(2 * PAGE)
        )
    with pytest.raises(ValueError, match="not in the memory"):
        kernels.scatter_pages(bytes(PAGE), numbers(0), PAGE, memory, numbers(page))
    near, far = socket.socketpair()
    with near, far:
        with pytest.raises(ValueError, match="not in the memory"):
            kernels.send_packets(
                near.fileno(), bytearray(PACKET), 0, PAGE, memory, numbers(page), bytes(1), False
            )
        with pytest.raises(BlockingIOError):
            far.recv(1, socket.MSG_DONTWAIT)


def test_packets_to_nobody_are_an_error_of_the_socket() -> None:
    near, far = socket.socketpair()
    far.close()
    with near, pytest.raises(BrokenPipeError):
        kernels.send_packets(
            near.fileno(), bytearray(PACKET), 0, PAGE, bytes(PAGE), numbers(0), bytes(1), False
        )


def test_packets_that_nobody_takes_time_out() -> None:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 50_000))
    memory = os.urandom(512 * PAGE)
    with near, far, pytest.raises(BlockingIOError):
        kernels.send_packets(
            near.fileno(), bytearray(PACKET), 0, PAGE, memory, numbers(*range(512)), bytes(512),
            False,
        )  # fmt: skip


@pytest.mark.parametrize("size", [0, HEADER_BYTES, HEADER_BYTES + 8 * 1025])
def test_packet_that_cannot_be_filled_is_refused(size: int) -> None:
    near, far = socket.socketpair()
    with near, far, pytest.raises(ValueError, match="memory"):
        kernels.send_packets(
            near.fileno(), bytearray(size), 0, PAGE, bytes(PAGE), numbers(0), bytes(1), False
        )


@pytest.mark.parametrize("position", [-1, 1, 1 << 62, -(1 << 63)])
def test_position_that_is_not_in_the_source_is_refused(position: int) -> None:
    memory = bytearray(4 * PAGE)
    with pytest.raises(ValueError, match="not in the source"):
        kernels.scatter_pages(bytes(PAGE), numbers(position), PAGE, memory, numbers(0))
    assert not any(memory)


def test_old_page_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="not in the source"):
        kernels.pack_changes(
            bytes(PAGE), PAGE, numbers(0), bytes(1), bytes(PAGE), numbers(1), FULL, ZERO, 0x60,
            bytearray(2 * PAGE), array("q", [0]),  # type: ignore[arg-type]
        )  # fmt: skip


def test_counts_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="1 pages, but 2"):
        kernels.scatter_pages(bytes(PAGE), numbers(0, 0), PAGE, bytearray(PAGE), numbers(0))


def test_others_run_meanwhile() -> None:
    """A thread that only counts gets on while a kernel works, without being switched to."""
    memory = bytearray(256 << 20)
    is_over = False
    counted = 0

    def count() -> None:
        nonlocal counted
        while not is_over:
            counted += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted
    kernels.checksum(memory)
    during = counted - before
    is_over = True
    thread.join()
    assert during > 100


def test_no_view_is_kept() -> None:
    memory = bytearray(PAGE)
    kernels.find_zero_pages(memory, PAGE)
    memory.append(1)
    memory.pop()
    try:
        kernels.find_zero_pages(memory, PAGE, numbers(9))
    except ValueError as error:
        memory.append(1)
        assert error.__traceback__ is not None


def test_headers_of_this_python_are_not_needed_to_use_it() -> None:
    assert sysconfig.get_config_var("EXT_SUFFIX") not in str(_native.__file__)
