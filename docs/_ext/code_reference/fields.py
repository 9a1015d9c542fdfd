"""The vocabulary in which a device's state is declared."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

from transship.wire import fields
from transship.wire.elements import Element

from .docstrings import first_sentence, section, table


def makers() -> dict[str, Any]:
    """The functions that make a field with a form of its own."""
    return {
        name: item
        for name, item in vars(fields).items()
        if isinstance(item, FunctionType)
        and item.__module__ == fields.__name__
        and item.__name__ == name
        and not name.startswith("_")
    }


def scalars() -> dict[str, str]:
    """The functions that make a field of one value, and what the stream calls it."""
    found = {}
    for name, item in vars(fields).items():
        if isinstance(item, FunctionType) and item.__name__ == "declare":
            content = item("value").content
            assert isinstance(content, Element)
            found[name] = content.type_name
    return found


def declarations() -> str:
    """The arguments of a declaration and of a field."""
    return "\n\n".join(
        f"## {kind.__name__}\n\n{first_sentence(kind)}\n\n"
        + table(
            ["argument", "meaning"],
            [[f"`{name}`", meaning] for name, meaning in section(kind, "Args")],
        )
        for kind in (fields.VMState, fields.Field)
    )


def text() -> str:
    """All functions."""
    single = ", ".join(f"`{name}`" for name in scalars())
    rows = [[f"`{_call(name, item)}`", first_sentence(item)] for name, item in makers().items()]
    return "\n\n".join(
        [
            "## One value",
            f"{single}: each takes the attribute's name and the options below.",
            "## Several values, and values with a structure",
            table(["function", "what it declares"], rows),
        ]
    )


def _call(name: str, item: Any) -> str:
    given = [
        one.name if one.default is one.empty else f"{one.name}=…"
        for one in inspect.signature(item).parameters.values()
    ]
    return f"{name}({', '.join(given)})".replace("options", "…")
