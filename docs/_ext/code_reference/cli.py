"""The command line, out of the definitions that click works with."""

from __future__ import annotations

import inspect
from typing import Final

import click

from transship.cli.main import main

from .docstrings import table

_EXAMPLES: Final = "Examples:"


def verbs() -> dict[str, click.Command]:
    """All verbs, in the order in which help lists them."""
    context = click.Context(main, info_name="transship")
    found = {}
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        found[name] = command
    return found


def text() -> str:
    """Each verb under a heading of its own."""
    return "\n\n".join(_verb(name, command) for name, command in verbs().items())


def examples(command: click.Command) -> list[str]:
    """The command lines of a verb's help, without what surrounds them."""
    _, _, lines = _help(command).partition(_EXAMPLES)
    return [line.strip() for line in lines.splitlines() if line.strip()]


def options(command: click.Command) -> list[tuple[str, str]]:
    """Each option as help writes it, and its meaning."""
    context = _context(command)
    records = [
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
    ]
    return [record for record in records if record is not None]


def _verb(name: str, command: click.Command) -> str:
    usage = command.get_usage(_context(command)).removeprefix("Usage: ")
    prose, _, _ = _help(command).partition(_EXAMPLES)
    rows = [[f"`{names}`", " ".join(meaning.split())] for names, meaning in options(command)]
    return "\n\n".join(
        [
            f"## {name}",
            f"```text\n{usage}\n```",
            prose.strip(),
            table(["option", "meaning"], rows),
            "Examples:",
            "```console\n" + "\n".join(f"$ {line}" for line in examples(command)) + "\n```",
        ]
    )


def _context(command: click.Command) -> click.Context:
    parent = click.Context(main, info_name="transship", **main.context_settings)
    return click.Context(command, parent=parent, info_name=command.name)


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").replace("\b", "")
