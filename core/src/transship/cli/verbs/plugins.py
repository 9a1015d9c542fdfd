"""``transship plugins``: what is installed, from where, and what failed to load and why."""

from __future__ import annotations

import click

from transship.cli import options
from transship.cli.console import Console
from transship.cli.failing import reports_errors
from transship.cli.local.plugins import collect, render


@click.command()
@options.as_json
@reports_errors
def plugins(as_json: bool) -> int:
    """List the installed plugins.

    A plugin that fails to import, misspells a hook, or claims what another claims is named with
    its distribution and the reason; the others still work.

    \b
    Examples:
      transship plugins
      transship plugins --json
    """
    rows = collect()
    Console(as_json=as_json).result({"plugins": rows}, render(rows))
    return 0
