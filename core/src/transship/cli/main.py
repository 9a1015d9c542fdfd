"""The command ``transship``. Each verb is imported when it is called, so that help is quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from transship._version import __version__
from transship.cli.exits import ExitCode

_VERBS: Final = {
    "demo": "Move a guest under load to a second process, and check that nothing was lost.",
    "run": "Host a guest: start one, wait for one, or move one away.",
    "migrate": "Move a running guest, a QEMU's or one of ours, and see it through.",
    "status": "Say what a guest does, and where its migration is.",
    "watch": "Follow a migration that somebody else has started.",
    "cancel": "Cancel a migration, and make sure that the guest is where it was.",
    "receive": "Take a migration from a QEMU, or from us, into a checkpoint folder.",
    "send": "Play a checkpoint folder into a waiting QEMU, or into us.",
    "inspect": "Show what is in a stream file or in a checkpoint folder.",
    "plugins": "List what is installed, from where, and what failed to load and why.",
}


class _LazyGroup(click.Group):
    """A group whose verbs are modules of :mod:`transship.cli`, imported on use."""

    def invoke(self, ctx: click.Context) -> Any:
        """Call a verb; Ctrl-C before it looks after that itself just leaves."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("left before anything began", err=True)
            ctx.exit(ExitCode.LEFT)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command = getattr(import_module(f"transship.cli.verbs.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="transship")
def main() -> None:
    """Move running machines.

    \b
    Examples:
      transship demo
      transship migrate --qmp /run/vm.qmp tcp:192.0.2.7:4444
      transship receive tcp::4444 --to ./vm          # then, in QEMU: migrate tcp:HOST:4444
      transship inspect ./vm
      transship send ./vm unix:/run/vm.sock          # a QEMU with -incoming unix:/run/vm.sock

    Results go to standard output, progress to standard error.
    """
