"""Arguments are checked whole, before anything is done, and a refusal says where it is wrong."""

from __future__ import annotations

import enum
from itertools import product
from typing import Annotated, Any

import msgspec
import pytest

from transship.control.errors import CommandError
from transship.control.qapi.declaring import AnyJson, Object, OneOf, UInt8, type_of
from transship.control.registry import CommandTable

from .control_helpers import (
    Channel,
    ChannelType,
    FileAddress,
    InetAddress,
    Migrate,
    RdmaAddress,
    Settings,
    UnixAddress,
)


def check(struct: type[Object], value: object) -> Any:
    return type_of(struct).check(value, "")


def refusal(struct: type[Object], value: object) -> str:
    with pytest.raises(CommandError) as refused:
        check(struct, value)
    assert refused.value.error_class == "GenericError"
    return refused.value.desc


def addressed(**addr: object) -> dict[str, object]:
    return {"channels": [{"channel-type": "main", "addr": addr}]}


# What is accepted


@pytest.mark.parametrize(
    ("addr", "expected"),
    [
        (
            {"transport": "socket", "type": "inet", "host": "h", "port": "1", "to": 65535},
            InetAddress("h", "1", 65535),
        ),
        ({"transport": "socket", "type": "unix", "path": "/p"}, UnixAddress("/p")),
        ({"type": "unix", "path": "/p", "transport": "socket"}, UnixAddress("/p")),
        ({"transport": "rdma", "host": "h", "port": "1"}, RdmaAddress("h", "1")),
        ({"transport": "file", "filename": "/f", "offset": 0}, FileAddress("/f", 0)),
    ],
)
def test_address_is_read_by_both_its_discriminators(
    addr: dict[str, object], expected: object
) -> None:
    read = check(Migrate, addressed(**addr))
    assert read == Migrate(channels=[Channel(ChannelType.MAIN, expected)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("max-bandwidth", 0, 0),
        ("max-bandwidth", (1 << 64) - 1, (1 << 64) - 1),
        ("max-bandwidth", -1, (1 << 64) - 1),
        ("max-bandwidth", -(1 << 63), 1 << 63),
        ("downtime-limit", -1, (1 << 64) - 1),
        ("multifd-channels", 255, 255),
        ("count", -(1 << 63), -(1 << 63)),
        ("count", (1 << 63) - 1, (1 << 63) - 1),
        ("ratio", 1, 1.0),
        ("ratio", 1.5, 1.5),
        ("direct-io", False, False),
    ],
)
def test_value_of_the_right_type_is_accepted(member: str, value: object, expected: object) -> None:
    read = getattr(check(Settings, {member: value}), member.replace("-", "_"))
    assert read == expected
    assert type(read) is type(expected)


def test_absent_members_have_their_defaults() -> None:
    assert check(Settings, {}) == Settings()
    assert check(Migrate, {}).detach is False


# What is refused


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *product(["max-bandwidth"], (1.0, "1", True, None, [], {}, 1e30, 1 << 64)),
        *product(["multifd-channels"], (-1, 256, 1.0, False, "2", -(1 << 63))),
        *product(["count"], (1 << 63, 1.0, -9.3e18, None)),
        *product(["ratio"], ("1", True, None, [1])),
        *product(["direct-io"], (0, 1, "on", "true", None)),
        *product(["compression"], ("nope", "", "NONE", 0, None, ["none"])),
        ("max_bandwidth", 1),
        ("no-such", 1),
        ("", 1),
    ],
)
def test_value_of_the_wrong_type_is_refused_by_name(member: str, value: object) -> None:
    assert f"'{member}'" in refusal(Settings, {member: value})


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"channels": {}}, "channels"),
        ({"channels": None}, "channels"),
        ({"channels": [7]}, "channels[0]"),
        ({"channels": [{}]}, "channels[0].channel-type"),
        ({"channels": [{"channel-type": "main"}]}, "channels[0].addr"),
        ({"channels": [{"channel-type": "nope", "addr": {}}]}, "channels[0].channel-type"),
        (addressed(), "channels[0].addr.transport"),
        (addressed(transport="nope"), "channels[0].addr.transport"),
        (addressed(transport=7), "channels[0].addr.transport"),
        (addressed(transport="inet"), "channels[0].addr.transport"),
        (addressed(transport="socket"), "channels[0].addr.type"),
        (addressed(transport="socket", type="nope"), "channels[0].addr.type"),
        (addressed(transport="socket", type=None), "channels[0].addr.type"),
        (addressed(transport="socket", type="inet"), "channels[0].addr.host"),
        (
            addressed(transport="socket", type="inet", host="h", port=1),
            "channels[0].addr.port",
        ),
        (
            addressed(transport="socket", type="inet", host="h", port="1", to=65536),
            "channels[0].addr.to",
        ),
        (
            addressed(transport="socket", type="unix", path="p", host="h"),
            "channels[0].addr.host",
        ),
        (addressed(transport="rdma", type="inet", host="h", port="1"), "channels[0].addr.type"),
        (addressed(transport="exec", args=["a", 7]), "channels[0].addr.args[1]"),
        (addressed(transport="exec", args="a"), "channels[0].addr.args"),
        (addressed(transport="file", filename="f"), "channels[0].addr.offset"),
        (addressed(transport="file", filename="f", offset="0x0"), "channels[0].addr.offset"),
        (addressed(transport="file", filename="f", offset=1.0), "channels[0].addr.offset"),
        ({"uri": None}, "uri"),
        ({"detach": None}, "detach"),
        ({"uri": "tcp::1", "blk": True}, "blk"),
    ],
)
def test_refusal_names_the_position(arguments: object, place: str) -> None:
    assert f"'{place}'" in refusal(Migrate, arguments)


def test_refusal_does_not_repeat_what_is_long() -> None:
    assert len(refusal(Settings, {"x" * 100_000: 1})) < 300
    assert len(refusal(Settings, {"compression": "x" * 100_000})) < 300
    assert len(refusal(Settings, {"count": 10**4000})) < 300


def test_refused_enumeration_says_what_there_is() -> None:
    assert "none, zlib, x-odd" in refusal(Settings, {"compression": "lz4"})


def test_any_json_is_passed_on_as_it_is() -> None:
    class Anything(Object):
        value: AnyJson

    for value in (None, 1.5, [{"a": None}]):
        assert check(Anything, {"value": value}).value == value


class Node(Object):
    """Something that contains itself."""

    name: str
    below: list[Node] = msgspec.field(default_factory=list)


def test_type_may_contain_itself() -> None:
    tree = check(Node, {"name": "a", "below": [{"name": "b"}]})
    assert tree == Node("a", [Node("b")])
    assert "'below[0].name'" in refusal(Node, {"name": "a", "below": [{}]})


# Declarations that are wrong


def test_declaration_that_is_no_type_of_qapi_is_refused_when_registered() -> None:
    class Wrong(Object):
        when: bytes

    with pytest.raises(TypeError, match=r"Wrong\.when: .*bytes"):
        CommandTable().event("WRONG", Wrong)


def test_member_that_may_be_none_needs_that_default() -> None:
    class Wrong(Object):
        value: int | None

    with pytest.raises(TypeError, match="by default"):
        CommandTable().event("WRONG", Wrong)


def test_enumeration_of_numbers_is_refused() -> None:
    class Level(enum.Enum):
        LOW = 1

    with pytest.raises(TypeError, match="not all text"):
        type_of(Level)


def test_union_of_what_has_no_discriminator_is_refused() -> None:
    class Plain(Object):
        value: UInt8

    union = Annotated[Plain | UnixAddress, OneOf("Wrong", by="type")]
    with pytest.raises(TypeError, match="'type'"):
        type_of(union)


def test_other_unions_are_refused() -> None:
    for annotation in (int | str, dict[str, int], tuple[int], Any):
        with pytest.raises(TypeError, match="no type of QAPI"):
            type_of(annotation)
