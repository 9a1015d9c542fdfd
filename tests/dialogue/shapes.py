"""What two answers have in common whatever their numbers are: members and JSON types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT: Final = "(absent)"
"""Stands where there is no value."""

Shape: TypeAlias = "str | dict[str, Shape] | list[Shape]"
"""The name of a JSON type; an object's members; or an array's elements as one, none if empty."""


def shape_of(value: object) -> Shape:
    """Reduce a JSON value to its shape. Elements of an array are merged into one."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case dict():
            return {name: shape_of(member) for name, member in value.items()}
        case list():
            elements: list[Shape] = []
            for element in value:
                shape = shape_of(element)
                elements = [merged(elements[0], shape) if elements else shape]
            return elements
        case _:
            raise TypeError(f"not JSON: {value!r}")


def merged(one: Shape, other: Shape) -> Shape:
    """Return a shape that has the members of both; `null|string` where types differ."""
    match one, other:
        case dict(), dict():
            return {
                name: merged(one[name], other[name])
                if name in one and name in other
                else one.get(name, other.get(name, "null"))
                for name in one | other
            }
        case list(), list():
            return [merged(one[0], other[0])] if one and other else one or other
        case _:
            names = {*kind(one).split("|"), *kind(other).split("|")}
            return "|".join(sorted(names))


def kind(shape: Shape) -> str:
    """Return the name of its JSON type."""
    match shape:
        case dict():
            return "object"
        case list():
            return "array"
        case _:
            return shape


def unlike(qemu: Shape, ours: Shape, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield where two shapes differ: `only_qemu`, `only_ours` or `types`, and the path.

    The path of a member of an array's elements has brackets: `socket-address[].port`. An empty
    array says nothing of its elements, so it is like any other.
    """
    match qemu, ours:
        case dict(), dict():
            prefix = f"{path}." if path else ""
            for name in qemu | ours:
                if name not in ours:
                    yield "only_qemu", prefix + name
                elif name not in qemu:
                    yield "only_ours", prefix + name
                else:
                    yield from unlike(qemu[name], ours[name], prefix + name)
        case list(), list():
            if qemu and ours:
                yield from unlike(qemu[0], ours[0], f"{path}[]")
        case _:
            if qemu != ours:
                yield "types", path


def kind_at(shape: Shape, path: str) -> str:
    """Return the JSON type of a member of a shape."""
    for name in path.replace("[]", ".[]").split("."):
        match shape:
            case list() if name == "[]" and shape:
                shape = shape[0]
            case dict() if name in shape:
                shape = shape[name]
            case _ if name:
                return ABSENT
    return kind(shape)


def member(value: object, path: str) -> Any:
    """Return a member of a JSON value: `socket-address.0.port`; the value itself if without path.

    Raises:
        LookupError: There is none.
    """
    for name in path.split(".") if path else ():
        match value:
            case dict():
                value = value[name]
            case list():
                value = value[int(name)]
            case _:
                raise LookupError(path)
    return value


def signature(schema: list[dict[str, Any]], command: str) -> Shape:
    """Return what `query-qmp-schema` says of one command: its arguments and what it returns.

    Names of types are left out, as clients should: only what is behind them counts. Optional
    members end in a question mark, the words of an enumeration are the members of an object.
    """
    entries = {entry["name"]: entry for entry in schema}
    entry = entries.get(command)
    if entry is None:
        return "missing"
    return {
        "arguments": _type(entries, entry["arg-type"]),
        "returns": _type(entries, entry["ret-type"]),
        "out-of-band": str(entry.get("allow-oob", False)),
    }


def _type(entries: dict[str, dict[str, Any]], name: str) -> Shape:
    entry = entries[name]
    match entry["meta-type"]:
        case "builtin":
            json_type: str = entry["json-type"]
            return "number" if json_type == "int" else json_type
        case "enum":
            return {"one of": dict.fromkeys(entry["values"], "word")}
        case "array":
            return [_type(entries, entry["element-type"])]
        case "alternate":
            return {"either": dict.fromkeys(sorted(_names(entries, entry)), "type")}
        case "object":
            members: dict[str, Shape] = {
                one["name"] + ("?" if "default" in one else ""): _type(entries, one["type"])
                for one in entry["members"]
            }
            for variant in entry.get("variants", ()):
                members[f"{entry['tag']}={variant['case']}"] = _type(entries, variant["type"])
            return members
        case other:
            raise ValueError(f"a type of an unknown kind: {other}")


def _names(entries: dict[str, dict[str, Any]], alternate: dict[str, Any]) -> set[str]:
    return {kind(_type(entries, one["type"])) for one in alternate["members"]}
