"""Where our answers over QMP differ from QEMU's: the data of the test that compares them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

from .docstrings import table

DIFFERENCES: Final = Path(__file__).parents[3] / "tests" / "dialogue" / "differences.toml"


def differences() -> str:
    """Every declared difference: where it is, what both sides say, and why."""
    declared = tomllib.loads(DIFFERENCES.read_text(encoding="utf-8"))
    rows = [
        [f"`{one['where']}`", _theirs(one), _ours(one), one["reason"]] for one in declared.values()
    ]
    return table(["where", "QEMU 10.0", "Transship", "why"], rows)


def _theirs(difference: dict[str, Any]) -> str:
    parts = [difference["qemu"]] if "qemu" in difference else []
    if not parts and "only_qemu" in difference:
        parts.append(f"has {_names(difference['only_qemu'])}")
    if not parts and "only_ours" in difference:
        parts.append("has not")
    return "; ".join(parts)


def _ours(difference: dict[str, Any]) -> str:
    if "ours" in difference:
        said: str = difference["ours"]
        return said
    parts = []
    if "only_qemu" in difference:
        names = _names(difference["only_qemu"])
        parts.append(f"has not {names}" if "qemu" in difference else "has not")
    if "only_ours" in difference:
        parts.append(f"has {_names(difference['only_ours'])}")
    if "types" in difference:
        parts.append(f"has another type: {_names(difference['types'])}")
    if "outcome" in difference:
        parts.append("succeeds" if difference["outcome"] == "ok" else f"`{difference['outcome']}`")
    for path, value in difference.get("values", {}).items():
        parts.append(f"`{path}` is `{json.dumps(value)}`")
    if "events" in difference:
        parts.append(f"emits {_names(difference['events']) or 'nothing'}")
    return "; ".join(parts)


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
