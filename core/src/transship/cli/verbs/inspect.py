"""``transship inspect``: what is in a stream file or a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

import click

from transship.assembly import sections_for
from transship.cli import options
from transship.cli.console import Console
from transship.cli.exits import ExitCode
from transship.cli.failing import reports_errors
from transship.guests.scratch import ScratchGuest
from transship.inspection.checkpoint import read_checkpoint
from transship.inspection.render import render
from transship.inspection.stream import read_stream


@click.command()
@click.argument("path", type=click.Path(exists=True, allow_dash=True))
@click.option(
    "--max-ram",
    "max_ram_bytes",
    type=options.SIZE,
    help="Refuse a stream that claims more RAM.  [default: what this computer has]",
)
@options.as_json
@reports_errors
def inspect(path: str, max_ram_bytes: int | None, as_json: bool) -> int:
    """Show what is in PATH: a recorded stream, or a checkpoint folder; - is standard input.

    Ends with 0 if it is complete and well formed, with 1 if it is not; the report then says where
    it broke. Whether memory holds what it should nobody can tell: compare the checksums.

    \b
    Examples:
      transship inspect ./vm
      transship inspect guest.mig --json
      zcat guest.mig.gz | transship inspect -
    """
    if Path(path).is_dir():
        report = read_checkpoint(Path(path))
    else:
        sections_for(ScratchGuest(0))  # a missing plugin is no fault of the stream
        report = read_stream(path, sections_for, max_ram_bytes=max_ram_bytes)
    Console(as_json=as_json).result(report.as_json() if as_json else {}, render(report))
    return ExitCode.DONE if report.complete else ExitCode.FAILED
