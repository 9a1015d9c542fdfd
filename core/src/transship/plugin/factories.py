"""The section plugins as their callers see them: a guest in, its sections out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, final

from transship.abc.section import Section
from transship.errors import PluginError
from transship.plugin import hints
from transship.plugin.blaming import at_fault, blaming
from transship.plugin.hookspecs import SectionFactoryHooks
from transship.plugin.registry import new_manager, register

if TYPE_CHECKING:
    from transship.abc.guest import Guest
    from transship.abc.settings import Settings
    from transship.plugin.report import PluginReport

_HOOK: Final = "create_sections"


@final
class SectionFactories:
    """All plugins that make sections, and what is known of those that cannot.

    Made by :func:`transship.plugin.discovery.section_factories`.

    Args:
        plugins: Each with its report; the order does not matter.
        failures: Reports of plugins that are installed and cannot be used.

    Attributes:
        failures: The same. They are fatal to nobody who does not need them: when a guest turns out
            to have a part that nothing carries, :meth:`missing` says why.
    """

    def __init__(
        self,
        plugins: Iterable[tuple[PluginReport, object]],
        failures: Iterable[PluginReport] = (),
    ) -> None:
        self.failures = tuple(failures)
        self._manager = new_manager(SectionFactoryHooks)
        self._plugins: dict[str, tuple[PluginReport, object]] = {}
        for report, plugin in sorted(plugins, key=lambda pair: pair[0].name):
            if not self._manager.is_registered(plugin):  # one module may have several names
                register(self._manager, plugin, report.name, report.distribution)
                self._plugins[report.name] = report, plugin

    def create_sections(self, guest: Guest, settings: Settings) -> list[Section]:
        """Make new sections for one migration of one guest.

        Returns:
            In stream order: live ones first, and among equals in the order of the plugins' names.

        Raises:
            PluginError: A factory fails, or returns something else; names it.
        """
        sections: list[Section] = []
        for report, plugin in self._plugins.values():
            sections += self._call(report, plugin, guest, settings)
        return sorted(sections, key=lambda section: not section.is_live)

    def missing(self, name: str) -> PluginError:
        """Why no plugin of that name makes sections: it is broken, or not installed."""
        for report in self.failures:
            if report.name == name:
                return PluginError(
                    f"no plugin carries {name!r}: {report.reason}",
                    distribution=report.distribution,
                )
        return hints.missing_section(name)

    def _call(
        self, report: PluginReport, plugin: object, guest: Guest, settings: Settings
    ) -> Sequence[Section]:
        """One plugin's sections: called alone, so that what goes wrong has a name."""
        others = [other for _, other in self._plugins.values() if other is not plugin]
        hook = self._manager.subset_hook_caller(_HOOK, others)
        with blaming(_HOOK, report.name, report.distribution):
            results: list[Any] = hook(guest=guest, settings=settings)
        sections = [section for result in results for section in _listed(result)]
        for section in sections:
            if not isinstance(section, Section):
                what = f"made a {type(section).__name__}, which is no Section"
                raise at_fault(_HOOK, report.name, report.distribution, what)
        return sections


def _listed(result: Any) -> Sequence[Any]:
    return result if isinstance(result, Sequence) else (result,)
