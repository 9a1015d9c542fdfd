"""``transship run``: hosts a guest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import trio

from transship import assembly
from transship.abc.settings import Parameters, Settings
from transship.cli import options
from transship.cli.addresses import target
from transship.cli.console import Console
from transship.cli.failing import reports_errors
from transship.cli.local.running import DEFER, Plan, run_guest
from transship.cli.local.settings import capabilities_on, parameters_with
from transship.cli.settings import DOWNTIME_LIMIT, MAX_BANDWIDTH
from transship.errors import BlockedError
from transship.guests.spec import parse_guest

if TYPE_CHECKING:
    from transship.abc import Options
    from transship.cli.settings import Value
    from transship.control.address import QmpAddress


@click.command()
@click.argument("guest")
@click.option(
    "--incoming",
    metavar="URI",
    help="Wait at URI for the guest to arrive; defer: where, is told over QMP.",
)
@click.option("--migrate-to", metavar="URI", help="Move the guest to URI.")
@click.option(
    "--after",
    "after_s",
    type=options.TIME,
    default="0s",
    show_default=True,
    help="Let the guest run for so long before it moves.",
)
@click.option("--paused", is_flag=True, help="Do not let the guest run until SIGUSR1 comes.")
@click.option(
    "--qmp",
    metavar="ADDR",
    type=options.QMP_ADDRESS,
    help="Take commands at unix:PATH or tcp:HOST:PORT.",
)
@options.bandwidth("128MiB/s")
@options.downtime
@options.transport_options
@options.parameters
@options.capabilities
@options.stall_timeout
@options.as_json
@reports_errors
def run(
    guest: str,
    incoming: str | None,
    migrate_to: str | None,
    after_s: float,
    paused: bool,
    qmp: QmpAddress | None,
    max_bandwidth_bytes_per_s: int,
    downtime_limit_s: float,
    transport_options: Options,
    parameters: dict[str, Value],
    capabilities: dict[str, bool],
    stall_timeout_s: float,
    as_json: bool,
) -> int:
    """Host a GUEST in this process.

    With --incoming and --migrate-to together it takes a guest in and passes it on.

    GUEST is synthetic:ram=SIZE,dirty-rate=RATE,..., or module:factory, a function without
    arguments that returns your own guest; or stored:DIRECTORY, which can only move away.

    URI may also be JSON, as -incoming of QEMU takes it: an address, or a channel with one.

    The process ends when the guest has moved away, or on SIGINT or SIGTERM; but while the guest
    moves the first of these cancels that, and the next one ends the process. If the move fails
    the guest runs on here. After a broken hand-over it stays here, paused: SIGUSR1 lets it run.
    With --json every event is one JSON object on a line of its own.

    With --qmp it takes the commands of QEMU's machine protocol, among them migrate and quit, and
    stays when the guest has moved away. transship migrate, status, watch and cancel drive it.

    \b
    Examples:
      transship run synthetic:ram=256MiB --incoming unix:/run/a.sock
      transship run synthetic:ram=256MiB,dirty-rate=64MiB/s --migrate-to unix:/run/a.sock
      transship run mymachine:make --incoming tcp::4444
      transship run synthetic:ram=256MiB --qmp unix:/run/a.qmp
      transship run synthetic:ram=8GiB --incoming tcp::4444 --cap multifd
    """
    options.refuse_twice(parameters, MAX_BANDWIDTH, "max_bandwidth_bytes_per_s", "--bandwidth")
    options.refuse_twice(parameters, DOWNTIME_LIMIT, "downtime_limit_s", "--downtime")
    sys.path.insert(0, "")  # module:factory is looked for here first, as with python -m
    if transport_options and (incoming in (None, DEFER)) is (migrate_to is None):
        raise click.UsageError("--option needs one address: --incoming URI or --migrate-to URI.")
    plan = Plan(
        incoming=None if incoming is None else target(incoming, transport_options),
        migrate_to=None if migrate_to is None else target(migrate_to, transport_options),
        after_s=after_s,
        paused=paused,
        qmp=None if qmp is None else str(qmp),
        settings=Settings(
            capabilities_on(capabilities),
            parameters_with(
                Parameters(
                    max_bandwidth_bytes_per_s=max_bandwidth_bytes_per_s,
                    downtime_limit_s=downtime_limit_s,
                    stall_timeout_s=stall_timeout_s,
                ),
                parameters,
            ),
        ),
    )
    if incoming == DEFER and qmp is None:
        raise click.UsageError("--incoming defer needs --qmp, or nobody can say where to wait.")
    machine = parse_guest(guest, open_device=assembly.open_block_device)
    if machine.accepts_any and (incoming or not migrate_to):
        raise BlockedError(
            f"{guest} holds the state of a machine, and cannot run it",
            expected="--migrate-to, and no --incoming",
            hint="transship receive fills a checkpoint, transship send plays it",
        )
    return trio.run(run_guest, machine, plan, Console(as_json=as_json))
