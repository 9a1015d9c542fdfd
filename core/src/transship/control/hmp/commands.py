"""The monitor's commands: each is QMP's of the same meaning, read and answered as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.control.commands import (
    capabilities as capability_commands,
    guest as guest_commands,
    legacy,
    migration as migration_commands,
    parameters as parameter_commands,
    query_migrate,
)
from transship.control.errors import CommandError, generic
from transship.control.hmp import show, values
from transship.control.hmp.line import Arguments, LineError, split
from transship.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.control.registry import Context

    Handler = Callable[[Context, Arguments], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class MonitorCommand:
    """One command of the human monitor.

    Args:
        names: Its name, and its aliases.
        params: What follows, for help.
        help: What it does.
        handler: Does it, and returns what is printed.
    """

    names: tuple[str, ...]
    params: str
    help: str
    handler: Handler


async def execute_line(context: Context, line: str) -> str:
    """Carry out a line. Mistakes are text as well; lines end in CR and LF."""
    try:
        text = await _execute(context, split(line))
    except LineError as mistake:
        text = str(mistake)
    except CommandError as refusal:
        text = f"Error: {refusal.desc}"
    except MigrationError as error:
        text = f"Error: {error}"
    return "".join(f"{part}\r\n" for part in text.split("\n")) if text else ""


async def _execute(context: Context, words: list[str]) -> str:
    if not words:
        return ""
    command, typed, rest = _find(words)
    shown = "|".join(command.names).removeprefix("info ")
    return await command.handler(context, Arguments(shown, typed, rest))


def _find(words: list[str]) -> tuple[MonitorCommand, str, list[str]]:
    """The command that a line begins with, as it was typed, and what follows.

    Raises:
        LineError: There is none.
    """
    if words[0] == "info" and len(words) > 1:
        typed, rest = f"info {words[1]}", words[2:]
    else:
        typed, rest = words[0], words[1:]
    command = _BY_NAME.get(typed)
    if command is None:
        raise LineError(f"unknown command: '{typed}'")
    return command, typed, rest


async def _migrate(context: Context, arguments: Arguments) -> str:
    flags = arguments.flags("dbir")
    migrate = migration_commands.Migrate(
        uri=arguments.required(), resume="r" in flags, blk="b" in flags, inc="i" in flags
    )
    arguments.end()
    await migration_commands.migrate(context, migrate)
    if "d" in flags:
        return ""
    return "terminal does not allow synchronous migration, continuing detached"


async def _migrate_cancel(context: Context, arguments: Arguments) -> str:
    arguments.end()
    context.host.cancel()
    return ""


async def _migrate_continue(context: Context, arguments: Arguments) -> str:
    text = arguments.required()
    arguments.end()
    try:
        state = query_migrate.MigrationStatus(text)
    except ValueError:
        raise generic(f"invalid parameter value: {text}") from None
    await migration_commands.migrate_continue(context, migration_commands.MigrateContinue(state))
    return ""


async def _migrate_incoming(context: Context, arguments: Arguments) -> str:
    uri = arguments.required()
    arguments.end()
    arrival = migration_commands.MigrateIncoming(uri=uri, exit_on_error=False)
    await migration_commands.migrate_incoming(context, arrival)
    return ""


async def _set_capability(context: Context, arguments: Arguments) -> str:
    name, state = arguments.required(), arguments.optional()
    arguments.end()
    if state not in ("on", "off"):
        raise arguments.error("Expected 'on' or 'off'")
    try:
        capability = capability_commands.MigrationCapability(name)
    except ValueError:
        raise generic(f"invalid parameter value: {name}") from None
    capability_commands.change_capabilities(context, {capability: state == "on"})
    return ""


async def _set_parameter(context: Context, arguments: Arguments) -> str:
    name, text = arguments.required(), arguments.required()
    arguments.end()
    parameter_commands.change_parameters(context, {name: values.parameter(name, text)})
    return ""


async def _set_speed(context: Context, arguments: Arguments) -> str:
    value = values.size(arguments.required(), implied="m")
    arguments.end()
    await legacy.migrate_set_speed(context, legacy.Value(value))
    return ""


async def _set_downtime(context: Context, arguments: Arguments) -> str:
    text = arguments.required()
    arguments.end()
    try:
        value = float(text)
    except ValueError:
        raise generic(f"{text!r} is not a number of seconds") from None
    if value != value:
        raise generic(f"{text!r} is not a number of seconds")
    await legacy.migrate_set_downtime(context, legacy.Seconds(value))
    return ""


async def _set_cache_size(context: Context, arguments: Arguments) -> str:
    value = values.size(arguments.required(), implied="b")
    arguments.end()
    await legacy.migrate_set_cache_size(context, legacy.Value(value))
    return ""


async def _announce_self(context: Context, arguments: Arguments) -> str:
    if arguments.optional() is not None:
        raise generic("a guest announces itself on all its network cards: leave out which")
    context.host.announce(context.host.settings.parameters)
    return ""


async def _stop(context: Context, arguments: Arguments) -> str:
    arguments.end()
    await context.host.stop()
    return ""


async def _cont(context: Context, arguments: Arguments) -> str:
    arguments.end()
    await context.host.cont()
    return ""


async def _quit(context: Context, arguments: Arguments) -> str:
    arguments.end()
    await guest_commands.quit_(context)
    return ""


async def _info_status(context: Context, arguments: Arguments) -> str:
    arguments.end()
    return show.status(context.host.run_state)


async def _info_migrate(context: Context, arguments: Arguments) -> str:
    arguments.end()
    return "\n".join(show.migration(await query_migrate.query_migrate(context)))


async def _info_capabilities(context: Context, arguments: Arguments) -> str:
    arguments.end()
    return "\n".join(show.capabilities(await capability_commands.query_capabilities(context)))


async def _info_parameters(context: Context, arguments: Arguments) -> str:
    arguments.end()
    return "\n".join(show.parameters(context.host.settings.parameters))


async def _info_cache_size(context: Context, arguments: Arguments) -> str:
    arguments.end()
    return f"xbzrle cache size: {context.host.settings.parameters.xbzrle_cache_bytes >> 10} kbytes"


async def _info(context: Context, arguments: Arguments) -> str:
    arguments.end()
    return "\n".join(_usage(one) for one in COMMANDS if one.names[0].startswith("info "))


async def _help(context: Context, arguments: Arguments) -> str:
    first, second = arguments.optional(), arguments.optional()
    if first is None:
        return "\n".join(map(_usage, COMMANDS))
    command, _, _ = _find([first] if second is None else [first, second])
    return _usage(command)


def _usage(command: MonitorCommand) -> str:
    return f"{'|'.join(command.names)} {command.params} -- {command.help}"


COMMANDS: Final = (
    MonitorCommand(
        ("announce_self",), "", "let the guest tell the network where it is", _announce_self
    ),
    MonitorCommand(("cont", "c"), "", "let the guest run", _cont),
    MonitorCommand(("help", "?"), "[cmd]", "show what can be typed", _help),
    MonitorCommand(("info",), "[subcommand]", "show something", _info),
    MonitorCommand(("info migrate",), "", "show the migration", _info_migrate),
    MonitorCommand(
        ("info migrate_cache_size",), "", "show the size of the XBZRLE cache", _info_cache_size
    ),
    MonitorCommand(("info migrate_capabilities",), "", "show all capabilities", _info_capabilities),
    MonitorCommand(("info migrate_parameters",), "", "show all parameters", _info_parameters),
    MonitorCommand(("info status",), "", "show whether the guest runs", _info_status),
    MonitorCommand(
        ("migrate",),
        "[-d] [-b] [-i] [-r] uri",
        "move the guest to uri, with -b or -i its disks; it goes on detached",
        _migrate,
    ),
    MonitorCommand(
        ("migrate_cancel",), "", "cancel the migration that is under way", _migrate_cancel
    ),
    MonitorCommand(("migrate_continue",), "state", "go on from that state", _migrate_continue),
    MonitorCommand(("migrate_incoming",), "uri", "wait for a source at uri", _migrate_incoming),
    MonitorCommand(
        ("migrate_set_cache_size",), "value", "set the XBZRLE cache, in bytes", _set_cache_size
    ),
    MonitorCommand(
        ("migrate_set_capability",), "capability state", "switch one on or off", _set_capability
    ),
    MonitorCommand(
        ("migrate_set_downtime",), "value", "limit the downtime, in seconds", _set_downtime
    ),
    MonitorCommand(("migrate_set_parameter",), "parameter value", "change one", _set_parameter),
    MonitorCommand(
        ("migrate_set_speed",), "value", "cap the bandwidth, in MiB a second", _set_speed
    ),
    MonitorCommand(("quit", "q"), "", "end the process", _quit),
    MonitorCommand(("stop", "s"), "", "pause the guest", _stop),
)
"""All of them, by name."""

_BY_NAME: Final = {name: command for command in COMMANDS for name in command.names}
