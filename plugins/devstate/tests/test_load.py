"""Loading: every form of a field, versions, subsections, hooks; and what is refused."""

from __future__ import annotations

import io
from array import array as machine_array
from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace as State
from typing import TYPE_CHECKING, Any

import pytest
from devstate_helpers import EOF, load, save, section

from transship.errors import LocalError, StreamError
from transship.wire import limits
from transship.wire.constants import RecordType
from transship.wire.elements import BOOL, TIMER, UINT8, UINT16, UINT32, Buffer, Integer
from transship.wire.events import SectionHeader
from transship.wire.fields import (
    Field,
    VMState,
    array,
    bitmap,
    boolean,
    buffer,
    double,
    gtree,
    int16,
    int32_le,
    opaque,
    partial_buffer,
    pointers,
    qtailq,
    struct,
    subarray,
    timer,
    tmp,
    uint8,
    uint8_equal,
    uint16,
    uint64_equal,
    unused,
    validate,
    varray,
    vbuffer,
    vstruct,
)
from transship.wire.reader import StreamReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.wire.fields import Validate

POINT = VMState("point", fields=[uint8("x"), uint8("y")], factory=lambda: State(x=0, y=0))


def device(*fields: Field | Validate, **options: Any) -> VMState:
    return VMState("toy", fields=fields, **options)


def refused(description: VMState, state: Any, data: bytes, **options: Any) -> StreamError:
    """Load what must be refused, and check that the state is as before."""
    before = deepcopy(vars(state))
    with pytest.raises(StreamError) as caught:
        load(description, state, data, **options)
    assert vars(state) == before
    return caught.value


FORMS: dict[str, tuple[Field, dict[str, Any], str, dict[str, Any]]] = {
    "timer": (timer("t"), {"t": 5}, "00000000000000ff", {"t": 255}),
    "inactive timer": (timer("t"), {"t": 5}, "ff" * 8, {"t": None}),
    "double": (double("d"), {"d": 0}, "7ff8000000000001", {"d": 0x7FF8000000000001}),
    "buffer": (buffer("b", 3), {"b": b"abc"}, "010203", {"b": b"\1\2\3"}),
    "mutable buffer": (buffer("b", 1), {"b": bytearray(b"a")}, "01", {"b": bytearray(b"\1")}),
    "part of a buffer": (
        partial_buffer("b", 1, 2),
        {"b": bytearray(b"abcd")},
        "0102",
        {"b": bytearray(b"a\1\2d")},
    ),
    "buffer of another attribute's size": (
        vbuffer("b", "n"),
        {"n": 2, "b": b"abcd"},
        "0102",
        {"b": b"\1\2cd"},
    ),
    "allocated buffer": (
        vbuffer("b", "n", multiply=2, alloc=True),
        {"n": 1, "b": b""},
        "0102",
        {"b": b"\1\2"},
    ),
    "bitmap": (bitmap("m", 66), {"m": 0}, "00000000000000010000000000000002", {"m": 1 | 1 << 65}),
    "bitmap of another attribute's size": (
        bitmap("m", "n"),
        {"n": 9, "m": 0},
        "ffffffffffffff01",
        {"m": 0x101},
    ),
    "array": (array("a", UINT16, 2), {"a": [9, 9]}, "00010002", {"a": [1, 2]}),
    "array in a tuple": (array("a", UINT16, 2), {"a": (9, 9)}, "00010002", {"a": (1, 2)}),
    "array in bytes": (array("a", UINT8, 2), {"a": b"xy"}, "0102", {"a": b"\1\2"}),
    "array in an array": (
        array("a", UINT16, 2),
        {"a": machine_array("H", [9, 9])},
        "00010002",
        {"a": machine_array("H", [1, 2])},
    ),
    "array of booleans": (array("a", BOOL, 2), {"a": [False, True]}, "0200", {"a": [True, False]}),
    "array of buffers": (
        array("a", Buffer(2), 2),
        {"a": [b"", b""]},
        "0a0b0c0d",
        {"a": [b"\x0a\x0b", b"\x0c\x0d"]},
    ),
    "rows": (array("a", UINT8, 2, 2), {"a": [[0, 0], (0, 0)]}, "01020304", {"a": [[1, 2], (3, 4)]}),
    "part of an array": (
        subarray("a", UINT8, 1, 2),
        {"a": [9, 9, 9, 9]},
        "0102",
        {"a": [9, 1, 2, 9]},
    ),
    "first of an array": (varray("a", UINT8, "n"), {"n": 1, "a": [9, 9]}, "01", {"a": [1, 9]}),
    "none of an array": (varray("a", UINT8, "n"), {"n": 0, "a": [9, 9]}, "", {"a": [9, 9]}),
    "allocated array": (
        varray("a", UINT8, "n", multiply=2, alloc=True),
        {"n": 1, "a": None},
        "0102",
        {"a": [1, 2]},
    ),
    "allocated structs": (
        varray("a", POINT, "n", alloc=True),
        {"n": 1, "a": []},
        "0102",
        {"a": [State(x=1, y=2)]},
    ),
    "struct that is not there yet": (
        struct("p", POINT),
        {"p": None},
        "0102",
        {"p": State(x=1, y=2)},
    ),
    "version of a struct": (
        vstruct("p", VMState("p", version_id=3, fields=[uint8("x"), uint8("y", since=3)]), 2),
        {"p": State(x=0, y=7)},
        "01",
        {"p": State(x=1, y=7)},
    ),
    "unused": (unused(3), {}, "ffffff", {}),
    "equal": (uint8_equal("a"), {"a": 7}, "07", {"a": 7}),
    "at most ours": (int32_le("a"), {"a": 7}, "00000006", {"a": 6}),
    "member": (uint8("env.eip"), {"env": State(eip=0)}, "05", {"env": State(eip=5)}),
    "under another name": (uint8("a", attribute="b"), {"b": 0}, "05", {"b": 5}),
    "queue in a deque": (
        qtailq("q", POINT),
        {"q": deque()},
        "01010200",
        {"q": deque([State(x=1, y=2)])},
    ),
    "tree": (
        gtree("t", POINT),
        {"t": {}},
        "00000001010000000000000009010200",
        {"t": {9: State(x=1, y=2)}},
    ),
}


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(("field", "before", "data", "after"), FORMS.values(), ids=FORMS)
def test_form_of_a_field_loads(
    field: Field, before: dict[str, Any], data: str, after: dict[str, Any], step: int
) -> None:
    state = State(**deepcopy(before))
    raw = bytes.fromhex(data)
    assert load(device(field), state, raw + EOF, step=step) == len(raw)
    assert vars(state) == before | after
    assert {
        name: type(value) for name, value in vars(state).items() if before[name] is not None
    } == {name: type(value) for name, value in (before | after).items() if before[name] is not None}


@pytest.mark.parametrize(("field", "before", "data", "after"), FORMS.values(), ids=FORMS)
def test_form_of_a_field_saves_what_it_loads(
    field: Field, before: dict[str, Any], data: str, after: dict[str, Any]
) -> None:
    state = State(**deepcopy(before | after))
    load(device(field), state, bytes.fromhex(data) + EOF)
    saved = save(device(field), state)
    again = State(**deepcopy(before | after))
    load(device(field), again, saved + EOF)
    assert vars(again) == vars(state)
    assert len(saved) == len(bytes.fromhex(data))


REFUSED: dict[str, tuple[Field, dict[str, Any], str, str, str]] = {
    "equal": (uint8_equal("a"), {"a": 7}, "08", "toy.a", "7"),
    "equal, of 8 bytes": (uint64_equal("a"), {"a": 7}, "ff" * 8, "toy.a", "7"),
    "beyond ours": (int32_le("a"), {"a": 7}, "00000008", "toy.a", "0 to 7"),
    "below zero": (int32_le("a"), {"a": 7}, "ffffffff", "toy.a", "0 to 7"),
    "end in an array": (
        array("a", UINT16, 3),
        {"a": [0, 0, 0]},
        "0001 0002 00",
        "toy.a[2]",
        "1 byte",
    ),
    "end in a part": (subarray("a", UINT8, 2, 2), {"a": [0] * 4}, "01", "toy.a[3]", "1 byte"),
    "end in a struct of an array": (
        array("a", POINT, 2),
        {"a": [None, None]},
        "010203",
        "toy.a[1].y",
        "1 byte",
    ),
    "more elements than room": (
        varray("a", UINT8, "n"),
        {"n": 3, "a": [0]},
        "010203",
        "toy.a",
        "at most 1",
    ),
    "elements below zero": (
        varray("a", UINT8, "n"),
        {"n": -1, "a": [0]},
        "",
        "toy.a",
        "0 to 1048576",
    ),
    "elements beyond the limit": (
        varray("a", UINT8, "n", multiply=limits.ELEMENTS, alloc=True),
        {"n": 2, "a": [0]},
        "",
        "toy.a",
        "0 to 1048576",
    ),
    "more bytes than room": (
        vbuffer("b", "n"),
        {"n": 3, "b": b"ab"},
        "010203",
        "toy.b",
        "at most 2",
    ),
    "bytes beyond the limit": (
        vbuffer("b", "n", alloc=True),
        {"n": limits.BUFFER_BYTES + 1, "b": b""},
        "",
        "toy.b",
        "0 to 67108864",
    ),
    "bits beyond the limit": (
        bitmap("m", "n"),
        {"n": 1 << 40, "m": 0},
        "",
        "toy.m",
        "0 to 536870912",
    ),
    "none that we have": (
        pointers("p", UINT8, 1),
        {"p": [None]},
        "01",
        "toy.p[0]",
        "0x30, no element",
    ),
    "others than we have": (pointers("p", UINT8, "n"), {"n": 2, "p": [None]}, "30", "toy.p", "1"),
    "marker of a queue": (
        qtailq("q", POINT),
        {"q": []},
        "010102 02",
        "toy.q[1]",
        "1, another element, or 0, the end",
    ),
    "nodes too few": (
        gtree("t", POINT),
        {"t": {}},
        "00000002 01 0000000000000001 0102 00",
        "toy.t",
        "2",
    ),
    "nodes too many": (
        gtree("t", POINT),
        {"t": {}},
        "00000000 01 0000000000000001 0102 00",
        "toy.t",
        "0",
    ),
    "nodes beyond the limit": (gtree("t", POINT), {"t": {}}, "00100001", "toy.t", "0 to 1048576"),
    "key twice": (
        gtree("t", POINT),
        {"t": {}},
        "00000002" + "01 0000000000000001 0102" * 2 + "00",
        "toy.t[1]",
        "another",
    ),
}


@pytest.mark.parametrize(
    ("field", "before", "data", "path", "expected"), REFUSED.values(), ids=REFUSED
)
def test_bytes_that_do_not_fit_are_refused_where_they_lie(
    field: Field, before: dict[str, Any], data: str, path: str, expected: str
) -> None:
    error = refused(device(field), State(**before), bytes.fromhex(data), offset=500)
    assert error.section == "toy"
    assert error.cause.startswith(f"{path}: ")
    assert error.expected == expected
    assert error.found
    assert error.offset is not None
    assert 500 <= error.offset <= 500 + len(bytes.fromhex(data))


def test_error_names_device_field_offset_expected_and_found() -> None:
    regs = VMState("regs", fields=[array("r", UINT32, 4)])
    cpu = VMState("cpu", fields=[uint8("mode"), struct("regs", regs)])
    with pytest.raises(StreamError) as caught:
        load(cpu, State(mode=0, regs=State(r=[0] * 4)), bytes(1 + 4 * 3 + 2), offset=100)
    assert str(caught.value) == (
        "section 'cpu', offset 115: cpu.regs.r[3]: the stream ends early; "
        "expected 1 byte; found 0 bytes and the end"
    )


# Subsections.


CHILD = VMState(
    "toy/child", version_id=2, minimum_version_id=1, fields=[uint8("c"), uint8("d", since=2)]
)
OTHER = VMState("toy/other", fields=[uint8("e")])
FAMILY = device(uint8("a"), subsections=[CHILD, OTHER])


def header(name: str, version: int) -> bytes:
    return b"\5" + bytes([len(name)]) + name.encode() + version.to_bytes(4, "big")


@pytest.mark.parametrize("step", [1, 1000])
def test_subsections_load_in_any_order_and_version(step: int) -> None:
    state = State(a=0, c=0, d=9, e=0)
    data = b"\1" + header("toy/other", 1) + b"\2" + header("toy/child", 1) + b"\3"
    assert load(FAMILY, state, data + EOF, step=step) == len(data)
    assert state == State(a=1, c=3, d=9, e=2)


def test_absent_subsection_leaves_its_fields_as_pre_load_set_them() -> None:
    def reset(state: State) -> None:
        state.e = 77

    family = device(uint8("a"), subsections=[OTHER], pre_load=reset)
    state = State(a=0, e=5)
    assert load(family, state, b"\1" + EOF) == 1
    assert state == State(a=1, e=77)


@pytest.mark.parametrize("name", ["toy/unknown", "toyshop"])
def test_unknown_subsection_with_the_device_s_prefix_is_refused(name: str) -> None:
    state = State(a=0, c=0, d=0, e=0)
    error = refused(FAMILY, state, b"\1" + header(name, 1) + b"\2" + EOF)
    assert (error.expected, error.found, error.offset) == ("toy/child or toy/other", name, 1)


def test_subsection_that_comes_twice_is_refused() -> None:
    data = b"\1" + (header("toy/other", 1) + b"\2") * 2
    assert "comes twice" in refused(FAMILY, State(a=0, c=0, d=0, e=0), data).cause


@pytest.mark.parametrize("version", [0, 3])
def test_subsection_of_an_unsupported_version_is_refused(version: int) -> None:
    data = b"\1" + header("toy/child", version) + bytes(10)
    error = refused(FAMILY, State(a=0, c=0, d=0, e=0), data)
    assert error.cause == "toy:toy/child: unsupported version"


@pytest.mark.parametrize(
    "rest", [b"\5", b"\5\3toy", b"\5\4tox/", b"\5\x09tix/child", b"\5\xff!", b"\5\xfftoz"]
)
def test_foreign_byte_5_ends_the_device_without_waiting_for_more(rest: bytes) -> None:
    """What follows may be the last that a source sends before it waits: no byte too many."""
    reader = StreamReader()
    state = State(a=0, c=0, d=0, e=0)
    head = SectionHeader(RecordType.SECTION_FULL, 1, "toy", 0, 1)
    parsing = section(FAMILY, state).load(head, reader)
    assert next(parsing) == 1
    data = b"\1" + rest
    reader.writable()[: len(data)] = data
    reader.received(len(data))
    if rest == b"\5":
        assert next(parsing) == 1
        reader.writable()[:1] = b"\0"
        reader.received(1)
    with pytest.raises(StopIteration):
        next(parsing)
    assert reader.offset == 1
    assert state.a == 1


def test_subsection_of_the_outer_device_ends_an_inner_struct() -> None:
    inner = VMState(
        "inner", fields=[uint8("x")], subsections=[VMState("inner/s", fields=[uint8("y")])]
    )
    outer = device(struct("p", inner), uint8("a"), subsections=[OTHER])
    state = State(p=State(x=0, y=0), a=0, e=0)
    data = b"\1" + header("inner/s", 1) + b"\2" + b"\3" + header("toy/other", 1) + b"\4"
    assert load(outer, state, data + EOF) == len(data)
    assert state == State(p=State(x=1, y=2), a=3, e=4)
    without = b"\1" + b"\x05" + header("toy/other", 1) + b"\4"
    assert load(outer, state, without + EOF) == len(without)
    assert state == State(p=State(x=1, y=2), a=5, e=4)


# Hooks and claims.


def test_hooks_run_around_the_fields_with_the_version_read() -> None:
    calls: list[object] = []
    description = VMState(
        "toy",
        version_id=2,
        fields=[uint8("a")],
        pre_load=lambda state: calls.append(("pre", state.a)),
        post_load=lambda state, version: calls.append(("post", state.a, version)),
    )
    load(description, State(a=0), b"\5" + EOF, version=1)
    assert calls == [("pre", 0), ("post", 5, 1)]


def test_device_that_refuses_its_values_fails_the_load() -> None:
    def check(state: State, version: int) -> None:
        state.derived = 1
        if state.head > 3:
            raise ValueError("the head is beyond the ring")

    description = device(uint8("head"), post_load=check)
    error = refused(description, State(head=0), b"\x09" + EOF)
    assert error.cause == "toy: the device refuses it: the head is beyond the ring"


def test_property_that_refuses_a_value_fails_the_load() -> None:
    class Register:
        def __init__(self) -> None:
            self.stored = 1

        @property
        def value(self) -> int:
            return self.stored

        @value.setter
        def value(self, value: int) -> None:
            if value > 3:
                raise ValueError("too large")
            self.stored = value

    register = Register()
    description = device(uint8("value"), uint8("value"))
    with pytest.raises(StreamError, match=r"toy\.value: the device refuses it: too large"):
        load(description, register, b"\2\4" + EOF)
    assert register.stored == 1


def test_every_loaded_value_is_assigned_once_also_if_it_is_the_same() -> None:
    class Port:
        def __init__(self) -> None:
            self.written: list[int] = []

        @property
        def value(self) -> int:
            return 5

        @value.setter
        def value(self, value: int) -> None:
            self.written.append(value)

        @property
        def lines(self) -> int:
            """Never assigned: it must be equal on both sides anyway."""
            return 8

    port = Port()
    assert load(device(uint8("value"), uint8_equal("lines")), port, b"\5\x08" + EOF) == 2
    assert port.written == [5]


def test_claim_that_does_not_hold_fails_the_load() -> None:
    description = device(
        uint8("n"), validate("n is small", lambda state, version: state.n < 4), uint8("m")
    )
    assert load(description, State(n=0, m=0), b"\3\1" + EOF) == 2
    error = refused(description, State(n=0, m=0), b"\4\1" + EOF)
    assert error.cause == "toy.n is small: what must hold here does not"
    assert error.offset == 1


@pytest.mark.parametrize(
    "description",
    [
        device(uint8("missing")),
        device(struct("p", VMState("p", fields=[uint8("x")]))),
        device(uint8("a", exists=lambda state, version: 1 // 0 == 0)),
        device(uint8("a"), post_load=lambda state, version: state.missing),
        device(array("b", UINT16, 1)),
        device(array("b", POINT, 1, 1)),
    ],
    ids=["attribute", "object", "predicate", "hook", "wide in bytes", "rows of nothing"],
)
def test_state_that_does_not_fit_its_declaration_is_a_local_error(description: VMState) -> None:
    state = State(a=0, p=None, b=b"x")
    with pytest.raises(LocalError, match="toy"):
        load(description, state, b"\1\2\3" + EOF)
    assert state == State(a=0, p=None, b=b"x")


# What is left after a failure.


@dataclass(slots=True)
class Slotted:
    a: int = 1
    inner: Any = None
    points: Any = ()
    z: int = 0


def test_failed_load_puts_back_members_elements_and_what_hooks_set() -> None:
    def set_more(state: Any, version: int) -> None:
        state.extra = version

    inner = VMState("inner", fields=[uint8("x")], post_load=set_more)
    description = device(
        uint8("a"), struct("inner", inner), array("points", POINT, 2), uint8("inner.y"), uint16("z")
    )
    state = Slotted(1, State(x=2, y=3), [State(x=4, y=5), State(x=6, y=7)])
    before = deepcopy(state)
    points, first = state.points, state.points[0]
    with pytest.raises(StreamError):
        load(description, state, bytes([9] * 7))
    assert state == before
    assert state.points is points
    assert state.points[0] is first
    assert not hasattr(state.inner, "extra")


def test_load_that_is_given_up_puts_everything_back() -> None:
    """The engine closes a load that is cancelled."""
    reader = StreamReader()
    state = State(a=1, b=2)
    head = SectionHeader(RecordType.SECTION_FULL, 1, "toy", 0, 1)
    parsing = section(device(uint8("a"), uint8("b")), state).load(head, reader)
    next(parsing)
    reader.writable()[:1] = b"\7"
    reader.received(1)
    next(parsing)
    assert state.a == 7
    parsing.close()
    assert state == State(a=1, b=2)


# Bounds.


@pytest.mark.parametrize(
    "field", [qtailq("q", VMState("e", factory=State)), gtree("q", VMState("e", factory=State))]
)
def test_endless_list_is_refused(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship_devstate._load.ELEMENTS", 5)
    data = b"\0\0\0\5" * (field.content.__class__.__name__ == "Tree") + b"".join(
        b"\1" + place.to_bytes(8, "big") * (field.content.__class__.__name__ == "Tree")
        for place in range(6)
    )
    error = refused(device(field), State(q=None), data + bytes(9))
    assert error.expected == "0 to 5"
    assert error.found == "6"


def test_device_beyond_the_limit_of_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transship_devstate._load.DEVICE_BYTES", 99)
    blob = VMState("blob", fields=[buffer("b", 10)], factory=lambda: State(b=b""))
    description = device(qtailq("q", blob))
    assert load(description, State(q=[]), (b"\1" + bytes(10)) * 8 + b"\0" + EOF) == 89
    error = refused(description, State(q=[]), (b"\1" + bytes(10)) * 20)
    assert error.expected == "at most 99 bytes"


def test_large_buffer_grows_only_as_its_bytes_arrive() -> None:
    description = device(vbuffer("b", "n", alloc=True))
    state = State(n=limits.BUFFER_BYTES, b=b"")
    source = io.BytesIO(bytes(10))
    reader = StreamReader()
    head = SectionHeader(RecordType.SECTION_FULL, 1, "toy", 0, 1)
    parsing = section(description, state).load(head, reader)
    assert next(parsing) == 1
    reader.received(source.readinto(reader.writable()))
    assert next(parsing) == 1


# Elements of the device's own.


def test_device_can_bring_an_element_of_its_own() -> None:
    class Swapped(Integer):
        """Little-endian."""

        __slots__ = ()

        def encode(self, value: int) -> bytes:
            return super().encode(value)[::-1]

    description = device(opaque("a", Swapped("swapped", 2)))
    assert save(description, State(a=0x0102)) == b"\2\1"


# Declarations.


CONTRADICTIONS: dict[str, tuple[Callable[[], object], str]] = {
    "no name": (lambda: VMState(""), "1 to 255 bytes"),
    "long name": (lambda: VMState("x" * 256), "1 to 255 bytes"),
    "versions": (lambda: VMState("a", 1, 2), "loads from version 2"),
    "version of 33 bits": (lambda: VMState("a", 1 << 32), "has version"),
    "prefix": (lambda: VMState("a", subsections=[VMState("b/c")]), "another's prefix"),
    "own name": (lambda: VMState("a", subsections=[VMState("a")]), "another's prefix"),
    "twice": (lambda: VMState("a", subsections=[VMState("a/b")] * 2), "two subsections"),
    "queue": (lambda: qtailq("q", VMState("a")), "needs a factory"),
    "tree": (lambda: gtree("q", VMState("a")), "needs a factory"),
    "key": (lambda: gtree("q", POINT, POINT), "needs make_key"),
    "version of a struct": (lambda: vstruct("a", VMState("a", 2), 3), "has no version 3"),
    "older than it loads": (lambda: vstruct("a", VMState("a", 2, 2), 1), "has no version 1"),
}


@pytest.mark.parametrize(("declare", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_declaration_that_contradicts_itself_is_refused(
    declare: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        declare()


def test_version_0_is_legal() -> None:
    mouse = VMState("vmmouse", version_id=0, fields=[uint8("a")])
    state = State(a=0)
    assert load(mouse, state, b"\5" + EOF, version=0) == 1
    assert state.a == 5


def test_tmp_sees_the_state_object_and_leaves_no_trace_in_it() -> None:
    class Passing:
        def __init__(self, parent: State) -> None:
            self.parent, self.low, self.high = parent, 0, 0

        def split(self) -> None:
            self.low, self.high = self.parent.wide & 0xFF, self.parent.wide >> 8

        def join(self, version: int) -> None:
            self.parent.wide = self.high << 8 | self.low

    passing = VMState(
        "passing",
        fields=[uint8("low"), uint8("high")],
        pre_save=Passing.split,
        post_load=Passing.join,
    )
    description = device(tmp(passing, Passing), uint8("a"))
    assert save(description, State(wide=0x0102, a=3)) == b"\2\1\3"
    state = State(wide=0, a=0)
    assert load(description, state, b"\2\1\3" + EOF) == 3
    assert state == State(wide=0x0102, a=3)
    assert refused(description, State(wide=0, a=0), b"\2\1").offset == 2


def test_nothing_of_the_vocabulary_is_untested() -> None:
    assert boolean("a").content is BOOL
    assert timer("a").content is TIMER
    assert int16("a").content == Integer("int16", 2, signed=True)
