"""``transship status``: what a guest does, and where its migration is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from transship.cli import options
from transship.cli.console import Console
from transship.cli.driving.reporting import report_on
from transship.cli.failing import reports_errors
from transship.cli.interrupts import until_interrupted

if TYPE_CHECKING:
    from transship.control.address import QmpAddress


@click.command()
@options.qmp
@options.as_json
@reports_errors
def status(address: QmpAddress | None, as_json: bool) -> int:
    """Report what a guest does, and where its migration is.

    On either side. A QEMU reports no figures on the destination, but where it listens.

    \b
    Examples:
      transship status --qmp unix:/run/vm.qmp
      transship status --qmp tcp:127.0.0.1:4445 --json
    """
    console = Console(as_json=as_json)
    return trio.run(until_interrupted, report_on, options.named(address), console)
