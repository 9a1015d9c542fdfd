"""Whatever is declared: what was saved loads, describes itself, and decodes without us."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace as State
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from devstate_helpers import EOF, description_text, load, save
from hypothesis import given, settings, strategies as st

from transship.errors import StreamError
from transship.wire.elements import (
    BOOL,
    DOUBLE,
    INT8,
    INT16,
    INT32,
    INT64,
    TIMER,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Buffer,
)
from transship.wire.fields import (
    VMState,
    array,
    bitmap,
    buffer,
    gtree,
    opaque,
    pointers,
    qlist,
    struct,
    uint8,
    varray,
    vbuffer,
)
from transship.wire.vmdesc import (
    DeviceRecord,
    decode_fields,
    parse_description,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.wire.fields import Field

Part: TypeAlias = tuple[list["Field"], dict[str, Any], dict[str, Any]]
"""Fields, the values that are saved, and the values that are loaded over."""

Kind: TypeAlias = "Callable[[str], st.SearchStrategy[Part]]"
"""Makes a part under a name."""

INTEGERS = [INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, DOUBLE]

integer = st.sampled_from(INTEGERS).flatmap(
    lambda one: st.tuples(
        st.just(one),
        st.integers(-(1 << one.size * 8 - 1), (1 << one.size * 8 - 1) - 1)
        if one.signed
        else st.integers(0, (1 << one.size * 8) - 1),
    )
)
value = st.one_of(
    integer,
    st.tuples(st.just(BOOL), st.booleans()),
    st.tuples(st.just(TIMER), st.none() | st.integers(0, 2**64 - 2)),
    st.binary(max_size=5).map(lambda raw: (Buffer(len(raw)), raw)),
)


def scalar(name: str) -> st.SearchStrategy[Part]:
    return value.map(lambda one: ([opaque(name, one[0])], {name: one[1]}, {name: None}))


def sequence(name: str) -> st.SearchStrategy[Part]:
    def part(one: tuple[Any, Any], length: int, is_counted: bool) -> Part:
        values = [one[1]] * length
        if is_counted:
            count = f"{name}_count"
            fields = [uint8(count), varray(name, one[0], count, alloc=True)]
            return fields, {count: length, name: values}, {count: 0, name: None}
        return [array(name, one[0], length)], {name: values}, {name: None}

    return st.builds(part, value, st.integers(0, 5), st.booleans())


def raw(name: str) -> st.SearchStrategy[Part]:
    def part(content: bytes, is_counted: bool) -> Part:
        if is_counted:
            count = f"{name}_size"
            fields = [uint8(count), vbuffer(name, count, alloc=True)]
            return fields, {count: len(content), name: content}, {count: 0, name: b""}
        return [buffer(name, len(content))], {name: content}, {name: b""}

    return st.builds(part, st.binary(max_size=20), st.booleans())


def bits(name: str) -> st.SearchStrategy[Part]:
    return st.integers(1, 200).flatmap(
        lambda size: st.integers(0, (1 << size) - 1).map(
            lambda one: ([bitmap(name, size)], {name: one}, {name: 0})
        )
    )


def missing(name: str) -> st.SearchStrategy[Part]:
    return st.lists(st.none() | st.integers(0, 65535), max_size=6).map(
        lambda values: (
            [pointers(name, UINT16, len(values))],
            {name: values},
            {name: [one and 7 for one in values]},
        )
    )


def nested(inner: st.SearchStrategy[Part]) -> Kind:
    def strategy(name: str) -> st.SearchStrategy[Part]:
        def part(content: Part, kind: str, count: int) -> Part:
            fields, values, blanks = content

            def full() -> State:
                return State(**deepcopy(values))

            def blank() -> State:
                return State(**deepcopy(blanks))

            description = VMState(f"s_{name}", fields=fields, factory=blank)
            match kind:
                case "struct":
                    return [struct(name, description)], {name: full()}, {name: blank()}
                case "array":
                    fields = [array(name, description, count)]
                    return fields, {name: [full() for _ in range(count)]}, {name: []}
                case "list":
                    fields = [qlist(name, description)]
                    return fields, {name: [full() for _ in range(count)]}, {name: []}
                case _:
                    fields = [gtree(name, description)]
                    return fields, {name: {key: full() for key in range(count)}}, {name: {}}

        kinds = st.sampled_from(["struct", "array", "list", "tree"])
        return st.builds(part, inner, kinds, st.integers(0, 3))

    return strategy


def parts(kinds: Sequence[Kind]) -> st.SearchStrategy[Part]:
    def joined(several: list[Part]) -> Part:
        return (
            [field for fields, _, _ in several for field in fields],
            {name: one for _, values, _ in several for name, one in values.items()},
            {name: one for _, _, blanks in several for name, one in blanks.items()},
        )

    def of_kinds(chosen: list[Kind]) -> st.SearchStrategy[Part]:
        several = [kind(f"f{number}") for number, kind in enumerate(chosen)]
        return st.tuples(*several).map(lambda found: joined(list(found)))

    return st.lists(st.sampled_from(kinds), max_size=5).flatmap(of_kinds)


FLAT: list[Kind] = [scalar, sequence, raw, bits, missing]
flat = parts(FLAT)
deep = parts([*FLAT, nested(flat), nested(parts([*FLAT, nested(flat)]))])


@st.composite
def devices(draw: st.DrawFn) -> tuple[VMState, State, State]:
    fields, values, blanks = draw(deep)
    more, more_values, more_blanks = draw(flat)
    child = VMState(
        "toy/child",
        fields=[
            struct("child", VMState("c", fields=more)),
        ],
        needed=lambda state: state.has_child,
    )
    description = VMState("toy", fields=fields, subsections=[child])
    state = State(**values, child=State(**more_values), has_child=draw(st.booleans()))
    blank = State(**blanks, child=State(**more_blanks), has_child=state.has_child)
    return description, state, blank


@settings(deadline=None)
@given(devices(), st.integers(1, 9))
def test_saved_device_loads_to_the_same_values(
    device: tuple[VMState, State, State], step: int
) -> None:
    description, state, blank = device
    data = save(description, deepcopy(state))
    assert load(description, blank, data + EOF, step=step) == len(data)
    if not state.has_child:
        blank.child = state.child
    assert blank == state


@settings(deadline=None)
@given(devices())
def test_saved_device_describes_its_exact_length_and_decodes_through_it(
    device: tuple[VMState, State, State],
) -> None:
    description, state, _ = device
    data = save(description, state)
    text = description_text(description, state)
    (described,) = parse_description(f'{{"devices": [{text}]}}').devices
    assert described.body_bytes == len(data)
    assert described.text == text
    decoded = decode_fields(DeviceRecord("toy", 0, 1, 0, data, text))
    assert [one["name"] for one in decoded["subsections"]] == ["toy/child"] * state.has_child
    for name, found in decoded["fields"].items():
        if isinstance(found, int):
            assert found == getattr(state, name) or getattr(state, name) in ([found], [bool(found)])


def is_refused(description: VMState, state: State, data: bytes) -> bool:
    try:
        load(description, state, data)
    except StreamError:
        return True
    return False


@settings(deadline=None)
@given(devices(), st.data())
def test_damaged_device_loads_or_is_refused_and_never_half_loaded(
    device: tuple[VMState, State, State], data: st.DataObject
) -> None:
    description, state, blank = device
    raw_bytes = bytearray(save(description, state))
    for place in data.draw(st.lists(st.integers(0, max(len(raw_bytes) - 1, 0)), max_size=3)):
        raw_bytes[place : place + 1] = data.draw(st.binary(max_size=2))
    before = deepcopy(blank)
    if is_refused(description, blank, bytes(raw_bytes)):
        assert blank == before


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_load_or_are_refused(data: bytes) -> None:
    tree = VMState("t", fields=[uint8("n"), varray("a", UINT8, "n", alloc=True)], factory=Item)
    description = VMState(
        "toy",
        fields=[uint8("n"), vbuffer("b", "n", alloc=True), qlist("q", tree), gtree("t", tree)],
    )
    state = State(n=0, b=b"", q=[], t={})
    if is_refused(description, state, data):
        assert state == State(n=0, b=b"", q=[], t={})


class Item:
    def __init__(self) -> None:
        self.n = 0
        self.a: list[int] = []


def test_every_version_up_to_the_newest_loads() -> None:
    newest = VMState("toy", 4, fields=[uint8(f"v{n}", since=n) for n in range(5)])
    for version in range(5):
        older = VMState("toy", version, fields=newest.fields)
        state = State(**{f"v{n}": n + 1 for n in range(5)})
        blank = State(**{f"v{n}": 100 for n in range(5)})
        data = save(older, state)
        assert len(data) == version + 1
        assert load(newest, blank, data + EOF, version=version) == len(data)
        assert vars(blank) == {f"v{n}": n + 1 if n <= version else 100 for n in range(5)}
    with pytest.raises(StreamError):
        load(newest, State(), bytes(6), version=5)
