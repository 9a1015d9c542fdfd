"""A descriptor in several hands is closed once, and not under somebody who is in a call with it."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from transship.toolkit.owned_descriptor import OwnedDescriptor


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def null() -> int:
    return os.open("/dev/null", os.O_RDWR)


def test_closing_closes_at_once_if_nobody_uses_it() -> None:
    number = null()
    owned = OwnedDescriptor(number)
    owned.close()
    assert not is_open(number)


def test_closing_waits_for_the_last_call_and_admits_no_other() -> None:
    number = null()
    owned = OwnedDescriptor(number)
    with owned.in_use(), owned.in_use():
        owned.close()
        assert is_open(number)
        with pytest.raises(OSError) as caught, owned.in_use():
            pass
        assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError):
            owned.check_open()
    assert not is_open(number)


def test_closing_twice_does_not_close_what_has_got_the_number_since() -> None:
    owned = OwnedDescriptor(null())
    number = owned.number
    owned.close()
    other = null()
    assert other == number, "the kernel gives the lowest number that is free"
    owned.close()
    assert is_open(other)
    os.close(other)


def test_call_that_fails_is_over_too() -> None:
    number = null()
    owned = OwnedDescriptor(number)
    with pytest.raises(ZeroDivisionError), owned.in_use():
        raise ZeroDivisionError
    owned.close()
    assert not is_open(number)


def test_many_threads_and_one_that_closes_never_meet_a_foreign_descriptor() -> None:
    for _ in range(50):
        reads, writes = os.pipe()
        owned = OwnedDescriptor(writes)
        os.set_blocking(reads, False)
        begun = threading.Barrier(4)

        def write(owned: OwnedDescriptor = owned, begun: threading.Barrier = begun) -> None:
            begun.wait()
            for _ in range(100):
                try:
                    with owned.in_use() as number:
                        os.write(number, b"x")
                except OSError as error:
                    assert error.errno == errno.EBADF
                    return

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait()
        owned.close()
        foreign = os.open("/dev/zero", os.O_RDONLY)  # writing to it would be another error
        for thread in threads:
            thread.join()
        os.close(foreign)
        os.close(reads)
