"""``transship watch``: follows a migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from transship.cli import options
from transship.cli.console import Console
from transship.cli.driving.watching import watch_over
from transship.cli.failing import reports_errors

if TYPE_CHECKING:
    from transship.control.address import QmpAddress


@click.command()
@options.qmp
@options.poll
@options.as_json
@reports_errors
def watch(address: QmpAddress | None, poll_s: float, as_json: bool) -> int:
    """Follow the migration that is under way until it ends.

    The result and the exit code are those of migrate. If the migration has ended already, they
    tell how; if there has been none, the exit code is 3. Ctrl-C ends the watching, with 130, and
    cancels nothing.

    \b
    Examples:
      transship watch --qmp unix:/run/vm.qmp
      transship watch --qmp unix:/run/vm.qmp --json
    """
    return trio.run(watch_over, options.named(address), poll_s, Console(as_json=as_json))
