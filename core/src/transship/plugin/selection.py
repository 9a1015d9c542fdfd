"""Which of the installed plugins may load: one environment variable for packagers and testers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Self

VARIABLE: Final = "TRANSSHIP_PLUGINS"
"""Unset: all that are installed. Set: exactly these entry point names and distributions, separated
by commas; set to nothing: none."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The plugins that may load.

    Args:
        names: Entry point names and distributions, in their normal form; None for all.
    """

    names: frozenset[str] | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Read the variable."""
        text = os.environ.get(VARIABLE)
        if text is None:
            return cls()
        return cls(frozenset(_normal(name) for name in text.split(",") if name.strip()))

    def allows(self, name: str, distribution: str) -> bool:
        """Whether the plugin of an entry point may load."""
        return self.names is None or not self.names.isdisjoint(_both(name, distribution))

    def without(self, name: str, distribution: str) -> Selection:
        """What is left when a plugin has been found; for those that never are."""
        return Selection(self.names - _both(name, distribution) if self.names else self.names)


def _both(name: str, distribution: str) -> set[str]:
    return {_normal(name), _normal(distribution)}


def _normal(name: str) -> str:
    """As package indexes compare names: case and the kind of dash do not matter."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
