"""A host's control over QMP: all commands, and its notices as events."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from transship.abc.settings import Capability
from transship.control.commands import capabilities, guest, human, legacy, migration, parameters
from transship.control.info import MigrationStatus
from transship.control.registry import CommandTable
from transship.control.server.serving import Server, serve
from transship.engine.notifiers import (
    GuestPaused,
    GuestResumed,
    Notice,
    PassBegun,
    ShuttingDown,
    StatusReached,
)
from transship.engine.status import MigrationStatus as EngineStatus

if TYPE_CHECKING:
    from transship.hosting.host import Host


def all_commands() -> CommandTable:
    """Every command and event of a host; the server adds those of the protocol itself."""
    return CommandTable.joined(
        *(module.TABLE for module in (migration, parameters, capabilities, guest, legacy, human))
    )


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
        case ShuttingDown(reason):
            cause = guest.ShutdownCause(reason)
            server.broadcast(guest.SHUTDOWN, guest.ShutdownData(guest=False, reason=cause))
        case StatusReached(status) if host.settings.has(Capability.EVENTS):
            if status is not EngineStatus.DEVICE or host.outgoing is host.active:
                data = migration.MigrationData(MigrationStatus(status.value))
                server.broadcast(migration.MIGRATION, data)
        case PassBegun(number) if host.settings.has(Capability.EVENTS):
            server.broadcast(migration.MIGRATION_PASS, migration.MigrationPassData(number))
