"""``transship plugins``: what is installed, from where, and what failed to load and why."""

from __future__ import annotations

import click

from transship.cli import options
from transship.cli.console import Console
from transship.cli.exits import ExitCode
from transship.cli.failing import reports_errors
from transship.cli.local.plugins import collect, lists_in_force, render, render_details


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="Say all about each plugin, not a line.")
@options.as_json
@reports_errors
def plugins(names: tuple[str, ...], verbose: bool, as_json: bool) -> int:
    """List the installed plugins.

    A plugin that fails to import, misspells a hook, or claims what another claims is named with
    its distribution and the reason; the others still work. With a NAME, everything about it: its
    licence, where it is installed, the releases it is made for, what its channels can do; and exit
    code 1 if it cannot be used.

    \b
    Examples:
      transship plugins
      transship plugins tcp transship-ram
      transship plugins --json
    """
    rows, lists = collect(names), lists_in_force()
    text = render_details(rows) if names or verbose else render(rows, lists)
    Console(as_json=as_json).result({"plugins": rows, "lists": lists}, text)
    return (
        ExitCode.FAILED if names and any(row["status"] != "ok" for row in rows) else ExitCode.DONE
    )
