"""``human-monitor-command``: a line of the human monitor over QMP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.control.errors import generic
from transship.control.hmp.commands import execute_line
from transship.control.qapi.declaring import Object
from transship.control.registry import CommandTable

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE = CommandTable()


class HumanMonitorCommand(Object):
    """A line as it would be typed; a guest here has one processor for it to be about."""

    command_line: str
    cpu_index: int | None = None


@TABLE.command("human-monitor-command")
async def human_monitor_command(context: Context, arguments: HumanMonitorCommand) -> str:
    """Carry out a line, and return what would be printed; mistakes are text as well."""
    if arguments.cpu_index not in (None, 0):
        raise generic(f"there is no processor {arguments.cpu_index}")
    return await execute_line(context, arguments.command_line)
