"""The errors and the exit codes that they end in."""

from __future__ import annotations

import inspect

from transship import errors
from transship.cli import exits
from transship.cli.exits import ExitCode, exit_code
from transship.errors import MigrationError

from .docstrings import below_assignments, first_sentence, section, table


def kinds() -> list[type[MigrationError]]:
    """All errors, in the order of the file."""
    return [
        item
        for item in vars(errors).values()
        if inspect.isclass(item) and issubclass(item, MigrationError)
    ]


def tree() -> str:
    """The errors as they inherit from each other."""
    return "```text\n" + "\n".join(_branch(MigrationError, "", "")) + "\n```"


def _branch(kind: type[MigrationError], first: str, others: str) -> list[str]:
    lines = [f"{first}{kind.__name__}"]
    children = [child for child in kinds() if kind in child.__bases__]
    for child in children:
        is_last = child is children[-1]
        lines += _branch(
            child,
            others + ("└── " if is_last else "├── "),
            others + ("    " if is_last else "│   "),
        )
    return lines


def text() -> str:
    """Each error, when it appears, and how a verb ends that meets it."""
    rows = []
    for kind in kinds():
        code = exit_code(kind("cause"))
        rows.append([f"`{kind.__name__}`", first_sentence(kind), f"{int(code)}"])
    return table(["error", "when", "exit code"], rows)


def facts() -> str:
    """What an error knows."""
    rows = [[f"`{name}`", meaning] for name, meaning in section(MigrationError, "Args")]
    return table(["fact", "meaning"], rows)


def exit_codes() -> str:
    """All exit codes."""
    meanings = below_assignments(exits, "ExitCode")
    rows = [[str(int(code)), f"`{code.name}`", meanings[code.name]] for code in ExitCode]
    return table(["exit code", "name", "meaning"], rows)
