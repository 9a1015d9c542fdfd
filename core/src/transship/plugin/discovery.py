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
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn, cast

from transship._version import __version__
from transship.errors import PluginError
from transship.memory import kernels
from transship.plugin import hints, requirement, selection
from transship.plugin.block_device import PluginBlockDevices
from transship.plugin.compression import create_compression
from transship.plugin.factories import SectionFactories
from transship.plugin.hookspecs import (
    BlockDeviceHooks,
    CompressionHooks,
    SectionFactoryHooks,
    TransportHooks,
)
from transship.plugin.installed import (
    BLOCK_DEVICES,
    COMPRESSIONS,
    GROUPS,
    KERNELS,
    SECTIONS,
    TRANSPORTS,
    Installed,
    installed,
)
from transship.plugin.origin import origin_of
from transship.plugin.registry import new_manager, register
from transship.plugin.report import PluginReport
from transship.plugin.selection import Selection
from transship.plugin.transport import PluginTransport, capability_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from importlib.metadata import EntryPoint

    from transship.abc.compression import Compression
    from transship.memory.kernels import Kernels

LOG: Final = logging.getLogger(__name__)

_HOOKS: Final[Mapping[str, type | None]] = {
    TRANSPORTS: TransportHooks,
    COMPRESSIONS: CompressionHooks,
    SECTIONS: SectionFactoryHooks,
    BLOCK_DEVICES: BlockDeviceHooks,
    KERNELS: None,
}
"""The hooks of each group; kernels are called as they are."""


def find_transport(scheme: str) -> PluginTransport:
    """Import the plugin of a URI scheme, and no other.

    Args:
        scheme: What is before the colon of a URI; case matters.

    Raises:
        PluginError: No plugin claims the scheme (says which distribution does), several do (names
            them), it is left out, it cannot be imported, or it breaks a rule of the hooks.
    """
    entry = _only(TRANSPORTS, scheme, f"transport for '{scheme}:'", hints.missing_transport)
    return PluginTransport(scheme, _load(entry), entry.distribution)


def find_compression(name: str) -> Compression:
    """Import the plugin of a compression method, and no other, and make the method.

    Args:
        name: As operators call it; case matters.

    Raises:
        PluginError: No plugin claims the name (says which distribution does), several do (names
            them), it is left out, it cannot be imported, or it breaks a rule of the hook.
    """
    entry = _only(COMPRESSIONS, name, f"compression method {name!r}", hints.missing_compression)
    return create_compression(name, _load(entry), entry.distribution)


def find_block_devices(scheme: str) -> PluginBlockDevices:
    """Import the plugin of a scheme of disks, and no other.

    Args:
        scheme: What is before the colon of a disk's URI; case matters.

    Raises:
        PluginError: No plugin claims the scheme (says which distribution does), several do (names
            them), it is left out, it cannot be imported, or it breaks a rule of the hook.
    """
    entry = _only(BLOCK_DEVICES, scheme, f"disks at '{scheme}:'", hints.missing_block_device)
    return PluginBlockDevices(scheme, _load(entry), entry.distribution)


def compression_names() -> list[str]:
    """The methods of compression that there are, without importing any.

    Raises:
        PluginError: What says which plugins may load makes no sense.
    """
    chosen = Selection.in_force()
    return sorted({one.name for one in installed(COMPRESSIONS) if chosen.allows(one.labels)})


def section_factories() -> SectionFactories:
    """Import all section plugins; those that fail are in the result's ``failures``.

    Raises:
        PluginError: What says which plugins may load makes no sense.
    """
    surveyed = list(_survey(SECTIONS))
    return SectionFactories(
        [(report, plugin) for _, report, plugin in surveyed if plugin is not None],
        [report for _, report, plugin in surveyed if plugin is None],
    )


@cache
def install_kernels() -> None:
    """Let what needs kernels use those of all plugins that can be imported; once a process.

    Those that fail are passed over: everything works without them, slower.

    Raises:
        PluginError: What says which plugins may load makes no sense.
    """
    for _, report, plugin in _survey(KERNELS):
        if plugin is not None:
            kernels.install(cast("Kernels", plugin))
        else:
            LOG.warning("kernels %r of %s: %s", report.name, report.distribution, report.reason)


def installed_plugins() -> list[PluginReport]:
    """Import every plugin of every group that may load, and say how each fared.

    Returns:
        In order of group, name and distribution; at the end, what a list names and nobody
        installed, which may be a slip of the pen.

    Raises:
        PluginError: What says which plugins may load makes no sense.
    """
    surveyed = [one for group in GROUPS for one in _survey(group)]
    reports = [replace(report, origin=origin_of(entry.point.dist)) for entry, report, _ in surveyed]
    known = [entry.labels for entry, _, _ in surveyed]
    missing = [
        PluginReport(
            *("", name, "", "", "", "missing"),
            reason=f"{one.source} denies it, and nothing that is installed is called so"
            if one.denies
            else f"{one.source} names it, and it is not installed",
        )
        for one in Selection.in_force().lists
        for name in one.unmatched(known)
    ]
    return reports + missing


def _only(
    group: str, name: str, what: str, missing: Callable[[str, set[str]], PluginError]
) -> Installed:
    """The one entry point of a name.

    Args:
        group: Its group.
        name: Its name.
        what: What it is, for messages.
        missing: The error if nobody claims the name, given that and those of the group.

    Raises:
        PluginError: There is none, there are several, or it is disabled.
    """
    every = installed(group)
    chosen = Selection.in_force()
    claims = [entry for entry in every if entry.name == name]
    if not claims:
        raise missing(name, {entry.name for entry in every if chosen.allows(entry.labels)})
    allowed = [entry for entry in claims if chosen.allows(entry.labels)]
    if not allowed:
        why = [f"{chosen.who_leaves_out(one.labels)} {one.distribution}" for one in claims]
        raise PluginError(f"no {what}: {', '.join(why)}", distribution=claims[0].distribution)
    if len(allowed) > 1:
        raise PluginError(
            f"several plugins provide a {what}, none is used",
            found=" and ".join(entry.distribution for entry in allowed),
            hint=f"uninstall one of them, or choose with {selection.VARIABLE}",
        )
    return allowed[0]


def _load(entry: Installed) -> object:
    """Import what an entry point names.

    Raises:
        PluginError: That fails, in whatever way, or it is made for another release; names the
            distribution.
    """
    if not requirement.is_met(entry.made_for, __version__):
        raise PluginError(
            f"plugin {entry.name!r} of {entry.distribution} is made for another release of "
            f"{requirement.CORE}: it asks for {entry.made_for}, and this is {__version__}",
            distribution=entry.distribution,
        )
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


def _survey(group: str) -> Iterator[tuple[Installed, PluginReport, object | None]]:
    """Every entry point of a group, the report on it, and what it names if that can be used."""
    chosen = Selection.in_force()
    entries = installed(group)
    allowed = [entry for entry in entries if chosen.allows(entry.labels)]
    for entry in entries:
        rivals = tuple(
            other.distribution
            for other in allowed
            if other.name == entry.name and other is not entry
        )
        report = PluginReport(
            *(group, entry.name, entry.distribution, entry.version, entry.point.value),
            status="ok",
            conflicts=rivals,
            made_for=entry.made_for,
        )
        if entry not in allowed:
            reason = f"{chosen.who_leaves_out(entry.labels)} {entry.distribution}"
            yield entry, replace(report, status="disabled", reason=reason), None
        elif rivals:
            reason = f"{entry.name!r} is also claimed by {' and '.join(rivals)}; none is used"
            yield entry, replace(report, status="conflict", reason=reason), None
        else:
            try:
                plugin = _load(entry)
                report = _described(report, plugin)
            except PluginError as error:
                yield entry, replace(report, status="failed", reason=error.cause), None
            else:
                yield entry, report, plugin


def _described(report: PluginReport, plugin: object) -> PluginReport:
    """Add what an imported plugin says of itself.

    Raises:
        PluginError: A hook does not exist, has an argument that does not, or says what it must not.
    """
    hooks = _HOOKS[report.group]
    if hooks is None:
        return report
    manager = new_manager(hooks)
    register(manager, plugin, report.name, report.distribution)
    implemented = sorted(caller.name for caller in manager.get_hookcallers(plugin) or ())
    capabilities = None
    if report.group == TRANSPORTS:
        declared = PluginTransport(report.name, plugin, report.distribution).capabilities()
        capabilities = None if declared is None else tuple(sorted(map(capability_name, declared)))
    return replace(report, hooks=tuple(implemented), capabilities=capabilities)
