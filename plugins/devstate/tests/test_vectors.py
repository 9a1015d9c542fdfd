"""Streams whose bytes and values are known, in both directions (the wire reference, 6.8)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from devstate_helpers import EOF, describe, load, save

from transship.errors import StreamError
from transship.wire.elements import INT32, UINT16
from transship.wire.fields import (
    VMState,
    array,
    boolean,
    gtree,
    int8,
    int16,
    int32,
    int64,
    pointers,
    qlist,
    qtailq,
    struct,
    tmp,
    uint8,
    uint16,
    uint32,
    uint64,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Primitive:
    b_1: bool = False
    b_2: bool = True
    u8_1: int = 0
    u16_1: int = 0
    u32_1: int = 0
    u64_1: int = 0
    i8_1: int = 0
    i8_2: int = 0
    i16_1: int = 0
    i16_2: int = 0
    i32_1: int = 0
    i32_2: int = 0
    i64_1: int = 0
    i64_2: int = 0


PRIMITIVE = VMState(
    "simple/primitive",
    minimum_version_id=1,
    fields=[
        boolean("b_1"),
        boolean("b_2"),
        uint8("u8_1"),
        uint16("u16_1"),
        uint32("u32_1"),
        uint64("u64_1"),
        int8("i8_1"),
        int8("i8_2"),
        int16("i16_1"),
        int16("i16_2"),
        int32("i32_1"),
        int32("i32_2"),
        int64("i64_1"),
        int64("i64_2"),
    ],
)


@dataclass
class Array:
    u16_1: list[int] = field(default_factory=lambda: [0, 0, 0])


ARRAY = VMState("simple/array", fields=[array("u16_1", UINT16, 3)])


@dataclass
class Versioned:
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0
    f: int = 0
    skip_c_e: bool = False


VERSIONED = VMState(
    "test/versioned",
    version_id=2,
    minimum_version_id=1,
    fields=[
        uint32("a"),
        uint32("b", since=2),
        uint32("c"),
        uint64("d"),
        uint32("e", since=2),
        uint64("f", since=2),
    ],
)


def is_not_skipped(state: Versioned, version: int) -> bool:
    return not state.skip_c_e


SKIPPING = VMState(
    "test/skip",
    version_id=2,
    minimum_version_id=1,
    fields=[
        uint32("a"),
        uint32("b"),
        uint32("c", exists=is_not_skipped),
        uint64("d"),
        uint32("e", exists=is_not_skipped),
        uint64("f", since=2),
    ],
)


@dataclass
class Small:
    i: int = -1


SMALL = VMState("struct", fields=[int32("i")])


@dataclass
class Pointers:
    ar: list[Small | None]


POINTERS = VMState("test/array_of_pointers", fields=[pointers("ar", SMALL, 4)])


@dataclass
class IntegerPointers:
    ar: list[int | None]


INTEGER_POINTERS = VMState("test/array_of_int", fields=[pointers("ar", INT32, 4)])


@dataclass
class Element:
    b: bool = False
    u8: int = 0


@dataclass
class Queue:
    i16: int = 0
    q: list[Element] = field(default_factory=list)
    i32: int = 0


ELEMENT = VMState("test/queue-element", fields=[boolean("b"), uint8("u8")], factory=Element)
QUEUE = VMState("test/queue", fields=[int16("i16"), qtailq("q", ELEMENT), int32("i32")])


@dataclass(frozen=True, order=True)
class Interval:
    low: int
    high: int


@dataclass
class Mapping:
    phys_addr: int = 0
    flags: int = 0


@dataclass
class Domain:
    id: int = 0
    mappings: dict[Interval, Mapping] = field(default_factory=dict)


@dataclass
class Iommu:
    id: int = 0
    domains: dict[int, Domain] = field(default_factory=dict)


INTERVAL = VMState("interval", fields=[uint64("low"), uint64("high")])
MAPPING = VMState("mapping", fields=[uint64("phys_addr"), uint32("flags")], factory=Mapping)
DOMAIN = VMState(
    "domain", fields=[int32("id"), gtree("mappings", MAPPING, INTERVAL, Interval)], factory=Domain
)
IOMMU = VMState("iommu", fields=[int32("id"), gtree("domains", DOMAIN)])


@dataclass
class Number:
    value: int = 0


@dataclass
class Container:
    id: int = 0
    list: list[Number] = field(default_factory=list)


CONTAINER = VMState(
    "test/container",
    fields=[
        uint32("id"),
        qlist("list", VMState("number", fields=[uint32("value")], factory=Number)),
    ],
)


@dataclass
class Inner:
    f: int = 0


@dataclass
class Parent:
    a: int = 0
    b: int = 0
    d: int = 0
    inner: Inner = field(default_factory=Inner)


class Difference:
    def __init__(self, parent: Parent) -> None:
        self.parent = parent
        self.diff = 0

    def compute(self) -> None:
        self.diff = self.parent.b - self.parent.a

    def apply(self, version: int) -> None:
        self.parent.b = self.parent.a + self.diff


DIFFERENCE = VMState(
    "test/tmp_child",
    fields=[
        int64("diff"),
        struct("parent.inner", VMState("test/inner", fields=[uint64("f")])),
    ],
    pre_save=Difference.compute,
    post_load=Difference.apply,
)
PARENT = VMState("test/parent", fields=[uint32("a"), uint64("d"), tmp(DIFFERENCE, Difference)])

DOMAIN_6 = (
    "00000006 00000002 01 0000000000001000 0000000000001fff 000000000000a000 00000001"
    "01 0000000000004000 0000000000004fff 00000000000e0000 00000002 00"
)


def domain_6() -> Domain:
    return Domain(
        6,
        {
            Interval(0x4000, 0x4FFF): Mapping(0xE0000, 2),
            Interval(0x1000, 0x1FFF): Mapping(0xA000, 1),
        },
    )


@dataclass
class Vector:
    """A device with known bytes.

    Attributes:
        blank: What is loaded into: each value differs from the one that comes, where it can.
    """

    description: VMState
    state: Any
    data: str
    blank: Any

    @property
    def bytes(self) -> bytes:
        return bytes.fromhex(self.data)


VECTORS = {
    "primitive": Vector(
        PRIMITIVE,
        Primitive(
            True, False, 130, 512, 70000, 12121212, 65, -65, 512, -512, 70000, -70000, 12121212,
            -12121212,
        ),
        "01 00 82 0200 00011170 0000000000b8f47c 41 bf 0200 fe00 00011170 fffeee90"
        "0000000000b8f47c ffffffffff470b84",
        Primitive(),
    ),
    "array": Vector(ARRAY, Array([0x42, 0x43, 0x44]), "0042 0043 0044", Array()),
    "versioned": Vector(
        VERSIONED,
        Versioned(10, 20, 30, 40, 50, 60),
        "0000000a 00000014 0000001e 0000000000000028 00000032 000000000000003c",
        Versioned(),
    ),
    "not skipped": Vector(
        SKIPPING,
        Versioned(1, 2, 3, 4, 5, 6),
        "00000001 00000002 00000003 0000000000000004 00000005 0000000000000006",
        Versioned(),
    ),
    "skipped": Vector(
        SKIPPING,
        Versioned(1, 2, 300, 4, 500, 6, skip_c_e=True),
        "00000001 00000002 0000000000000004 0000000000000006",
        Versioned(c=300, e=500, skip_c_e=True),
    ),
    "pointers": Vector(
        POINTERS,
        Pointers([Small(0), Small(1), Small(2), Small(3)]),
        "00000000 00000001 00000002 00000003",
        Pointers([Small(), Small(), Small(), Small()]),
    ),
    "pointers with none": Vector(
        POINTERS,
        Pointers([Small(0), None, Small(2), Small(3)]),
        "00000000 30 00000002 00000003",
        Pointers([Small(), None, Small(), Small()]),
    ),
    "integer pointers": Vector(
        INTEGER_POINTERS,
        IntegerPointers([0, 1, 2, 3]),
        "00000000 00000001 00000002 00000003",
        IntegerPointers([-1, -1, -1, -1]),
    ),
    "integer pointers with none": Vector(
        INTEGER_POINTERS,
        IntegerPointers([0, None, 2, 3]),
        "00000000 30 00000002 00000003",
        IntegerPointers([-1, None, -1, -1]),
    ),
    "queue": Vector(
        QUEUE,
        Queue(-512, [Element(True, 130), Element(False, 65)], 70000),
        "fe00 01 01 82 01 00 41 00 00011170",
        Queue(),
    ),
    "domain": Vector(DOMAIN, domain_6(), DOMAIN_6, Domain()),
    "iommu": Vector(
        IOMMU,
        Iommu(
            7,
            {
                6: domain_6(),
                5: Domain(5, {Interval(0x1000000, 0x1FFFFFF): Mapping(0xF000000, 3)}),
            },
        ),
        "00000007 00000002 01 0000000000000005 00000005 00000001 01 0000000001000000"
        "0000000001ffffff 000000000f000000 00000003 00 01 0000000000000006" + DOMAIN_6 + "00",
        Iommu(),
    ),
    "qlist": Vector(
        CONTAINER,
        Container(1, [Number(0xA), Number(0xB00), Number(0xC0000), Number(0xD000000)]),
        "00000001 01 0000000a 01 00000b00 01 000c0000 01 0d000000 00",
        Container(),
    ),
    "tmp": Vector(
        PARENT,
        Parent(2, 4, 1, Inner(8)),
        "00000002 0000000000000001 0000000000000002 0000000000000008",
        Parent(),
    ),
}  # fmt: skip


@pytest.fixture(params=VECTORS)
def vector(request: pytest.FixtureRequest) -> Vector:
    return VECTORS[request.param]


def test_known_device_saves_to_its_bytes(vector: Vector) -> None:
    assert save(vector.description, deepcopy(vector.state)).hex() == vector.bytes.hex()


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_known_bytes_load_to_the_device(vector: Vector, step: int) -> None:
    state = deepcopy(vector.blank)
    consumed = load(vector.description, state, vector.bytes + EOF, step=step)
    assert state == vector.state
    assert consumed == len(vector.bytes)


PARTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "all but two bytes": lambda data: data[:-2],
    "the first half": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_part_of_the_bytes_fails_and_leaves_the_device_as_it_was(
    vector: Vector, part: Callable[[bytes], bytes]
) -> None:
    state = deepcopy(vector.blank)
    with pytest.raises(StreamError) as caught:
        load(vector.description, state, part(vector.bytes), offset=1000)
    assert state == vector.blank
    assert caught.value.cause.startswith(vector.description.name)
    assert caught.value.offset is not None
    assert caught.value.offset >= 1000
    assert caught.value.expected
    assert caught.value.found


@pytest.mark.parametrize("name", [name for name in VECTORS if name != "queue"])
def test_second_half_of_the_bytes_fails(name: str) -> None:
    """That of the queue happens to be a device itself."""
    vector = VECTORS[name]
    state = deepcopy(vector.blank)
    with pytest.raises(StreamError):
        load(vector.description, state, vector.bytes[len(vector.bytes) // 2 :])
    assert state == vector.blank


def test_every_cut_of_the_bytes_fails(vector: Vector) -> None:
    for end in range(len(vector.bytes)):
        with pytest.raises(StreamError):
            load(vector.description, deepcopy(vector.blank), vector.bytes[:end])


def test_older_stream_leaves_newer_fields_as_they_are() -> None:
    state = Versioned(b=200, e=500, f=600)
    data = bytes.fromhex("0000000a 0000001e 0000000000000028")
    assert load(VERSIONED, state, data + EOF, version=1) == len(data)
    assert state == Versioned(10, 200, 30, 40, 500, 600)


def test_fields_of_which_a_predicate_decides_ignore_the_version() -> None:
    data = bytes.fromhex("0000000a 00000014 0000001e 0000000000000028 00000032")
    state = Versioned(f=7)
    assert load(SKIPPING, state, data + EOF, version=1) == len(data)
    assert state == Versioned(10, 20, 30, 40, 50, 7)


@pytest.mark.parametrize("version", [0, 3])
def test_version_outside_the_range_is_refused(version: int) -> None:
    state = Versioned(b=1)
    with pytest.raises(StreamError, match="unsupported version") as caught:
        load(VERSIONED, state, bytes(100), version=version)
    assert (caught.value.expected, caught.value.found) == ("1 to 2", str(version))
    assert state == Versioned(b=1)


def test_measured_sizes_of_the_description_add_up_to_the_bytes(vector: Vector) -> None:
    described = describe(vector.description, deepcopy(vector.state))
    total = sum(one["size"] * one.get("array_len", 1) for one in described["fields"])
    assert total == len(vector.bytes)
