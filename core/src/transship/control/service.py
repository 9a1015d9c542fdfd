"""A host's control over QMP: all commands, and its notices as events."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from transship.abc.settings import Capability
from transship.control.commands import (
    block_exports,
    block_jobs,
    block_nodes,
    capabilities,
    guest,
    legacy,
    migration,
    objects,
    parameters,
    query_migrate,
)
from transship.control.hmp import human_monitor_command
from transship.control.registry import CommandTable
from transship.control.server.serving import Server, serve
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    Notice,
    PassBegun,
    StatusReached,
)
from transship.hosting.shutdown import ShuttingDown

if TYPE_CHECKING:
    from transship.hosting.host import Host


def all_commands() -> CommandTable:
    """Every command and event of a host; the server adds those of the protocol itself."""
    modules = (
        migration,
        objects,
        query_migrate,
        parameters,
        capabilities,
        guest,
        block_nodes,
        block_jobs,
        block_exports,
        legacy,
        human_monitor_command,
    )
    return CommandTable.joined(*(module.TABLE for module in modules))


async def serve_host(
    address: str, host: Host, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve a host until cancelled.

    Args:
        address: ``unix:PATH`` or ``tcp:HOST:PORT``.
        host: What is controlled.
        task_status: Told the address with the real port.

    Raises:
        ConnectError: Nobody can listen there.
        BlockedError: The address is malformed.
    """
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, address, host, all_commands()))
        remove = host.notifiers.add(partial(_broadcast, server, host), "QMP events")
        try:
            task_status.started(server.address)
            await trio.sleep_forever()
        finally:
            remove()


def _broadcast(server: Server, host: Host, notice: Notice) -> None:
    match notice:
        case GuestPaused():
            server.broadcast(guest.STOP, None)
        case GuestResumed():
            server.broadcast(guest.RESUME, None)
        case ShuttingDown(cause):
            server.broadcast(guest.SHUTDOWN, guest.ShutdownData(guest=False, reason=cause))
        case StatusReached(status) if host.settings.has(Capability.EVENTS):
            attempt = host.outgoing or host.incoming
            assert attempt is not None  # it is what has reached the status
            shown = query_migrate.shown_status(attempt, status)
            if shown.value == status.value:  # otherwise it goes on as what it was
                server.broadcast(migration.MIGRATION, migration.MigrationData(shown))
        case PassBegun(number) if host.settings.has(Capability.EVENTS):
            server.broadcast(migration.MIGRATION_PASS, migration.MigrationPassData(number))
