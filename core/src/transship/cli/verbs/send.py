"""``transship send``: a checkpoint folder to a waiting destination."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from transship import assembly
from transship.abc.settings import Capability, Parameters
from transship.cli import options
from transship.cli.addresses import target
from transship.cli.console import Console
from transship.cli.failing import reports_errors
from transship.cli.local.attempts import carry_out, conclude
from transship.cli.local.settings import capabilities_on, parameters_with
from transship.cli.settings import MAX_BANDWIDTH
from transship.guests.stored import StoredGuest

if TYPE_CHECKING:
    from transship.abc import Options
    from transship.cli.settings import Value


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("uri")
@options.bandwidth("unlimited")
@options.transport_options
@options.parameters
@options.capabilities
@options.stall_timeout
@options.as_json
@reports_errors
def send(
    directory: Path,
    uri: str,
    max_bandwidth_bytes_per_s: int,
    transport_options: Options,
    parameters: dict[str, Value],
    capabilities: dict[str, bool],
    stall_timeout_s: float,
    as_json: bool,
) -> int:
    """Play a checkpoint DIRECTORY to URI.

    The destination is a QEMU of the same machine type started with -incoming, which then runs
    the guest, or a transship that receives. The folder stays as it is. Disks that are in it go
    along, which only QEMU up to 9.0 takes; --cap block=off leaves them out.

    URI may also be JSON, as -incoming of QEMU takes it: an address, or a channel with one.

    \b
    Examples:
      transship send ./vm tcp:192.0.2.7:4444 --option bind=192.0.2.1
      transship send ./vm unix:/run/vm.sock
      transship send ./vm tcp:198.51.100.7:4444 --bandwidth 1GiB/s
      transship send ./vm tcp:198.51.100.7:4444 --cap multifd --set multifd-compression=zstd
    """
    options.refuse_twice(parameters, MAX_BANDWIDTH, "max_bandwidth_bytes_per_s", "--bandwidth")
    console = Console(as_json=as_json)
    defaults = Parameters(
        max_bandwidth_bytes_per_s=max_bandwidth_bytes_per_s, stall_timeout_s=stall_timeout_s
    )
    settings = parameters_with(defaults, parameters)
    switched_on = capabilities_on(capabilities)
    where = target(uri, transport_options)
    with closing(StoredGuest.open(directory)) as guest:
        if guest.disks() and Capability.BLOCK not in capabilities:
            switched_on |= {Capability.BLOCK}
        migration = assembly.migrate(
            guest,
            where.uri,
            options=where.options,
            parameters=settings,
            capabilities=switched_on,
        )
        error = trio.run(carry_out, migration, console)
    return conclude(console, migration, error)
