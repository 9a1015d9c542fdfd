"""The hooks, out of the specifications that pluggy works with."""

from __future__ import annotations

import inspect
from typing import Any

from transship.plugin import hookspecs
from transship.plugin.markers import PROJECT

from .docstrings import markdown


def families() -> list[type]:
    """The classes that hold specifications, in the order of the file."""
    return [
        item
        for item in vars(hookspecs).values()
        if inspect.isclass(item) and item.__module__ == hookspecs.__name__
    ]


def hooks(family: type) -> dict[str, Any]:
    """The hooks of a family."""
    marked = f"{PROJECT}_spec"
    return {name: item for name, item in vars(family).items() if hasattr(item, marked)}


def signature(hook: Any) -> str:
    """A hook's signature, as an implementation would write it."""
    found = inspect.signature(hook)
    own = [one for one in found.parameters.values() if one.name != "self"]
    return f"{hook.__name__}{found.replace(parameters=own)}".replace("'", "")


def text() -> str:
    """Each family under a heading, and its hooks below."""
    parts = []
    for family in families():
        parts.append(f"## {family.__name__}\n\n{markdown(family)}")
        parts += [_hook(hook) for hook in hooks(family).values()]
    return "\n\n".join(parts)


def _hook(hook: Any) -> str:
    takes_first = getattr(hook, f"{PROJECT}_spec")["firstresult"]
    results = "The first result wins." if takes_first else "All results are used."
    code = f"```python\n@hookimpl\ndef {signature(hook)}: ...\n```"
    return f"### {hook.__name__}\n\n{code}\n\n{markdown(hook)}\n\n{results}"
