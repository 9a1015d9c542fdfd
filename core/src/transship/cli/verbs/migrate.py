"""``transship migrate``: moves a running guest, over QMP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from transship.cli import options
from transship.cli.console import Console
from transship.cli.driving.drive import drive
from transship.cli.driving.order import Order
from transship.cli.driving.settings import DOWNTIME_LIMIT, MAX_BANDWIDTH, milliseconds
from transship.cli.failing import reports_errors

if TYPE_CHECKING:
    from transship.cli.driving.settings import Value
    from transship.control.address import QmpAddress


@click.command()
@click.argument("uri")
@options.qmp
@click.option(
    "--bandwidth",
    "bandwidth_bytes_per_s",
    type=options.RATE,
    help="Cap of the send rate while the guest runs, such as 1GiB/s, or unlimited.",
)
@click.option(
    "--downtime",
    "downtime_ms",
    type=options.TIME,
    callback=options.reading(milliseconds),
    help="How long the guest may stand still, such as 300ms.",
)
@options.parameters
@options.capabilities
@options.timeout
@options.poll
@options.as_json
@reports_errors
def migrate(
    uri: str,
    address: QmpAddress | None,
    bandwidth_bytes_per_s: int | None,
    downtime_ms: int | None,
    parameters: dict[str, Value],
    capabilities: dict[str, bool],
    timeout_s: float | None,
    poll_s: float,
    as_json: bool,
) -> int:
    """Move the guest of a QEMU, or one that we host, to URI, and see it through.

    URI is what the source understands: tcp:HOST:PORT, unix:PATH, and whatever else it knows.
    What is not set stays as it is at the source; what is set stays set. The cap in force is said
    before the migration begins.

    The first Ctrl-C cancels the migration and waits until the guest is back, the second leaves at
    once. If the connection to the source is lost, the exit code is 7: nobody here knows how the
    migration ends.

    \b
    Examples:
      transship migrate --qmp unix:/run/vm.qmp tcp:192.0.2.7:4444
      transship migrate --qmp /run/vm.qmp unix:/run/b.sock --bandwidth 1GiB/s --downtime 100ms
      transship migrate --qmp /run/vm.qmp unix:/run/b.sock --cap auto-converge --timeout 10min
      transship migrate --qmp /run/vm.qmp tcp:192.0.2.7:4444 --set multifd-channels=4 --cap multifd
    """
    options.refuse_twice(parameters, MAX_BANDWIDTH, "bandwidth_bytes_per_s", "--bandwidth")
    options.refuse_twice(parameters, DOWNTIME_LIMIT, "downtime_ms", "--downtime")
    wanted = dict(parameters)
    if bandwidth_bytes_per_s is not None:
        wanted[MAX_BANDWIDTH] = bandwidth_bytes_per_s
    if downtime_ms is not None:
        wanted[DOWNTIME_LIMIT] = downtime_ms
    order = Order(options.named(address), uri, capabilities, wanted, timeout_s, poll_s)
    return trio.run(drive, order, Console(as_json=as_json))
