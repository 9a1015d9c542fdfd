#!/usr/bin/env python3
"""Writes the man pages of the command and of each verb, from what click knows of them.

click-man lays a page out. Its own walk through a command line asks for a list of commands that
are imported already, which ours, whose verbs are imported on use, does not have; and it prints a
list of examples as one paragraph. So the walk and the texts are made here.

``python3 packaging/manpages.py FOLDER``, where Transship is installed; nothing else is needed.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import click
from click_man.man import ManPage

from transship import __version__
from transship.cli.main import main

_KEPT_AS_IS = "\b"


def pages() -> dict[str, str]:
    """All pages, by the name of their file."""
    root = click.Context(main, info_name="transship", **main.context_settings)
    summaries = {}
    found = {}
    for name in main.list_commands(root):
        command = main.get_command(root, name)
        if command is None or command.hidden:
            continue
        summaries[name] = command.get_short_help_str(limit=200).rstrip(".")
        context = click.Context(command, parent=root, info_name=name)
        found[f"transship-{name}.1"] = _page(context, summaries[name], {})
    summary = main.get_short_help_str(limit=200).rstrip(".")
    return {"transship.1": _page(root, summary, summaries), **found}


def _page(context: click.Context, summary: str, verbs: dict[str, str]) -> str:
    command = context.command
    page = ManPage(context.command_path)
    page.version = __version__
    page.short_help = summary[:1].lower() + summary[1:]
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.description = _description(inspect.cleandoc(command.help or ""))
    records = [
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
    ]
    page.options = [(names, _text(meaning)) for names, meaning in filter(None, records)]
    page.commands = list(verbs.items())
    return str(page)


def _description(text: str) -> str:
    """Paragraphs are filled; what click is told to leave as it is, is not."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith(_KEPT_AS_IS):
            lines = _text(paragraph.removeprefix(_KEPT_AS_IS).strip("\n"))
            paragraphs.append(f".nf\n{lines}\n.fi")
        else:
            paragraphs.append(_text(paragraph))
    return "\n\n".join(paragraphs)


def _text(text: str) -> str:
    """As roff reads it: no dash is a hyphen, no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")
