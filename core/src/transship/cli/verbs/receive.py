"""``transship receive``: a migration into a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from transship import assembly
from transship.abc.settings import Parameters
from transship.cli import options
from transship.cli.addresses import target
from transship.cli.console import Console
from transship.cli.failing import reports_errors
from transship.cli.local.attempts import beginning, carry_out, conclude
from transship.cli.local.settings import capabilities_on, parameters_with
from transship.errors import HandoverError
from transship.guests.stored import StoredGuest

if TYPE_CHECKING:
    from transship.abc import Options
    from transship.cli.settings import Value


@click.command()
@click.argument("uri")
@click.option(
    "--to",
    "directory",
    required=True,
    type=click.Path(path_type=Path),
    help="The checkpoint folder; must not exist, or be empty.",
)
@options.transport_options
@options.parameters
@options.capabilities
@options.max_ram
@options.disk_sizes
@options.stall_timeout
@options.as_json
@reports_errors
def receive(
    uri: str,
    directory: Path,
    transport_options: Options,
    parameters: dict[str, Value],
    capabilities: dict[str, bool],
    max_ram_bytes: int,
    disk_sizes: dict[str, int],
    stall_timeout_s: float,
    as_json: bool,
) -> int:
    """Take one migration from URI into a checkpoint folder.

    Prints "listening URI" on standard error as soon as a source can connect; port 0 stands for
    any free port. Where nobody connects, as with a file, it is "reading URI". The folder appears
    under its name only when everything in it is complete and on the disk.

    URI may also be JSON, as -incoming of QEMU takes it: an address, or a channel with one.

    \b
    Examples:
      transship receive tcp:0.0.0.0:4444 --to ./vm
      transship receive unix:/run/vm.sock --to ./vm --json
      transship receive tcp:0.0.0.0:4444 --to ./vm --cap multifd --set multifd-channels=4
      transship receive tcp:0.0.0.0:4444 --to ./vm --disk-size ide0-hd0=20GiB
      transship receive '{"transport": "exec", "args": ["zstd", "-dc", "vm.zst"]}' --to ./vm
    """
    console = Console(as_json=as_json)
    settings = parameters_with(Parameters(stall_timeout_s=stall_timeout_s), parameters)
    switched_on = capabilities_on(capabilities)
    where = target(uri, transport_options)
    guest = StoredGuest.create(
        directory,
        source=f"a migration to {uri}",
        max_ram_bytes=max_ram_bytes,
        disk_sizes=disk_sizes,
    )
    try:
        incoming = assembly.receive(
            guest,
            where.uri,
            options=where.options,
            parameters=settings,
            capabilities=switched_on,
            on_listening=lambda _: console.note(beginning(incoming)),
        )
    except BaseException:
        trio.run(guest.discard)
        raise
    error = trio.run(carry_out, incoming, console)
    has_arrived = error is None or isinstance(error, HandoverError)
    return conclude(
        console,
        incoming,
        error,
        facts={"checkpoint": str(guest.path) if has_arrived else None},
        text=f"checkpoint in {directory}",
    )
