#!/usr/bin/env python3
"""Writes debian/control: a template, and what the distributions say of themselves.

Names of Debian packages and epochs are known here; which plugins a user of the command gets by
default stands in the template, debian/control.in, and nowhere else.

``python3 packaging/debian_control.py`` writes it; a test fails where it is out of date.
"""

from __future__ import annotations

import re
import textwrap
from string import Template
from typing import TYPE_CHECKING, Final

from distributions import ROOT, Distribution, distributions, floor, requirement_name

if TYPE_CHECKING:
    from collections.abc import Iterable

TEMPLATE: Final = ROOT / "debian/control.in"
CONTROL: Final = ROOT / "debian/control"
EPOCHS: Final = {"numpy": "1:"}
"""Those whose versions Debian begins anew; a floor without the epoch would always hold."""

_WIDTH: Final = 78


class _Template(Template):
    """Leaves ``${python3:Depends}`` and its like alone."""

    delimiter = "%"


def control() -> str:
    """The whole file, as it should be."""
    found = distributions()
    plugins = [each for each in found if each.is_plugin]
    template = TEMPLATE.read_text()
    recommended = set(re.findall(r"python3-transship-[\w-]+", template))
    names = [binary_package(each.name) for each in plugins]
    return _Template(template).substitute(
        build_depends=_field(_build_depends(found)),
        plugins=_field(names),
        other_plugins=_field(name for name in names if name not in recommended),
        plugin_stanzas="\n".join(_stanza(plugin) for plugin in plugins),
    )


def binary_package(distribution: str) -> str:
    """The Debian package that carries a distribution of PyPI, ours and all that we need."""
    return f"python3-{distribution}"


def _build_depends(found: Iterable[Distribution]) -> list[str]:
    """What building needs; at run time too, since the manual and the tests import everything."""
    requirements = {
        requirement
        for each in found
        for requirement in [*each.build_requires, *each.requirements]
        if not requirement_name(requirement).startswith("transship")
    }
    return sorted(_relation(requirement) for requirement in requirements)


def _relation(requirement: str) -> str:
    """``numpy >= 2.2`` becomes ``python3-numpy (>= 1:2.2)``."""
    name = requirement_name(requirement)
    lowest = floor(requirement)
    package = binary_package(name)
    return f"{package} (>= {EPOCHS.get(name, '')}{lowest})" if lowest else package


def _stanza(plugin: Distribution) -> str:
    libraries = ["${shlibs:Depends}"] if plugin.is_compiled else []
    depends = ["python3-transship (= ${source:Version})", "${misc:Depends}", "${python3:Depends}"]
    summary = plugin.project["description"].removeprefix("Transship's ")
    return (
        f"Package: {binary_package(plugin.name)}\n"
        f"Architecture: {'any' if plugin.is_compiled else 'all'}\n"
        f"Depends:\n{_field([*depends, *libraries])}\n"
        f"Enhances:\n{_field(['python3-transship'])}\n"
        f"Description: live migration of running machines - {_shortened(summary)}\n"
        f"{_paragraph(plugin.introduction)}\n"
    )


def _shortened(summary: str) -> str:
    """What comes before the first comma or colon that does not belong to a word."""
    return re.split(r"[,:] ", summary)[0]


def _field(values: Iterable[str]) -> str:
    return "\n".join(f" {value}," for value in values)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=" ", subsequent_indent=" ")


if __name__ == "__main__":
    CONTROL.write_text(control())
