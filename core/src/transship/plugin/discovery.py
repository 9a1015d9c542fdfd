"""Finds and imports plugins: the only module that imports stevedore, and only once it must.

stevedore imports, :mod:`importlib.metadata` says what is installed. stevedore keeps its own list of
entry points in a cache folder, whose key cannot tell two installations apart that are less than
some two minutes apart, and its entry points no longer know their distribution; so each driver is
handed the one entry point it is to import. That also decides conflicts before anything of either
side is imported, whatever stevedore's release would do about them.

Nothing here knows what a migration does with a plugin.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, NoReturn, cast

from transship.errors import PluginError
from transship.memory import kernels
from transship.plugin import hints, selection
from transship.plugin.compression import create_compression
from transship.plugin.factories import SectionFactories
from transship.plugin.hookspecs import CompressionHooks, SectionFactoryHooks, TransportHooks
from transship.plugin.registry import new_manager, register
from transship.plugin.report import PluginReport, Status
from transship.plugin.selection import Selection
from transship.plugin.transport import PluginTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from importlib.metadata import Distribution, EntryPoint

    from transship.abc.compression import Compression
    from transship.memory.kernels import Kernels

LOG: Final = logging.getLogger(__name__)

TRANSPORTS: Final = "transship.transports"
"""Entry point group of transports; the name is the URI scheme."""

COMPRESSIONS: Final = "transship.compressions"
"""Entry point group of compression methods; the name is the method's."""

SECTIONS: Final = "transship.sections"
"""Entry point group of section factories; the name is the idstr where there is one."""

KERNELS: Final = "transship.kernels"
"""Entry point group of compiled kernels; each names what :func:`transship.memory.kernels.install`
takes."""

_HOOKS: Final[Mapping[str, type | None]] = {
    TRANSPORTS: TransportHooks,
    COMPRESSIONS: CompressionHooks,
    SECTIONS: SectionFactoryHooks,
    KERNELS: None,
}
"""The hooks of each group; kernels are called as they are."""


def find_transport(scheme: str) -> PluginTransport:
    """Import the plugin of a URI scheme, and no other.

    Args:
        scheme: What is before the colon of a URI; case matters.

    Raises:
        PluginError: No plugin claims the scheme (says which distribution does), several do (names
            them), it is disabled, it cannot be imported, or it breaks a rule of the hooks.
    """
    entry = _only(TRANSPORTS, scheme, f"transport for '{scheme}:'", hints.missing_transport)
    return PluginTransport(scheme, _load(entry), entry.distribution)


def find_compression(name: str) -> Compression:
    """Import the plugin of a compression method, and no other, and make the method.

    Args:
        name: As operators call it; case matters.

    Raises:
        PluginError: No plugin claims the name (says which distribution does), several do (names
            them), it is disabled, it cannot be imported, or it breaks a rule of the hook.
    """
    entry = _only(COMPRESSIONS, name, f"compression method {name!r}", hints.missing_compression)
    return create_compression(name, _load(entry), entry.distribution)


def compression_names() -> list[str]:
    """The methods of compression that there are, without importing any."""
    chosen = Selection.from_environment()
    return sorted({one.name for one in _installed(COMPRESSIONS) if one.is_allowed_by(chosen)})


def section_factories() -> SectionFactories:
    """Import all section plugins; those that fail are in the result's ``failures``."""
    surveyed = list(_survey(SECTIONS))
    return SectionFactories(
        [(report, plugin) for report, plugin in surveyed if plugin is not None],
        [report for report, plugin in surveyed if plugin is None],
    )


@cache
def install_kernels() -> None:
    """Let what needs kernels use those of all plugins that can be imported; once a process.

    Those that fail are passed over: everything works without them, slower.
    """
    for report, plugin in _survey(KERNELS):
        if plugin is not None:
            kernels.install(cast("Kernels", plugin))
        else:
            LOG.warning("kernels %r of %s: %s", report.name, report.distribution, report.reason)


def installed_plugins() -> list[PluginReport]:
    """Import every plugin of every group, and say how each fared.

    Returns:
        In order of group, name and distribution; at the end, what ``TRANSSHIP_PLUGINS`` names
        and nobody installed.
    """
    reports = [report for group in _HOOKS for report, _ in _survey(group)]
    unknown = Selection.from_environment()
    for report in reports:
        unknown = unknown.without(report.name, report.distribution)
    reason = f"{selection.VARIABLE} names it, and it is not installed"
    missing = [
        PluginReport("", name, "", "", "", "missing", reason)
        for name in sorted(unknown.names or ())
    ]
    return reports + missing


@dataclass(frozen=True, slots=True)
class _Installed:
    """An entry point that still knows its distribution."""

    point: EntryPoint
    distribution: str
    version: str

    @property
    def group(self) -> str:
        return self.point.group

    @property
    def name(self) -> str:
        return self.point.name

    def is_allowed_by(self, chosen: Selection) -> bool:
        return chosen.allows(self.name, self.distribution)

    def report(self, status: Status, reason: str = "", hooks: tuple[str, ...] = ()) -> PluginReport:
        module = self.point.value
        return PluginReport(
            self.group, self.name, self.distribution, self.version, module, status, reason, hooks
        )


def _installed(group: str) -> Sequence[_Installed]:
    """The entry points of a group, of every distribution on the path, in order of name."""
    path = tuple((folder, _changed_ns(folder)) for folder in sys.path)
    return [entry for entry in _found_on(path) if entry.group == group]


@lru_cache(maxsize=2)
def _found_on(path: tuple[tuple[str, int], ...]) -> Sequence[_Installed]:
    """Read the metadata of all distributions: some milliseconds, once for each state of a path."""
    from importlib.metadata import entry_points

    every = entry_points()
    found = [
        _Installed(point, *_name_and_version(point.dist))
        for group in _HOOKS
        for point in every.select(group=group)
    ]
    return sorted(found, key=lambda entry: (entry.name, entry.distribution))


def _changed_ns(folder: str) -> int:
    """When something was last installed in a folder, or removed from it."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def _only(
    group: str, name: str, what: str, missing: Callable[[str, set[str]], PluginError]
) -> _Installed:
    """The one entry point of a name.

    Args:
        group: Its group.
        name: Its name.
        what: What it is, for messages.
        missing: The error if nobody claims the name, given that and those of the group.

    Raises:
        PluginError: There is none, there are several, or it is disabled.
    """
    installed = _installed(group)
    claims = [entry for entry in installed if entry.name == name]
    if not claims:
        raise missing(name, {entry.name for entry in installed})
    chosen = Selection.from_environment()
    allowed = [entry for entry in claims if entry.is_allowed_by(chosen)]
    if not allowed:
        left_out = claims[0].distribution
        raise PluginError(
            f"no {what}: {selection.VARIABLE} leaves out {left_out}", distribution=left_out
        )
    if len(allowed) > 1:
        raise PluginError(
            f"several plugins provide a {what}, none is used",
            found=" and ".join(entry.distribution for entry in allowed),
            hint=f"uninstall one of them, or choose with {selection.VARIABLE}",
        )
    return allowed[0]


def _name_and_version(distribution: Distribution | None) -> tuple[str, str]:
    known: dict[str, str] = {}
    if distribution is not None:
        metadata = distribution.metadata
        known = {key: metadata[key] for key in ("Name", "Version") if key in metadata}
    return known.get("Name", "an unnamed distribution"), known.get("Version", "?")


def _load(entry: _Installed) -> object:
    """Import what an entry point names.

    Raises:
        PluginError: That fails, in whatever way; names the distribution.
    """
    from stevedore.driver import DriverManager

    class Driver(DriverManager):  # type: ignore[type-arg]  # not generic in Debian 13's release
        def list_entry_points(self) -> list[EntryPoint]:
            return [entry.point]

    try:
        plugin: object = Driver(
            entry.group, entry.name, on_load_failure_callback=_raise_load_failure
        ).driver
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"plugin {entry.name!r} of {entry.distribution} cannot be imported: "
            f"{type(error).__name__}: {error}",
            distribution=entry.distribution,
        ) from error
    return plugin


def _raise_load_failure(manager: object, point: EntryPoint, error: BaseException) -> NoReturn:
    """Stevedore would log it and go on."""
    raise error


def _survey(group: str) -> Iterator[tuple[PluginReport, object | None]]:
    """Every entry point of a group: its report, and what it names if that can be used."""
    installed = _installed(group)
    chosen = Selection.from_environment()
    allowed = [entry for entry in installed if entry.is_allowed_by(chosen)]
    for entry in installed:
        rivals = [
            other.distribution
            for other in allowed
            if other.name == entry.name and other is not entry
        ]
        if entry not in allowed:
            reason = f"{selection.VARIABLE} leaves it out"
            yield entry.report("disabled", reason), None
        elif rivals:
            reason = f"{entry.name!r} is also claimed by {' and '.join(rivals)}; none is used"
            yield entry.report("conflict", reason), None
        else:
            try:
                plugin = _load(entry)
                hooks = _hooks_of(entry, plugin)
            except PluginError as error:
                yield entry.report("failed", error.cause), None
            else:
                yield entry.report("ok", hooks=hooks), plugin


def _hooks_of(entry: _Installed, plugin: object) -> tuple[str, ...]:
    """The hooks that a plugin implements.

    Raises:
        PluginError: One does not exist, or has an argument that does not.
    """
    hooks = _HOOKS[entry.group]
    if hooks is None:
        return ()
    manager = new_manager(hooks)
    register(manager, plugin, entry.name, entry.distribution)
    return tuple(sorted(caller.name for caller in manager.get_hookcallers(plugin) or ()))
