"""Several buffers are one run of bytes, however a call that takes them is cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from transship.testing.checking import is_resizable
from transship.toolkit.vectored import SEGMENTS_PER_CALL, Vector, as_bytes, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.buffers import Buffer

shapes = st.sampled_from(["bytes", "bytearray", "view", "slice", "words", "grid"])


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    data = draw(st.binary(max_size=40))
    match draw(shapes):
        case "bytearray":
            return bytearray(data)
        case "view":
            return memoryview(data)
        case "slice":
            return memoryview(data)[1:-1]
        case "words":
            return memoryview(data[: len(data) // 4 * 4]).cast("I")
        case "grid" if len(data) >= 2:
            return memoryview(data[: len(data) // 2 * 2]).cast("B", (2, len(data) // 2))
    return data


def joined(segments: Sequence[Buffer]) -> bytes:
    return b"".join(bytes(segment) for segment in segments)


@given(st.lists(buffers(), max_size=12), st.data())
def test_all_bytes_go_in_order_however_short_the_calls_fall(
    segments: list[Buffer], data: st.DataObject
) -> None:
    moved = bytearray()

    def once(rest: Sequence[Buffer]) -> int:
        offered = joined(rest)
        assert offered
        count = data.draw(st.integers(1, len(offered)))
        moved.extend(offered[:count])
        return count

    run = Vector(segments)
    assert run.length == len(joined(segments))
    assert run.move(once) == run.length
    assert moved == joined(segments)


@given(st.lists(buffers(), max_size=12), st.data())
def test_what_is_behind_any_place_is_the_rest(segments: list[Buffer], data: st.DataObject) -> None:
    run = Vector(segments)
    if run.length:
        done = data.draw(st.integers(0, run.length - 1))
        assert run.offer(done, joined) == joined(segments)[done:]


@pytest.mark.parametrize("more", [-1, 0, 1, SEGMENTS_PER_CALL])
def test_no_call_is_given_more_buffers_than_the_system_takes(more: int) -> None:
    calls: list[int] = []

    def once(rest: Sequence[Buffer]) -> int:
        calls.append(len(rest))
        return sum(map(len, rest))

    count = SEGMENTS_PER_CALL + more
    assert Vector([b"ab"] * count).move(once) == 2 * count
    assert sum(calls) == count
    assert max(calls) <= SEGMENTS_PER_CALL


def test_run_of_empty_buffers_longer_than_a_call_takes_is_passed_over() -> None:
    assert Vector([*[b""] * (2 * SEGMENTS_PER_CALL), b"x"]).offer(0, joined) == b"x"


def test_call_that_says_zero_ends_it() -> None:
    answers = iter([2, 0])
    run = Vector([memoryview(bytearray(5))])
    assert run.move(lambda rest: next(answers)) == 2


def test_nothing_is_moved_without_a_call() -> None:
    run = Vector([b"", bytearray()])
    assert run.move(lambda rest: pytest.fail("nothing is to be moved")) == 0


@pytest.mark.parametrize("failure", [None, OSError, KeyboardInterrupt])
def test_no_view_is_held_afterwards(failure: type[BaseException] | None) -> None:
    memory = bytearray(16)

    def once(rest: Sequence[Buffer]) -> int:
        if failure is not None:
            raise failure
        return 3

    kept: BaseException | None = None
    try:
        with memoryview(memory) as whole, whole.cast("I") as words:
            Vector([memory, words]).move(once)
    except (OSError, KeyboardInterrupt) as error:
        kept = error
    assert (kept is None) is (failure is None)
    assert is_resizable(memory)


def test_bytes_are_counted_whatever_a_view_counts() -> None:
    with memoryview(bytes(16)).cast("Q") as words, as_bytes(words) as view:
        assert len(words) == 2
        assert len(view) == size_of(words) == 16
