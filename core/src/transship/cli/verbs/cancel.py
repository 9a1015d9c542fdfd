"""``transship cancel``: ends a migration before it has moved the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from transship.cli import options
from transship.cli.console import Console
from transship.cli.driving.cancelling import cancel_there
from transship.cli.failing import reports_errors
from transship.cli.interrupts import until_interrupted

if TYPE_CHECKING:
    from transship.control.address import QmpAddress


@click.command()
@options.qmp
@options.as_json
@reports_errors
def cancel(address: QmpAddress | None, as_json: bool) -> int:
    """Cancel the migration that is under way.

    Waits until it has ended and says what the guest does then, and how long that took. Where no
    migration is under way nothing happens; if the guest has moved already, the exit code is 3.

    \b
    Examples:
      transship cancel --qmp unix:/run/vm.qmp
    """
    console = Console(as_json=as_json)
    return trio.run(until_interrupted, cancel_there, options.named(address), console)
