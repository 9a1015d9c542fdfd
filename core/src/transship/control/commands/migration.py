"""Starting a migration, and steering it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from transship.abc.settings import Capability
from transship.control.commands.addresses import MigrationChannel, the_place
from transship.control.commands.lending import lend
from transship.control.commands.parameters import ANNOUNCEMENTS
from transship.control.commands.query_migrate import MigrationStatus
from transship.control.errors import generic
from transship.control.qapi.declaring import Object, Size
from transship.control.registry import CommandTable
from transship.engine.status import MigrationStatus as EngineStatus
from transship.hosting.host import DiskShare

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE = CommandTable()


class Migrate(Object):
    """Where to; how is a matter of parameters and capabilities, but for ``blk`` and ``inc``.

    With those the disks are copied in this migration, wholly or only what they do not have from a
    base that the destination has as well.
    """

    uri: str | None = None
    channels: list[MigrationChannel] | None = None
    detach: bool = False
    resume: bool = False
    blk: bool = False
    inc: bool = False


@TABLE.command("migrate")
async def migrate(context: Context, arguments: Migrate) -> None:
    """Begin to move the guest away; the reply does not wait for the end."""
    place = the_place(arguments.uri, arguments.channels)
    if arguments.resume:
        raise generic("there is no paused postcopy migration to resume")
    disks = None
    if arguments.blk or arguments.inc:
        if context.host.settings.has(Capability.BLOCK):
            raise generic("blk and inc do not go with the capability 'block', which is on")
        disks = DiskShare.INCREMENTAL if arguments.inc else DiskShare.FULL
    place, lent = lend(place, context.session, is_incoming=False)
    await context.host.start_migration(
        place.uri, options=place.options, until_over=lent, disks=disks
    )


class MigrateIncoming(Object):
    """Where to wait for a source."""

    uri: str | None = None
    channels: list[MigrationChannel] | None = None
    exit_on_error: bool = True


@TABLE.command("migrate-incoming")
async def migrate_incoming(context: Context, arguments: MigrateIncoming) -> None:
    """Begin to wait for a source; the reply comes when it can connect."""
    place = the_place(arguments.uri, arguments.channels)
    place, lent = lend(place, context.session, is_incoming=True)
    await context.host.start_incoming(
        place.uri,
        options=place.options,
        until_over=lent,
        exits_on_error=arguments.exit_on_error,
    )


@TABLE.command("migrate_cancel")
async def migrate_cancel(context: Context) -> None:
    """Cancel the migration that is under way; succeeds also when there is none."""
    context.host.cancel()


class MigrateContinue(Object):
    """The status in which the migration is believed to wait."""

    state: MigrationStatus


@TABLE.command("migrate-continue")
async def migrate_continue(context: Context, arguments: MigrateContinue) -> None:
    """Let a migration go on that waits in ``pre-switchover``."""
    outgoing = context.host.outgoing
    present = outgoing.status if outgoing is not None else EngineStatus.NONE
    if present.value != arguments.state.value:
        raise generic(
            f"the migration is {present.value!r}, and does not wait in {arguments.state.value!r}"
        )
    context.host.switch_over()


class AnnounceSelf(Object):
    """A schedule, in milliseconds; and for which network cards, which a guest here has not."""

    initial: Size
    max: Size
    rounds: Size
    step: Size
    interfaces: list[str] | None = None
    id: str | None = None


@TABLE.command("announce-self")
async def announce_self(context: Context, arguments: AnnounceSelf) -> None:
    """Let the guest tell the network again where it is."""
    if arguments.interfaces is not None or arguments.id is not None:
        raise generic("a guest announces itself on all its network cards: leave out which")
    if arguments.rounds > ANNOUNCEMENTS:
        raise generic(f"parameter 'rounds' takes at most {ANNOUNCEMENTS}")
    context.host.announce(
        dataclasses.replace(
            context.host.settings.parameters,
            announce_initial_s=arguments.initial / 1000,
            announce_max_s=arguments.max / 1000,
            announce_rounds=arguments.rounds,
            announce_step_s=arguments.step / 1000,
        )
    )


class MigrationData(Object):
    """The status that has been reached."""

    status: MigrationStatus


class MigrationPassData(Object):
    """The number of the pass over memory that begins."""

    pass_: int = msgspec.field(name="pass")


MIGRATION = TABLE.event("MIGRATION", MigrationData)
MIGRATION_PASS = TABLE.event("MIGRATION_PASS", MigrationPassData)
