"""``transship migrate``: moves a running guest, over QMP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from transship.cli import options
from transship.cli.addresses import channel_in
from transship.cli.console import Console
from transship.cli.driving.drive import drive
from transship.cli.driving.order import Order
from transship.cli.driving.storage.surroundings import PAUSE
from transship.cli.failing import reports_errors
from transship.cli.settings import DOWNTIME_LIMIT, MAX_BANDWIDTH, milliseconds
from transship.cli.storage_options import copy_storage

if TYPE_CHECKING:
    from transship.cli.driving.storage.order import StorageOrder
    from transship.cli.settings import Value
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
@click.option(
    "--blk", "disks", flag_value="blk", help="Copy the disks as well, all of them (QEMU to 9.0)."
)
@click.option(
    "--inc", "disks", flag_value="inc", help="Copy what the disks do not have from a shared base."
)
@options.parameters
@options.capabilities
@copy_storage
@options.timeout
@options.poll
@options.as_json
@reports_errors
def migrate(
    uri: str,
    address: QmpAddress | None,
    bandwidth_bytes_per_s: int | None,
    downtime_ms: int | None,
    disks: str | None,
    parameters: dict[str, Value],
    capabilities: dict[str, bool],
    storage: StorageOrder | None,
    timeout_s: float | None,
    poll_s: float,
    as_json: bool,
) -> int:
    """Move the guest of a QEMU, or one that we host, to URI, and see it through.

    URI is what the source understands: tcp:HOST:PORT, unix:PATH, and whatever else it knows.
    JSON is passed on as channels: an address, or a channel with one (QEMU 8.2 and later).
    What is not set stays as it is at the source; what is set stays set. The cap in force is said
    before the migration begins.

    With --copy-storage the disks move too: the destination exports its own over
    NBD, the source mirrors to them, and the migration begins when all are in step. The machine at
    --destination-qmp must have the same drives, with images of the same size, and wait for the
    guest. It serves them at --storage-address.

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
    if storage is not None and PAUSE in capabilities:
        raise click.UsageError(f"--copy-storage switches {PAUSE} itself")
    if storage is not None and disks is not None:
        raise click.UsageError(f"--copy-storage and --{disks} exclude each other")
    order = Order(
        options.named(address),
        uri,
        channel_in(uri),
        capabilities,
        wanted,
        timeout_s,
        poll_s,
        disks,
        storage,
    )
    return trio.run(drive, order, Console(as_json=as_json))
