"""The behaviours of the seed, and the tests that show them."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .docstrings import table

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(__file__).parents[3]
_TESTS: Final = ("core/tests", "plugins/*/tests", "tests")
_MARK: Final = "pytest.mark.seed"


def rows() -> dict[str, str]:
    """Each row and its behaviour, in order."""
    text = Path(__file__).with_name("seed_rows.toml").read_text(encoding="utf-8")
    return {row: entry["behaviour"] for row, entry in tomllib.loads(text).items()}


def tests() -> dict[str, list[str]]:
    """Each row that a test names, and the names of those tests, in order.

    Raises:
        ValueError: A marker names no rows, or names them by something else than strings.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    for pattern in _TESTS:
        for folder in _ROOT.glob(pattern):
            for path in folder.rglob("test_*.py"):
                for row, name in _marks(path):
                    found[row].add(name)
    return {row: sorted(names) for row, names in found.items()}


def text() -> str:
    """Each row, what it is about, and the tests that name it."""
    named = tests()
    lines = [
        [row, behaviour, ", ".join(f"`{name}`" for name in named.get(row, [])) or "none"]
        for row, behaviour in rows().items()
    ]
    return table(["row", "behaviour", "tests"], lines)


def _marks(path: Path) -> Iterator[tuple[str, str]]:
    """The rows that a file of tests names: by a test, by a class of tests, or as a whole."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    owners = {
        id(mark): node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for decorator in node.decorator_list
        for mark in ast.walk(decorator)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == _MARK:
            for row in _rows_of(node, path):
                yield row, owners.get(id(node), path.stem)


def _rows_of(mark: ast.Call, path: Path) -> list[str]:
    named = [row.value for row in mark.args if isinstance(row, ast.Constant)]
    if not named or len(named) < len(mark.args) or not all(isinstance(row, str) for row in named):
        raise ValueError(f"{path}, line {mark.lineno}: rows are named by strings")
    return [str(row) for row in named]
