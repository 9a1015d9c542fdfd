"""``transship demo``: a guest under load moves to a second process."""

from __future__ import annotations

import click
import trio

from transship.cli import options
from transship.cli.console import Console
from transship.cli.failing import reports_errors
from transship.cli.local.demonstration import Demonstration, demonstrate


@click.command()
@click.option(
    "--transport",
    metavar="SCHEME",
    default="unix",
    show_default=True,
    help="unix, tcp, exec, fd, file, rdma, or a whole address of any other transport.",
)
@click.option(
    "--ram",
    "ram_bytes",
    type=options.SIZE,
    default="256MiB",
    show_default=True,
    help="Size of the guest.",
)
@click.option(
    "--dirty-rate",
    "dirty_rate_bytes_per_s",
    type=options.RATE,
    default="32MiB/s",
    show_default=True,
    help="How fast the guest writes to its memory.",
)
@options.as_json
@reports_errors
def demo(transport: str, ram_bytes: int, dirty_rate_bytes_per_s: int, as_json: bool) -> int:
    """Move a guest under write load from this process to a second one.

    Ends with what the guest itself saw: how long it stood still, and whether every page and its
    counter are what they must be. Over file the guest lies in a file while the second process
    starts, and stands still for so long.

    \b
    Examples:
      transship demo
      transship demo --transport tcp --ram 1GiB --dirty-rate 256MiB/s
      transship demo --transport exec
    """
    plan = Demonstration(transport, ram_bytes, dirty_rate_bytes_per_s)
    return trio.run(demonstrate, plan, Console(as_json=as_json))
