"""The schema is one that a client can follow: every reference leads somewhere that is true."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from transship.control.introspect import SchemaInfo, schema_of
from transship.control.qapi.declaring import type_of
from transship.control.registry import CommandTable
from transship.control.server import protocol
from transship.control.server.jsontext import serialise

from .control_helpers import Workshop


@pytest.fixture
def schema() -> dict[str, Any]:
    """The entities by name, as a client gets them."""
    table = CommandTable.joined(protocol.TABLE, Workshop().table)
    entities = json.loads(serialise(msgspec.to_builtins(schema_of(table))))
    names = [one["name"] for one in entities]
    assert len(names) == len(set(names))
    return dict(zip(names, entities, strict=True))


def members(schema: dict[str, Any], name: str) -> dict[str, Any]:
    assert schema[name]["meta-type"] == "object"
    return {one["name"]: one for one in schema[name]["members"]}


def check_type(schema: dict[str, Any], name: str) -> None:
    """What every client relies on, of a type and of all that it refers to."""
    seen: set[str] = set()
    left = [name]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        entity = schema[name]
        match entity["meta-type"]:
            case "builtin":
                assert entity.keys() == {"name", "meta-type", "json-type"}
                assert entity["json-type"] in (
                    {"string", "number", "int", "boolean", "null", "value"}
                )
            case "array":
                assert name == f"[{entity['element-type']}]"
                left.append(entity["element-type"])
            case "enum":
                assert [one["name"] for one in entity["members"]] == entity["values"]
            case "object":
                left += [one["type"] for one in entity["members"]]
                assert all(one.get("default") is None for one in entity["members"])
                check_variants(schema, entity)
                left += [one["type"] for one in entity.get("variants", [])]
            case other:
                pytest.fail(f"{name} is no type but a {other}")


def check_variants(schema: dict[str, Any], entity: Any) -> None:
    assert ("tag" in entity) == ("variants" in entity)
    if "tag" in entity:
        (tag,) = [one for one in entity["members"] if one["name"] == entity["tag"]]
        assert "default" not in tag
        assert {one["case"] for one in entity["variants"]} == set(schema[tag["type"]]["values"])
        assert all(schema[one["type"]]["meta-type"] == "object" for one in entity["variants"])


def test_every_reference_leads_to_a_type(schema: dict[str, Any]) -> None:
    for entity in schema.values():
        if entity["meta-type"] == "command":
            check_type(schema, entity["arg-type"])
            check_type(schema, entity["ret-type"])
            assert schema[entity["arg-type"]]["meta-type"] == "object"
        elif entity["meta-type"] == "event":
            check_type(schema, entity["arg-type"])
            assert schema[entity["arg-type"]]["meta-type"] == "object"
        else:
            check_type(schema, entity["name"])


def test_every_type_is_used(schema: dict[str, Any]) -> None:
    text = json.dumps(list(schema.values()))
    for name, entity in schema.items():
        if entity["meta-type"] not in ("command", "event"):
            assert text.count(f'"{name}"') > 1


def test_schema_describes_itself(schema: dict[str, Any]) -> None:
    type_ = type_of(list[SchemaInfo])
    type_.check(list(schema.values()), "")


def test_command_that_takes_and_gives_nothing_has_empty_objects(schema: dict[str, Any]) -> None:
    refuse = schema["refuse"]
    assert refuse == {"meta-type": "command", "name": "refuse", "arg-type": "0", "ret-type": "0"}
    assert schema["0"] == {"meta-type": "object", "name": "0", "members": []}
    assert schema["IDLE"] == {"meta-type": "event", "name": "IDLE", "arg-type": "0"}


def test_member_with_a_default_is_marked(schema: dict[str, Any]) -> None:
    arguments = members(schema, schema["migrate"]["arg-type"])
    assert arguments["uri"] == {"name": "uri", "type": "str", "default": None}
    assert members(schema, schema["say"]["arg-type"]) == {"text": {"name": "text", "type": "str"}}


def test_members_have_the_kinds_of_their_json(schema: dict[str, Any]) -> None:
    arguments = members(schema, schema["set"]["arg-type"])
    for name in ("max-bandwidth", "multifd-channels", "count"):
        assert arguments[name]["type"] == "int"
    assert arguments["ratio"]["type"] == "number"
    assert arguments["direct-io"]["type"] == "bool"


def test_address_has_a_union_as_a_variant_of_a_union(schema: dict[str, Any]) -> None:
    channels = members(schema, schema["migrate"]["arg-type"])["channels"]["type"]
    address = schema[members(schema, schema[channels]["element-type"])["addr"]["type"]]
    assert address["tag"] == "transport"
    cases = {one["case"]: schema[one["type"]] for one in address["variants"]}
    assert cases.keys() == {"socket", "rdma", "exec", "file"}
    assert cases["socket"]["tag"] == "type"
    assert [one["case"] for one in cases["socket"]["variants"]] == ["inet", "unix"]
    assert "tag" not in cases["rdma"]


def test_features_are_marked_where_they_are(schema: dict[str, Any]) -> None:
    assert schema["set"]["features"] == ["deprecated"]
    assert "features" not in schema["say"]


def test_only_commands_that_allow_out_of_band_say_so(schema: dict[str, Any]) -> None:
    allowing = {name for name, one in schema.items() if "allow-oob" in one}
    assert allowing == {"say-now", "wait-now"}
    assert all(schema[name]["allow-oob"] is True for name in allowing)
