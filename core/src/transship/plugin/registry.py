"""The only place that makes a pluggy ``PluginManager``: one for whatever is asked together."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import pluggy

from transship.abc.section import ChannelParsing, Pending, Section, Segments
from transship.errors import PluginError
from transship.plugin import hookspecs
from transship.plugin.markers import PROJECT
from transship.plugin.tracing import trace_if_asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader


def new_manager(*specifications: type) -> pluggy.PluginManager:
    """A manager that knows the hooks of the given classes of :mod:`~transship.plugin.hookspecs`."""
    manager = pluggy.PluginManager(PROJECT)
    for specification in specifications:
        manager.add_hookspecs(specification)
    trace_if_asked(manager)
    return manager


def register(manager: pluggy.PluginManager, plugin: object, name: str, owner: str) -> None:
    """Register and validate a plugin, at once.

    Args:
        manager: Where.
        plugin: A module or object with hook implementations.
        name: Its name in the manager.
        owner: Its distribution, for the message.

    Raises:
        PluginError: It implements no hook, one that does not exist, one with an argument that
            does not exist, or one that would have to be awaited.
    """
    try:
        manager.register(plugin, name)
        _check_pending(manager, plugin)
    except (pluggy.PluginValidationError, ValueError) as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        raise PluginError(
            f"plugin {name!r} of {owner} is refused: {error}", distribution=owner
        ) from error


def _check_pending(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse hooks that are not specified, hooks to be awaited, and plugins without any."""
    callers = manager.get_hookcallers(plugin) or []
    if not callers:
        raise ValueError("it implements no hook; mark its functions with @transship.hookimpl")
    for caller in callers:
        if not caller.has_spec():
            known = sorted(name for name, hook in vars(manager.hook).items() if hook.has_spec())
            raise ValueError(f"there is no hook {caller.name!r}; there are {', '.join(known)}")
        for implementation in caller.get_hookimpls():
            function = implementation.function
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise ValueError(
                    f"hook {caller.name!r} is an async function, and nobody awaits a hook; "
                    "write def, and return what the hook is to return"
                )


def _check_marks(manager: pluggy.PluginManager, section: Section, owner: str) -> None:
    """Refuse a section with a method that is called like a phase, and is no hook.

    pluggy passes over it, and the section would be sent with an empty body.
    """
    for phase in _PHASES:
        method = getattr(type(section), phase, None)
        if callable(method) and manager.parse_hookimpl_opts(section, phase) is None:
            raise PluginError(
                f"{type(section).__qualname__}.{phase} of {owner} is not marked as a hook",
                section=section.idstr,
                expected=f"@transship.hookimpl before {phase}, or another name",
                found="a method that nobody would call",
                distribution=owner,
            )


_PHASES: Final = tuple(name for name in vars(hookspecs.SectionHooks) if not name.startswith("_"))


class SectionRegistry:
    """The sections of one migration, on a manager of their own; a ``SectionSet``.

    Args:
        sections: In stream order.

    Raises:
        PluginError: A section breaks a rule of the hooks, has a method called like a hook that
            is not marked as one, or two sections have one name.
    """

    def __init__(self, sections: Iterable[Section]) -> None:
        self._manager = new_manager(hookspecs.SectionHooks)
        self._sections: dict[tuple[str, int], Section] = {}
        for section in sections:
            key = (section.idstr, section.instance_id)
            if key in self._sections:
                raise PluginError(
                    f"two sections are called {section.idstr!r}, instance {section.instance_id}",
                    section=section.idstr,
                )
            owner = type(section).__module__
            _check_marks(self._manager, section, owner)
            register(self._manager, section, f"{section.idstr}/{section.instance_id}", owner)
            self._sections[key] = section
        self._hooks: dict[tuple[int, str], pluggy.HookCaller] = {
            (id(section), phase): self._hook_of(section, phase)
            for section in self._sections.values()
            for phase in _PHASES
        }

    def _hook_of(self, section: Section, phase: str) -> pluggy.HookCaller:
        """The hook without the other sections' implementations; observers stay in."""
        others = [other for other in self._sections.values() if other is not section]
        return self._manager.subset_hook_caller(phase, others)

    def _call(self, section: Section, phase: str, **arguments: Any) -> Any:
        return self._hooks[id(section), phase](**arguments)

    def __iter__(self) -> Iterator[Section]:
        return iter(self._sections.values())

    def find(self, idstr: str, instance_id: int) -> Section | None:
        """The section with that name."""
        return self._sections.get((idstr, instance_id))

    def begin(self, section: Section) -> Segments:
        """The body of its START record."""
        return self._call(section, "begin") or _nothing()

    def iterate(self, section: Section, budget_bytes: int) -> Segments:
        """The body of a PART record; a section without the hook is through at once."""
        return self._call(section, "iterate", budget_bytes=budget_bytes) or _nothing()

    def pending(self, section: Section, *, exact: bool) -> Pending:
        """What it still has to send."""
        return self._call(section, "pending", exact=exact) or Pending()

    def complete(self, section: Section) -> Segments:
        """The body of its END or FULL record."""
        return self._call(section, "complete") or _nothing()

    def cancel(self, section: Section) -> None:
        """Let it undo what ``begin`` did."""
        self._call(section, "cancel")

    def load(self, section: Section, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """The parser of a record's body.

        Raises:
            PluginError: The section cannot be received.
        """
        parsing: Parsing[None] | None = self._call(section, "load", header=header, reader=reader)
        if parsing is None:
            raise PluginError(f"section {section.idstr!r} cannot be loaded", section=section.idstr)
        return parsing

    def load_channel(self, section: Section, number: int) -> ChannelParsing:
        """The parser of an extra channel.

        Raises:
            PluginError: The section has none.
        """
        parsing: ChannelParsing | None = self._call(section, "load_channel", number=number)
        if parsing is None:
            raise PluginError(
                f"section {section.idstr!r} does not load extra channels", section=section.idstr
            )
        return parsing


def _nothing() -> Segments:
    yield from ()
    return True
