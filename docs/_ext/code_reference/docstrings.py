"""Docstrings in Google form, and what is below an assignment, as Markdown."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

_ROLE: Final = re.compile(r":(?:[a-z]+:)?[a-z]+:`(~?)([^`]+)`")
_SECTIONS: Final = ("Args", "Returns", "Raises", "Cancellation", "Attributes", "Ownership")
_SECTION: Final = re.compile(rf"^({'|'.join(_SECTIONS)}):\s*(.*)$")
_ENTRY: Final = re.compile(r"^(\*{0,2}[\w.]+): (.*)$")


def plain(text: str) -> str:
    """Turn the roles of a docstring into code."""
    return _ROLE.sub(lambda role: f"`{_name(role[1], role[2])}`", text)


def first_sentence(item: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(plain(inspect.getdoc(item) or "").split("\n\n")[0].split())


def markdown(item: object) -> str:
    """A whole docstring; its sections become lists."""
    paragraphs: list[str] = []
    for block in plain(inspect.getdoc(item) or "").split("\n\n"):
        head, _, rest = block.partition("\n")
        section = _SECTION.match(head)
        if section is None:
            paragraphs.append(block)
            continue
        title, tail = section.groups()
        body = inspect.cleandoc(rest)
        if title in ("Args", "Raises", "Attributes"):
            paragraphs.append(f"*{title}*")
            paragraphs.append("\n".join(f"- `{name}`: {text}" for name, text in entries(body)))
        else:
            paragraphs.append(f"*{title}:* {' '.join(f'{tail} {body}'.split())}")
    return "\n\n".join(paragraphs)


def section(item: object, title: str) -> list[tuple[str, str]]:
    """The entries of one section of a docstring."""
    for block in plain(inspect.getdoc(item) or "").split("\n\n"):
        head, _, rest = block.partition("\n")
        if head.strip() == f"{title}:":
            return entries(inspect.cleandoc(rest))
    return []


def entries(body: str) -> list[tuple[str, str]]:
    """Split ``name: text`` entries whose text may go on, indented, on further lines."""
    found: list[tuple[str, str]] = []
    for line in body.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            found.append((entry[1], entry[2]))
        elif found:
            name, text = found[-1]
            found[-1] = name, f"{text} {line.strip()}"
    return found


def below_assignments(module: ModuleType, class_name: str | None = None) -> dict[str, str]:
    """The strings below the assignments of a module, or of a class in it; empty where none is."""
    assert module.__file__ is not None
    tree: ast.Module | ast.ClassDef = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    if class_name is not None:
        tree = next(
            node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name
        )
    found: dict[str, str] = {}
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                match after:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        found[name] = plain(inspect.cleandoc(text))
                    case _:
                        found[name] = ""
    return found


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _name(shortened: str, target: str) -> str:
    return target.rpartition(".")[2] if shortened else target
