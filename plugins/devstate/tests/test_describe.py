"""The description of a saved device, in exactly the form of QEMU 10.0."""

from __future__ import annotations

from types import SimpleNamespace as State
from typing import TYPE_CHECKING, Any

import pytest
from devstate_helpers import describe, description_text, save, section

from transship.wire.elements import INT32, NULLPTR, UINT8, UINT16, Buffer
from transship.wire.fields import (
    Field,
    Validate,
    VMState,
    array,
    bitmap,
    boolean,
    buffer,
    double,
    gtree,
    int8,
    int16,
    int32,
    int32_equal,
    int32_le,
    int64,
    pointers,
    qlist,
    qtailq,
    struct,
    subarray,
    timer,
    tmp,
    uint8,
    uint8_equal,
    uint16,
    uint16_equal,
    uint32,
    uint32_equal,
    uint64,
    uint64_equal,
    unused,
    validate,
    varray,
    vbuffer,
    vstruct,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def always(state: object, version: int) -> bool:
    return True


def fields_of(*fields: Field | Validate, **state: Any) -> str:
    """The text of the list ``fields`` of a device with these."""
    text = description_text(VMState("toy", fields=fields), State(**state))
    head = '{"name": "toy", "instance_id": 0, "vmsd_name": "toy", "version": 1, "fields": '
    assert text.startswith(head)
    assert text.endswith("}")
    return text[len(head) : -1]


POINT = VMState("point", fields=[uint8("x"), uint8("y")], factory=State)
POINT_TEXT = (
    '"vmsd_name": "point", "version": 1, "fields": [{"name": "x", "type": "uint8", "size": 1}, '
    '{"name": "y", "type": "uint8", "size": 1}]'
)


def test_real_device_is_described_byte_for_byte() -> None:
    """The text that QEMU 10.0.2 sent for its `timer`, and for a floppy-like nesting of its cpu."""
    description = VMState(
        "timer",
        version_id=2,
        fields=[int64("cpu_ticks_offset"), unused(8), int64("cpu_clock_offset", since=2)],
    )
    assert description_text(description, State(cpu_ticks_offset=0, cpu_clock_offset=0)) == (
        '{"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2, "fields": '
        '[{"name": "cpu_ticks_offset", "type": "int64", "size": 8}, '
        '{"name": "unused", "type": "unused_buffer", "size": 8}, '
        '{"name": "cpu_clock_offset", "type": "int64", "size": 8}]}'
    )


def test_device_behind_a_bus_has_its_path_and_instance() -> None:
    description = VMState("ide", version_id=3, minimum_version_id=3)
    saved = section(description, State(), "0000:00:01.1/ide")
    saved.instance_id = 2
    assert saved.description() is None
    assert list(saved.complete()) == [b""]
    assert saved.description() == (
        '{"name": "0000:00:01.1/ide", "instance_id": 2, "vmsd_name": "ide", "version": 3, '
        '"fields": []}'
    )


SCALARS: list[tuple[Callable[..., Field], str, int]] = [
    (boolean, "bool", 1),
    (int8, "int8", 1),
    (int16, "int16", 2),
    (int32, "int32", 4),
    (int64, "int64", 8),
    (uint8, "uint8", 1),
    (uint16, "uint16", 2),
    (uint32, "uint32", 4),
    (uint64, "uint64", 8),
    (uint8_equal, "uint8 equal", 1),
    (uint16_equal, "uint16 equal", 2),
    (uint32_equal, "uint32 equal", 4),
    (uint64_equal, "int64 equal", 8),
    (int32_equal, "int32 equal", 4),
    (int32_le, "int32 le", 4),
    (double, "CPU_Double_U", 8),
    (timer, "timer", 8),
]


@pytest.mark.parametrize(("declare", "type_name", "size"), SCALARS, ids=[one[1] for one in SCALARS])
def test_scalar_has_name_type_and_size(
    declare: Callable[..., Field], type_name: str, size: int
) -> None:
    assert fields_of(declare("a"), a=1) == (
        f'[{{"name": "a", "type": "{type_name}", "size": {size}}}]'
    )


FORMS: dict[str, tuple[list[Field | Validate], dict[str, Any], str]] = {
    "buffer": ([buffer("b", 3)], {"b": b"abc"}, '{"name": "b", "type": "buffer", "size": 3}'),
    "sized buffer": (
        [vbuffer("b", "n")],
        {"b": b"abc", "n": 2},
        '{"name": "b", "type": "buffer", "size": 2}',
    ),
    "bitmap": ([bitmap("m", 65)], {"m": 1}, '{"name": "m", "type": "bitmap", "size": 16}'),
    "sized bitmap": (
        [bitmap("m", "n")],
        {"m": 1, "n": 64},
        '{"name": "m", "type": "bitmap", "size": 8}',
    ),
    "array": (
        [array("a", UINT16, 3)],
        {"a": [1, 2, 3]},
        '{"name": "a", "array_len": 3, "type": "uint16", "size": 2}',
    ),
    "array of one": (
        [array("a", UINT16, 1)],
        {"a": [1]},
        '{"name": "a", "type": "uint16", "size": 2}',
    ),
    "array of none": ([varray("a", UINT16, "n")], {"a": [1], "n": 0}, ""),
    "structs of none": ([varray("a", POINT, "n")], {"a": [], "n": 0}, ""),
    "rows": (
        [array("a", UINT8, 2, 3)],
        {"a": [[1, 2, 3]] * 2},
        '{"name": "a", "array_len": 6, "type": "uint8", "size": 1}',
    ),
    "part of an array": (
        [subarray("a", UINT8, 1, 2)],
        {"a": [1, 2, 3, 4]},
        '{"name": "a", "array_len": 2, "type": "uint8", "size": 1}',
    ),
    "array of buffers": (
        [array("a", Buffer(2), 2)],
        {"a": [b"ab", b"cd"]},
        '{"name": "a", "array_len": 2, "type": "buffer", "size": 2}',
    ),
    "array with a predicate": (
        [array("a", UINT16, 3, exists=always)],
        {"a": [1, 2, 3]},
        '{"name": "a", "index": 0, "type": "uint16", "size": 2}, '
        '{"name": "a", "index": 1, "type": "uint16", "size": 2}, '
        '{"name": "a", "type": "uint16", "size": 2}',
    ),
    "struct": (
        [struct("p", POINT)],
        {"p": State(x=1, y=2)},
        f'{{"name": "p", "type": "struct", "struct": {{{POINT_TEXT}}}, "size": 2}}',
    ),
    "structs": (
        [array("p", POINT, 2)],
        {"p": [State(x=1, y=2)] * 2},
        f'{{"name": "p", "array_len": 2, "type": "struct", "struct": {{{POINT_TEXT}}}, "size": 2}}',
    ),
    "structs with a predicate": (
        [array("p", POINT, 2, exists=always)],
        {"p": [State(x=1, y=2)] * 2},
        f'{{"name": "p", "index": 0, "type": "struct", "struct": {{{POINT_TEXT}}}, "size": 2}}, '
        f'{{"name": "p", "type": "struct", "struct": {{{POINT_TEXT}}}, "size": 2}}',
    ),
    "vstruct": (
        [vstruct("p", VMState("v", 3, fields=[uint8("x"), uint8("y", since=3)]), 2)],
        {"p": State(x=1, y=2)},
        '{"name": "p", "type": "vstruct", "vmsd_name": "v", "version": 2, '
        '"fields": [{"name": "x", "type": "uint8", "size": 1}], "size": 1}',
    ),
    "tmp": (
        [tmp(POINT, lambda state: State(x=1, y=2))],
        {},
        f'{{"name": "tmp", "type": "tmp", {POINT_TEXT}, "size": 2}}',
    ),
    "queue": (
        [qtailq("q", POINT)],
        {"q": [State(x=1, y=2)] * 2},
        f'{{"name": "q", "type": "qtailq", {POINT_TEXT}, {POINT_TEXT}, "size": 7}}',
    ),
    "empty queue": ([qlist("q", POINT)], {"q": []}, '{"name": "q", "type": "qlist", "size": 1}'),
    "tree": (
        [gtree("t", POINT)],
        {"t": {5: State(x=1, y=2)}},
        f'{{"name": "t", "type": "gtree", {POINT_TEXT}, "size": 16}}',
    ),
    "pointers": (
        [pointers("p", INT32, 6)],
        {"p": [1, 2, None, None, None, 3]},
        '{"name": "p", "array_len": 2, "type": "int32", "size": 4}, '
        '{"name": "p", "array_len": 3, "type": "nullptr", "size": 1}, '
        '{"name": "p", "type": "int32", "size": 4}',
    ),
    "pointers all missing": (
        [pointers("p", POINT, 2)],
        {"p": [None, None]},
        '{"name": "p", "array_len": 2, "type": "nullptr", "size": 1}',
    ),
    "equal names": (
        [uint8("a"), unused(1), uint8("a", attribute="b"), unused(2)],
        {"a": 1, "b": 2},
        '{"name": "a[0]", "type": "uint8", "size": 1}, '
        '{"name": "unused[0]", "type": "unused_buffer", "size": 1}, '
        '{"name": "a[1]", "type": "uint8", "size": 1}, '
        '{"name": "unused[1]", "type": "unused_buffer", "size": 2}',
    ),
    "equal name of an absent field": (
        [uint8("a", since=2), uint8("a")],
        {"a": 1},
        '{"name": "a[1]", "type": "uint8", "size": 1}',
    ),
    "claim": (
        [uint8("a"), validate("fine", always)],
        {"a": 1},
        '{"name": "a", "type": "uint8", "size": 1}',
    ),
}


@pytest.mark.parametrize(("fields", "state", "expected"), FORMS.values(), ids=FORMS)
def test_form_of_a_field_is_described(
    fields: list[Field | Validate], state: dict[str, Any], expected: str
) -> None:
    assert fields_of(*fields, **state) == f"[{expected}]"


INCOMPRESSIBLE = {
    "predicate of a member": VMState("e", fields=[uint8("x", exists=always)]),
    "predicate deeper down": VMState(
        "e", fields=[struct("p", VMState("i", fields=[uint8("x", exists=always)]))]
    ),
    "claim of a member": VMState("e", fields=[uint8("x"), validate("v", always)]),
    "list of subsections": VMState(
        "e", fields=[uint8("x")], subsections=[VMState("e/s", needed=lambda state: False)]
    ),
    "another size": VMState("e", fields=[vbuffer("b", "x")]),
    "another layout": VMState("e", fields=[uint8("x"), vbuffer("b", "x"), vbuffer("b", "y")]),
}


@pytest.mark.parametrize("element", INCOMPRESSIBLE.values(), ids=INCOMPRESSIBLE)
def test_elements_that_may_differ_are_described_one_by_one(element: VMState) -> None:
    elements = [State(x=n, y=3 - n, b=b"abc", p=State(x=n)) for n in (1, 2, 0)]
    described = describe(VMState("toy", fields=[array("a", element, 3)]), State(a=elements))
    assert [one.get("index") for one in described["fields"]] == [0, 1, None]
    assert not any("array_len" in one for one in described["fields"])


def test_last_element_described_one_by_one_has_no_index_and_keys_in_order() -> None:
    described = describe(
        VMState("toy", fields=[array("a", POINT, 2, exists=always)]),
        State(a=[State(x=1, y=2)] * 2),
    )
    first, last = described["fields"]
    assert list(first) == ["name", "index", "type", "struct", "size"]
    assert list(last) == ["name", "type", "struct", "size"]


def test_needed_subsections_are_described_in_their_order_and_nested() -> None:
    leaf = VMState("toy/b/leaf", 5, fields=[uint8("x")])
    description = VMState(
        "toy",
        subsections=[
            VMState("toy/a", needed=lambda state: False),
            VMState("toy/b", 4, subsections=[leaf]),
            VMState("toy/c", needed=lambda state: True),
        ],
    )
    assert description_text(description, State(x=1)).endswith(
        '"fields": [], "subsections": [{"vmsd_name": "toy/b", "version": 4, "fields": [], '
        '"subsections": [{"vmsd_name": "toy/b/leaf", "version": 5, "fields": '
        '[{"name": "x", "type": "uint8", "size": 1}]}]}, '
        '{"vmsd_name": "toy/c", "version": 1, "fields": []}]}'
    )


def test_size_of_a_struct_counts_its_subsections() -> None:
    inner = VMState("i", fields=[uint8("x")], subsections=[VMState("i/s", fields=[uint8("x")])])
    description = VMState("toy", fields=[struct("p", inner)])
    state = State(p=State(x=1))
    described = describe(description, state)
    assert described["fields"][0]["size"] == len(save(description, state)) == 1 + 6 + 3 + 1
    assert list(described["fields"][0]["struct"]) == [
        "vmsd_name",
        "version",
        "fields",
        "subsections",
    ]


def test_missing_element_is_one_byte() -> None:
    assert save(VMState("toy", fields=[pointers("p", INT32, 1)]), State(p=[None])) == b"0"
    assert NULLPTR.encode() == b"0"
