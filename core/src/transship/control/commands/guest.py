"""The guest's processors: asking after them, stopping them, letting them run; and the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.control.qapi.declaring import Object
from transship.control.registry import CommandTable
from transship.hosting.runstate import RunState
from transship.hosting.shutdown import ShutdownCause

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE = CommandTable()


class StatusInfo(Object):
    """What a guest's processors do."""

    running: bool
    status: RunState


@TABLE.command("query-status")
async def query_status(context: Context) -> StatusInfo:
    """Whether the guest runs, and why not."""
    run_state = context.host.run_state
    return StatusInfo(run_state is RunState.RUNNING, run_state)


@TABLE.command("stop")
async def stop(context: Context) -> None:
    """Pause the guest; one that is still to arrive will not be started."""
    await context.host.stop()


@TABLE.command("cont")
async def cont(context: Context) -> None:
    """Let the guest run; one that is still to arrive will be started."""
    await context.host.cont()


@TABLE.command("quit")
async def quit_(context: Context) -> None:
    """End the process, once a migration that is under way has been cancelled."""
    await context.host.quit(ShutdownCause.HOST_QMP_QUIT)


class ShutdownData(Object):
    """Why the process ends."""

    guest: bool
    reason: ShutdownCause


STOP = TABLE.event("STOP")
RESUME = TABLE.event("RESUME")
SHUTDOWN = TABLE.event("SHUTDOWN", ShutdownData)
