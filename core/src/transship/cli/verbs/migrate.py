"""``transship migrate``: moves a running guest, over QMP."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click
import trio

from transship.cli import options
from transship.cli.console import Console
from transship.cli.driving.drive import drive
from transship.cli.driving.order import Order
from transship.cli.driving.settings import (
    DOWNTIME_LIMIT,
    MAX_BANDWIDTH,
    Value,
    milliseconds,
    parse_capabilities,
    parse_parameters,
)
from transship.cli.failing import reports_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from transship.control.address import QmpAddress

S = TypeVar("S")
T = TypeVar("T")


def _read(
    parse: Callable[[S], T],
) -> Callable[[click.Context, click.Parameter, S | None], T | None]:
    """Let an option's value be what a function makes of it, and its ValueError a wrong usage."""

    def read(context: click.Context, option: click.Parameter, value: S | None) -> T | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


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
    callback=_read(milliseconds),
    help="How long the guest may stand still, such as 300ms.",
)
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_read(parse_parameters),
    help="Set a migration parameter: with a unit, or as a number in QMP's own. Several times.",
)
@click.option(
    "--cap",
    "capabilities",
    multiple=True,
    metavar="NAME[=on|off]",
    callback=_read(parse_capabilities),
    help="Switch a migration capability on or off. Several times.",
)
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
    wanted = dict(parameters)
    for name, option, value in (
        (MAX_BANDWIDTH, "--bandwidth", bandwidth_bytes_per_s),
        (DOWNTIME_LIMIT, "--downtime", downtime_ms),
    ):
        if value is not None and name in wanted:
            raise click.UsageError(f"{option} and --set {name} say the same")
        if value is not None:
            wanted[name] = value
    order = Order(options.named(address), uri, capabilities, wanted, timeout_s, poll_s)
    return trio.run(drive, order, Console(as_json=as_json))
