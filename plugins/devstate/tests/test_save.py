"""Saving: hooks and their order, and what cannot be saved."""

from __future__ import annotations

from types import SimpleNamespace as State
from typing import TYPE_CHECKING, Any

import pytest
from devstate_helpers import save, section

from transship.errors import LocalError
from transship.wire import limits
from transship.wire.elements import UINT8, UINT16
from transship.wire.fields import (
    VMState,
    array,
    bitmap,
    buffer,
    gtree,
    pointers,
    qtailq,
    struct,
    subarray,
    timer,
    uint8,
    uint16,
    validate,
    varray,
    vbuffer,
)

if TYPE_CHECKING:
    from transship.wire.fields import Field, Validate

POINT = VMState("point", fields=[uint8("x")], factory=State)


def test_hooks_run_around_the_fields() -> None:
    calls: list[str] = []

    def compute(state: State) -> None:
        calls.append("pre")
        state.size = len(state.data)

    description = VMState(
        "toy",
        fields=[uint8("size"), vbuffer("data", "size", alloc=True)],
        pre_save=compute,
        post_save=lambda state: calls.append("post"),
    )
    assert save(description, State(data=b"abc")) == b"\3abc"
    assert calls == ["pre", "post"]


def test_post_save_runs_also_when_a_field_cannot_be_saved() -> None:
    calls: list[str] = []
    description = VMState(
        "toy", fields=[uint8("missing")], post_save=lambda state: calls.append("post")
    )
    with pytest.raises(LocalError):
        save(description, State())
    assert calls == ["post"]


def test_only_needed_subsections_are_saved_in_declared_order() -> None:
    def part(name: str) -> VMState:
        return VMState(
            f"toy/{name}",
            version_id=3,
            fields=[uint8(name)],
            needed=lambda state: getattr(state, name) > 0,
        )

    description = VMState("toy", subsections=[part("a"), part("b"), part("c")])
    assert save(description, State(a=1, b=0, c=2)) == (
        b"\5\5toy/a\0\0\0\3\1" + b"\5\5toy/c\0\0\0\3\2"
    )


def test_device_is_needed_unless_its_declaration_says_no() -> None:
    assert section(VMState("toy"), State()).is_needed()
    picky = VMState("toy", needed=lambda state: state.is_plugged)
    assert section(picky, State(is_plugged=True)).is_needed()
    assert not section(picky, State(is_plugged=False)).is_needed()


def test_device_may_be_left_out_if_its_declaration_can_say_no() -> None:
    assert not section(VMState("toy"), State()).is_optional
    assert section(VMState("toy", needed=lambda state: True), State()).is_optional


def test_tree_is_saved_in_the_order_of_its_keys() -> None:
    description = VMState("toy", fields=[gtree("t", POINT)])
    state = State(t={9: State(x=1), 2: State(x=2)})
    assert save(description, state).hex(" ", 1).split(" 01 00 00 00 00 00 00 00 ")[1:] == [
        "02 02",
        "09 01 00",
    ]


UNSAVABLE: dict[str, tuple[Field | Validate, dict[str, Any], str, str | None]] = {
    "too large": (uint8("a"), {"a": 256}, "toy.a", "an integer from 0 to 255"),
    "negative": (uint16("a"), {"a": -1}, "toy.a", "an integer from 0 to 65535"),
    "no integer": (uint8("a"), {"a": "1"}, "toy.a", "an integer from 0 to 255"),
    "too large in an array": (
        array("a", UINT8, 2),
        {"a": [1, 256]},
        "toy.a",
        "an integer from 0 to 255",
    ),
    "missing": (uint8("a"), {}, "toy.a", None),
    "missing in a struct": (array("p", POINT, 2), {"p": [State(x=1), State()]}, "toy.p[1].x", None),
    "missing in a queue": (qtailq("p", POINT), {"p": [State(x=1), State()]}, "toy.p[1].x", None),
    "missing in a tree": (gtree("p", POINT), {"p": {7: State()}}, "toy.p[7].x", None),
    "no struct": (struct("p", POINT), {"p": None}, "toy.p.x", None),
    "short array": (array("a", UINT16, 3), {"a": [1, 2]}, "toy.a", "3"),
    "long array": (array("a", UINT16, 3), {"a": [1, 2, 3, 4]}, "toy.a", "3"),
    "short part": (subarray("a", UINT16, 1, 2), {"a": [1, 2]}, "toy.a", "at least 3"),
    "short row": (array("a", UINT8, 2, 2), {"a": [[1, 2], [3]]}, "toy.a", "2 elements"),
    "count beyond": (varray("a", UINT8, "n"), {"a": [1], "n": 2}, "toy.a", "at least 2"),
    "count below zero": (varray("a", UINT8, "n"), {"a": [1], "n": -1}, "toy.a", "0 to 1048576"),
    "count that never loads": (
        varray("a", UINT8, "n", multiply=limits.ELEMENTS),
        {"a": [], "n": 2},
        "toy.a",
        "0 to 1048576",
    ),
    "short buffer": (buffer("b", 2), {"b": b"a"}, "toy.b", "2 bytes"),
    "text for bytes": (buffer("b", 2), {"b": "ab"}, "toy.b", "something with bytes"),
    "short sized buffer": (vbuffer("b", "n"), {"b": b"a", "n": 2}, "toy.b", "at least 2"),
    "bit beyond": (bitmap("m", 4), {"m": 16}, "toy.m", "no bit beyond the first 4"),
    "negative bitmap": (bitmap("m", 4), {"m": -1}, "toy.m", "no bit beyond the first 4"),
    "timer that means inactive": (
        timer("t"),
        {"t": 2**64 - 1},
        "toy.t",
        "an expiry time below 2**64 - 1, or None",
    ),
    "other pointers": (pointers("p", UINT8, 2), {"p": [None]}, "toy.p", "2"),
    "claim": (validate("fine", lambda state, version: False), {}, "toy.fine", None),
}


@pytest.mark.parametrize(("field", "state", "path", "expected"), UNSAVABLE.values(), ids=UNSAVABLE)
def test_value_that_does_not_fit_is_a_local_error_that_names_it(
    field: Field | Validate, state: dict[str, Any], path: str, expected: str | None
) -> None:
    with pytest.raises(LocalError) as caught:
        save(VMState("toy", fields=[field]), State(**state))
    assert caught.value.section == "toy"
    assert re_head(caught.value.cause) == path
    assert caught.value.expected == expected


def re_head(cause: str) -> str:
    """The path at the front of a cause."""
    return cause.removesuffix(" cannot be saved").split(": ")[0]


def test_error_in_a_subsection_names_it() -> None:
    description = VMState("toy", subsections=[VMState("toy/part", fields=[uint8("a")])])
    with pytest.raises(LocalError, match=r"toy:toy/part\.a: "):
        save(description, State(a=-1))


def test_any_integer_like_value_is_saved() -> None:
    class Register:
        def __index__(self) -> int:
            return 5

    state = State(a=Register(), b=[Register(), True])
    assert save(VMState("toy", fields=[uint8("a"), array("b", UINT8, 2)]), state) == b"\5\5\1"
