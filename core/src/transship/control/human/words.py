"""The words themselves: each is the QMP command of the same meaning, read and answered as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from transship.control.commands import (
    capabilities as capability_commands,
    guest as guest_commands,
    legacy,
    migration as migration_commands,
    parameters as parameter_commands,
)
from transship.control.errors import CommandError, generic
from transship.control.human import show, values
from transship.control.human.line import LineError, Words, split
from transship.control.info import MigrationStatus, migration_info
from transship.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transship.control.registry import Context

    Act = Callable[[Context, Words], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Word:
    """One command of the human monitor.

    Args:
        names: Its name, and its aliases.
        arguments: What follows, for help.
        meaning: What it does, for help.
        act: Does it, and returns what is printed.
    """

    names: tuple[str, ...]
    arguments: str
    meaning: str
    act: Act


async def speak(context: Context, line: str) -> str:
    """Carry out a line. Mistakes are text as well; lines end in CR and LF."""
    try:
        text = await _act(context, split(line))
    except LineError as mistake:
        text = str(mistake)
    except CommandError as refusal:
        text = f"Error: {refusal.desc}"
    except MigrationError as error:
        text = f"Error: {error}"
    return "".join(f"{part}\r\n" for part in text.split("\n")) if text else ""


async def _act(context: Context, words: list[str]) -> str:
    if not words:
        return ""
    word, typed, rest = _find(words)
    return await word.act(context, Words("|".join(word.names).removeprefix("info "), typed, rest))


def _find(words: list[str]) -> tuple[Word, str, list[str]]:
    """The command that a line begins with, as it was typed, and what follows.

    Raises:
        LineError: There is none.
    """
    if words[0] == "info" and len(words) > 1:
        typed, rest = f"info {words[1]}", words[2:]
    else:
        typed, rest = words[0], words[1:]
    word = _BY_NAME.get(typed)
    if word is None:
        raise LineError(f"unknown command: '{typed}'")
    return word, typed, rest


async def _migrate(context: Context, words: Words) -> str:
    flags = words.flags("dr")
    arguments = migration_commands.Migrate(uri=words.required(), resume="r" in flags)
    words.end()
    await migration_commands.migrate(context, arguments)
    if "d" in flags:
        return ""
    return "terminal does not allow synchronous migration, continuing detached"


async def _migrate_cancel(context: Context, words: Words) -> str:
    words.end()
    context.host.cancel()
    return ""


async def _migrate_continue(context: Context, words: Words) -> str:
    text = words.required()
    words.end()
    try:
        state = MigrationStatus(text)
    except ValueError:
        raise generic(f"invalid parameter value: {text}") from None
    await migration_commands.migrate_continue(context, migration_commands.MigrateContinue(state))
    return ""


async def _migrate_incoming(context: Context, words: Words) -> str:
    uri = words.required()
    words.end()
    await context.host.start_incoming(uri, exits_on_error=False)
    return ""


async def _set_capability(context: Context, words: Words) -> str:
    name, state = words.required(), words.optional()
    words.end()
    if state not in ("on", "off"):
        raise words.error("Expected 'on' or 'off'")
    try:
        capability = capability_commands.MigrationCapability(name)
    except ValueError:
        raise generic(f"invalid parameter value: {name}") from None
    capability_commands.change_capabilities(context, {capability: state == "on"})
    return ""


async def _set_parameter(context: Context, words: Words) -> str:
    name, text = words.required(), words.required()
    words.end()
    parameter_commands.change_parameters(context, {name: values.parameter(name, text)})
    return ""


async def _set_speed(context: Context, words: Words) -> str:
    value = values.size(words.required(), implied="m")
    words.end()
    await legacy.migrate_set_speed(context, legacy.Value(value))
    return ""


async def _set_downtime(context: Context, words: Words) -> str:
    text = words.required()
    words.end()
    try:
        value = float(text)
    except ValueError:
        raise generic(f"{text!r} is not a number of seconds") from None
    if value != value:
        raise generic(f"{text!r} is not a number of seconds")
    await legacy.migrate_set_downtime(context, legacy.Seconds(value))
    return ""


async def _set_cache_size(context: Context, words: Words) -> str:
    value = values.size(words.required(), implied="b")
    words.end()
    await legacy.migrate_set_cache_size(context, legacy.Value(value))
    return ""


async def _announce_self(context: Context, words: Words) -> str:
    if words.optional() is not None:
        raise generic("a guest announces itself on all its network cards: leave out which")
    context.host.announce(context.host.settings.parameters)
    return ""


async def _stop(context: Context, words: Words) -> str:
    words.end()
    await context.host.stop()
    return ""


async def _cont(context: Context, words: Words) -> str:
    words.end()
    await context.host.cont()
    return ""


async def _quit(context: Context, words: Words) -> str:
    words.end()
    await guest_commands.quit_(context)
    return ""


async def _info_status(context: Context, words: Words) -> str:
    words.end()
    return show.status(context.host.run_state)


async def _info_migrate(context: Context, words: Words) -> str:
    words.end()
    return "\n".join(show.migration(migration_info(context.host)))


async def _info_capabilities(context: Context, words: Words) -> str:
    words.end()
    return "\n".join(show.capabilities(await capability_commands.query_capabilities(context)))


async def _info_parameters(context: Context, words: Words) -> str:
    words.end()
    return "\n".join(show.parameters(context.host.settings.parameters))


async def _info_cache_size(context: Context, words: Words) -> str:
    words.end()
    return f"xbzrle cache size: {context.host.settings.parameters.xbzrle_cache_bytes >> 10} kbytes"


async def _info(context: Context, words: Words) -> str:
    words.end()
    return "\n".join(_usage(word) for word in WORDS if word.names[0].startswith("info "))


async def _help(context: Context, words: Words) -> str:
    first, second = words.optional(), words.optional()
    if first is None:
        return "\n".join(map(_usage, WORDS))
    word, _, _ = _find([first] if second is None else [first, second])
    return _usage(word)


def _usage(word: Word) -> str:
    return f"{'|'.join(word.names)} {word.arguments} -- {word.meaning}"


WORDS: Final = (
    Word(("announce_self",), "", "let the guest tell the network where it is", _announce_self),
    Word(("cont", "c"), "", "let the guest run", _cont),
    Word(("help", "?"), "[cmd]", "show what can be typed", _help),
    Word(("info",), "[subcommand]", "show something", _info),
    Word(("info migrate",), "", "show the migration", _info_migrate),
    Word(("info migrate_cache_size",), "", "show the size of the XBZRLE cache", _info_cache_size),
    Word(("info migrate_capabilities",), "", "show all capabilities", _info_capabilities),
    Word(("info migrate_parameters",), "", "show all parameters", _info_parameters),
    Word(("info status",), "", "show whether the guest runs", _info_status),
    Word(
        ("migrate",), "[-d] [-r] uri", "move the guest to uri; it always goes on detached", _migrate
    ),
    Word(("migrate_cancel",), "", "cancel the migration that is under way", _migrate_cancel),
    Word(("migrate_continue",), "state", "go on from that state", _migrate_continue),
    Word(("migrate_incoming",), "uri", "wait for a source at uri", _migrate_incoming),
    Word(("migrate_set_cache_size",), "value", "set the XBZRLE cache, in bytes", _set_cache_size),
    Word(("migrate_set_capability",), "capability state", "switch one on or off", _set_capability),
    Word(("migrate_set_downtime",), "value", "limit the downtime, in seconds", _set_downtime),
    Word(("migrate_set_parameter",), "parameter value", "change one", _set_parameter),
    Word(("migrate_set_speed",), "value", "cap the bandwidth, in MiB a second", _set_speed),
    Word(("quit", "q"), "", "end the process", _quit),
    Word(("stop", "s"), "", "pause the guest", _stop),
)
"""All of them, by name."""

_BY_NAME: Final = {name: word for word in WORDS for name in word.names}
