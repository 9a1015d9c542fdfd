"""How answers are reduced and compared, without anybody who answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .player import Answer, compare
from .script import Difference, dialogues, number, read
from .shapes import member, shape_of, signature, unlike

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, "null"),
        (True, "boolean"),
        (1, "number"),
        (1.5, "number"),
        ("", "string"),
        ([], []),
        ({"a": {"b": [1]}}, {"a": {"b": ["number"]}}),
        ([{"a": 1}, {"a": 2, "b": ""}], [{"a": "number", "b": "string"}]),
        ([1, None, "x"], ["null|number|string"]),
        ([[], [1]], [["number"]]),
        ([{}, 1], ["number|object"]),
    ],
)
def test_values_are_reduced_to_members_and_types(value: object, shape: object) -> None:
    assert shape_of(value) == shape


def test_shapes_are_told_apart_by_path() -> None:
    qemu = shape_of({"ram": {"total": 1, "old": 2}, "list": [{"a": 1}], "same": [], "type": 1})
    ours = shape_of({"ram": {"total": "1"}, "list": [{"b": 1}], "same": [1], "type": [1]})
    assert sorted(unlike(qemu, ours)) == [
        ("only_ours", "list[].b"),
        ("only_qemu", "list[].a"),
        ("only_qemu", "ram.old"),
        ("types", "ram.total"),
        ("types", "type"),
    ]


def test_member_is_found_in_objects_and_arrays() -> None:
    value = {"list": [{"port": "1"}]}
    assert member(value, "list.0.port") == "1"
    assert member(value, "") is value
    for path in ("nosuch", "list.1", "list.0.port.more"):
        with pytest.raises(LookupError):
            member(value, path)


def test_declared_difference_is_none_and_undeclared_is_one() -> None:
    qemu = Answer("ok", shape_of({"a": 1, "b": 1}), values={"a": 1})
    ours = Answer("ok", shape_of({"a": 2, "c": 1}), values={"a": 2})
    found = {(one.aspect, one.path) for one in compare("step", qemu, ours)}
    assert found == {("only_qemu", "b"), ("only_ours", "c"), ("values", "a")}
    declared = Difference("d", "", "", only_qemu=("b",), only_ours=("c",), values={"a": 2})
    assert compare("step", qemu, ours, [declared]) == []


@pytest.mark.parametrize(
    "stale",
    [
        Difference("d", "", "", only_qemu=("b",)),
        Difference("d", "", "", only_ours=("a",)),
        Difference("d", "", "", types=("a",)),
        Difference("d", "", "", outcome="GenericError"),
        Difference("d", "", "", values={"a": 2}),
        Difference("d", "", "", events=()),
        Difference("d", "", "", echoes=False),
    ],
)
def test_difference_that_does_not_occur_is_reported(stale: Difference) -> None:
    same = Answer("ok", shape_of({"a": 1}), values={"a": 1})
    (found,) = compare("step", same, same, [stale])
    assert found.stale == "d"
    assert "'d'" in str(found)


def test_difference_of_another_value_is_reported_twice() -> None:
    qemu, ours = Answer("ok"), Answer("GenericError")
    declared = Difference("d", "", "", outcome="CommandNotFound")
    assert [one.stale for one in compare("step", qemu, ours, [declared])] == [None, "d"]


def test_outcomes_events_and_ids_are_compared() -> None:
    qemu = Answer("ok", echo="1", events=("STOP",), closed=True)
    ours = Answer("ok", echo="2", events=())
    assert [one.aspect for one in compare("step", qemu, ours)] == ["echoes", "events", "closes"]
    assert [one.aspect for one in compare("s", qemu, Answer("GenericError"))] == ["outcome"]


def test_numbers_are_what_json_means_by_them() -> None:
    assert number("1e2") == 100
    assert isinstance(number("1.0"), int)
    assert number("1.5") == 1.5


def test_signature_of_a_command_says_nothing_of_type_names() -> None:
    schema: list[dict[str, Any]] = [
        {"name": "go", "meta-type": "command", "arg-type": "1", "ret-type": "2"},
        {
            "name": "1",
            "meta-type": "object",
            "members": [
                {"name": "way", "type": "3"},
                {"name": "far", "type": "4", "default": None},
            ],
        },
        {"name": "2", "meta-type": "object", "members": []},
        {"name": "3", "meta-type": "enum", "values": ["up", "down"]},
        {"name": "4", "meta-type": "array", "element-type": "int"},
        {"name": "int", "meta-type": "builtin", "json-type": "int"},
    ]
    assert signature(schema, "go") == {
        "arguments": {"way": {"one of": {"up": "word", "down": "word"}}, "far?": ["number"]},
        "returns": {},
        "out-of-band": "False",
    }


@pytest.mark.parametrize(
    "step",
    [
        "{}",
        "{ do = 'stop', send = 'stop' }",
        "{ do = 'stop', sometimes = true }",
        "{ do = 'stop', error = \"SomeError\" }",
    ],
)
def test_step_that_is_in_no_known_form_is_refused(step: str, tmp_path: Path) -> None:
    path = tmp_path / "dialogue.toml"
    path.write_text(f'about = "x"\nside = "source"\nsteps = [{step}]\n')
    with pytest.raises(ValueError, match="step 1"):
        read(path, {})


def test_all_dialogues_can_be_read() -> None:
    assert sum(len(dialogue.steps) for dialogue in dialogues()) > 500
