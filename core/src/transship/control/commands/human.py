"""``human-monitor-command``: the words of the human monitor, with QEMU's labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship.control.qapi import Object
from transship.control.registry import CommandTable

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE = CommandTable()


class HumanMonitorCommand(Object):
    """A line as it would be typed."""

    command_line: str
    cpu_index: int | None = None


@TABLE.command("human-monitor-command")
async def human_monitor_command(context: Context, arguments: HumanMonitorCommand) -> str:
    """Carry out a line, and return what would be printed."""
    return ""
