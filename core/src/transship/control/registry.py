"""How commands and events are registered, and what a command gets besides its arguments.

A module of commands has a table of its own and fills it with a decorator; whoever serves them joins
the tables::

    TABLE = CommandTable()

    class SetSpeed(Object):
        value: Size

    @TABLE.command("set-speed")
    async def set_speed(context: Context, arguments: SetSpeed) -> None:
        context.host.set_parameters({"max_bandwidth_bytes_per_s": arguments.value})

The annotations are read when a command is registered, so what they name must be there at run time.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_type_hints, overload

import msgspec

from transship.control.qapi.composites import Composite, ObjectType, Union
from transship.control.qapi.declaring import Object, type_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from transship.control.qapi.scalars import Feature, Type
    from transship.control.session import Session
    from transship.hosting.host import Host

F = TypeVar("F", bound="Callable[..., Awaitable[object]]")
S = TypeVar("S", bound=Object)
D = TypeVar("D", bound=Object | None)


@dataclass(frozen=True, slots=True)
class Context:
    """What a command works on; each has one of its own.

    Args:
        host: The guest and its migrations.
        session: The client that gave the command, with the file descriptors it sent.
        table: All commands and events there are.
        command_number: Which of the client's commands this is, counted from 1.
    """

    host: Host
    session: Session
    table: CommandTable
    command_number: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Args:
        name: What clients call it.
        handler: What carries it out.
        arguments: What it takes; None if nothing.
        returns: What it gives; None if nothing.
        allows_oob: Whether it may overtake others. Such a command ends quickly, waits for nothing
            that another command of its client holds up, and may run beside one.
        features: Its features.
    """

    name: str
    handler: Callable[..., Awaitable[object]]
    arguments: Composite | None
    returns: Type | None
    allows_oob: bool
    features: tuple[Feature, ...]

    async def run(self, context: Context, arguments: Mapping[str, object]) -> object:
        """Check the arguments, then carry the command out. Returns JSON.

        Raises:
            CommandError: An argument is not what it must be, and nothing was done; or the command
                refused, or failed.
            MigrationError: The same, from what the command works on.

        Cancellation: as the command's own.
        """
        if self.arguments is None:
            _NOTHING.check_members(arguments, "")
            result = await self.handler(context)
        else:
            result = await self.handler(context, self.arguments.check_members(arguments, ""))
        return {} if result is None else msgspec.to_builtins(result)


@dataclass(frozen=True, slots=True)
class Event(Generic[D]):
    """An event.

    Args:
        name: What clients call it.
        data: What it carries; None if nothing.
    """

    name: str
    data: ObjectType | None

    def message(self, data: D, time_s: float) -> dict[str, object]:
        """The JSON of one occurrence.

        Args:
            data: What happened.
            time_s: When, in seconds since the epoch.
        """
        seconds, microseconds = divmod(round(time_s * 1e6), 1_000_000)
        message: dict[str, object] = {
            "timestamp": {"seconds": seconds, "microseconds": microseconds},
            "event": self.name,
        }
        if data is not None:
            message["data"] = msgspec.to_builtins(data)
        return message


class CommandTable:
    """Commands and events, by name."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}
        self._events: dict[str, Event[Any]] = {}

    @classmethod
    def joined(cls, *tables: CommandTable) -> CommandTable:
        """What is in several tables.

        Raises:
            ValueError: Two have something of the same name.
        """
        table = cls()
        for one in tables:
            for command in one.commands():
                table._add(table._commands, command.name, command)
            for event in one.events():
                table._add(table._events, event.name, event)
        return table

    def command(
        self, name: str, *, oob: bool = False, features: tuple[Feature, ...] = ()
    ) -> Callable[[F], F]:
        """Register the decorated ``async def (context[, arguments]) -> result``.

        Args:
            name: What clients call it.
            oob: See :attr:`Command.allows_oob`.
            features: ``DEPRECATED``, or none.

        Raises:
            TypeError: An annotation is missing, or is no type of QAPI.
            ValueError: There is one of that name.
        """

        def register(handler: F) -> F:
            arguments, returns = _signature(handler)
            command = Command(name, handler, arguments, returns, oob, features)
            self._add(self._commands, name, command)
            return handler

        return register

    @overload
    def event(self, name: str, data: None = None) -> Event[None]: ...

    @overload
    def event(self, name: str, data: type[S]) -> Event[S]: ...

    def event(self, name: str, data: type[Object] | None = None) -> Event[Any]:
        """Register an event. Returns what the server wants in order to send one.

        Args:
            name: What clients call it.
            data: A subclass of :class:`Object`; None if it carries nothing.

        Raises:
            TypeError: ``data`` is no type of QAPI.
            ValueError: There is one of that name.
        """
        type_ = None if data is None else _object_type(data, f"the data of {name}")
        event: Event[Any] = Event(name, type_)
        self._add(self._events, name, event)
        return event

    def find(self, name: str) -> Command | None:
        """The command of that name; None if there is none."""
        return self._commands.get(name)

    def commands(self) -> Iterator[Command]:
        """All commands."""
        return iter(self._commands.values())

    def events(self) -> Iterator[Event[Any]]:
        """All events."""
        return iter(self._events.values())

    def _add(self, entries: dict[str, Any], name: str, entry: Command | Event[Any]) -> None:
        if name in entries:
            raise ValueError(f"{name!r} is registered twice")
        entries[name] = entry


def _signature(handler: Callable[..., object]) -> tuple[Composite | None, Type | None]:
    """The types that a command's annotations name."""
    where = handler.__qualname__
    # Many modules need Context only to check types, and import it only then.
    hints = get_type_hints(handler, localns={"Context": Context}, include_extras=True)
    names = list(inspect.signature(handler).parameters)
    if "return" not in hints or len(names) not in (1, 2) or not hints.keys() >= set(names):
        raise TypeError(f"{where} must be annotated as (context[, arguments]) -> result")
    returned = hints["return"]
    arguments = _composite(hints[names[1]], f"{where}: {names[1]}") if names[1:] else None
    return arguments, None if returned is type(None) else type_of(returned)


def _composite(annotation: Any, where: str) -> Composite:
    type_ = type_of(annotation)
    if not isinstance(type_, Union):
        return _object_type(annotation, where)
    _check(type_)
    return type_


def _check(type_: Composite) -> None:
    """Let a mistake in the members show here, and not when a client comes."""
    if isinstance(type_, ObjectType):
        _ = type_.members
    elif isinstance(type_, Union):
        for case in type_.cases.values():
            _check(case)


def _object_type(annotation: Any, where: str) -> ObjectType:
    type_ = type_of(annotation)
    if not isinstance(type_, ObjectType):
        raise TypeError(f"{where} must be a subclass of Object, not {annotation!r}")
    _check(type_)
    return type_


class _Nothing(Object):
    pass


_NOTHING = ObjectType(_Nothing, list)
