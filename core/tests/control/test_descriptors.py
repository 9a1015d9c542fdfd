"""Every file descriptor of a client is closed exactly once, whatever it is called, or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from transship.control.descriptors import (
    NAMED_DESCRIPTORS,
    UNCLAIMED_DESCRIPTORS,
    Descriptors,
)
from transship.control.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    descriptors = Descriptors()
    yield descriptors
    descriptors.close()


def new() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def named(descriptors: Descriptors, name: str) -> int:
    """Take a descriptor that is known to be there, and close it. Returns what it was."""
    descriptor = descriptors.take(name)
    os.close(descriptor)
    return descriptor


def test_named_descriptor_is_taken_once(descriptors: Descriptors) -> None:
    descriptor = new()
    descriptors.arrived([descriptor])
    descriptors.name("a", 1)
    assert named(descriptors, "a") == descriptor
    with pytest.raises(CommandError):
        descriptors.take("a")


def test_name_that_is_used_again_closes_the_earlier_descriptor(descriptors: Descriptors) -> None:
    first, second = new(), new()
    descriptors.arrived([first, second])
    descriptors.name("a", 1)
    descriptors.name("a", 2)
    assert not is_open(first)
    assert named(descriptors, "a") == second


@pytest.mark.parametrize("name", ["", "1", "0a", "9", "٣"])
def test_wrong_name_is_refused_and_its_descriptor_closed(
    descriptors: Descriptors, name: str
) -> None:
    descriptor = new()
    descriptors.arrived([descriptor])
    with pytest.raises(CommandError):
        descriptors.name(name, 1)
    assert not is_open(descriptor)


def test_name_without_a_descriptor_is_refused(descriptors: Descriptors) -> None:
    with pytest.raises(CommandError, match="SCM_RIGHTS"):
        descriptors.name("a", 1)


def test_all_are_closed_in_the_end(descriptors: Descriptors) -> None:
    all_ = [new(), new(), new()]
    descriptors.arrived(all_)
    descriptors.name("a", 1)
    descriptors.close()
    assert not any(map(is_open, all_))
    descriptors.close()
    late = new()
    descriptors.arrived([late])
    assert not is_open(late)


def test_too_many_unclaimed_are_closed(descriptors: Descriptors) -> None:
    all_ = [new() for _ in range(UNCLAIMED_DESCRIPTORS + 3)]
    descriptors.arrived(all_)
    assert list(map(is_open, all_)) == [True] * UNCLAIMED_DESCRIPTORS + [False] * 3


def test_too_many_named_are_refused_and_closed(descriptors: Descriptors) -> None:
    for index in range(NAMED_DESCRIPTORS):
        descriptors.arrived([new()])
        descriptors.name(f"n{index}", index)
    one_more = new()
    descriptors.arrived([one_more])
    with pytest.raises(CommandError, match=str(NAMED_DESCRIPTORS)):
        descriptors.name("more", 1000)
    assert not is_open(one_more)
    descriptors.arrived([new()])
    descriptors.name("n0", 1001)  # in place of another


def test_descriptors_of_commands_in_a_row_are_kept_apart(descriptors: Descriptors) -> None:
    first, second = new(), new()
    descriptors.arrived([first])
    descriptors.settle(1)
    descriptors.arrived([second])
    descriptors.settle(2)
    descriptors.name("a", 1)
    descriptors.name("b", 2)
    assert named(descriptors, "a") == first
    assert named(descriptors, "b") == second


def test_descriptor_of_a_failed_command_is_not_mistaken_for_that_of_the_next(
    descriptors: Descriptors,
) -> None:
    stale, fresh = new(), new()
    descriptors.arrived([stale])
    descriptors.settle(1)  # with a command that never asked for it
    descriptors.arrived([fresh])
    descriptors.settle(2)
    descriptors.name("a", 2)
    assert named(descriptors, "a") == fresh
    assert is_open(stale)


def test_descriptor_waits_for_a_later_command(descriptors: Descriptors) -> None:
    descriptor = new()
    descriptors.arrived([descriptor])
    descriptors.settle(1)
    descriptors.name("a", 3)
    assert named(descriptors, "a") == descriptor
