"""The entry points that are installed, each with its distribution. Imports none of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from transship.plugin import requirement, selection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import Distribution, EntryPoint

TRANSPORTS: Final = "transship.transports"
"""Entry point group of transports; the name is the URI scheme."""

COMPRESSIONS: Final = "transship.compressions"
"""Entry point group of compression methods; the name is the method's."""

SECTIONS: Final = "transship.sections"
"""Entry point group of section factories; the name is the idstr where there is one."""

BLOCK_DEVICES: Final = "transship.block_devices"
"""Entry point group of kinds of disks; the name is the URI scheme."""

KERNELS: Final = "transship.kernels"
"""Entry point group of compiled kernels; each names what :func:`transship.memory.kernels.install`
takes."""

GROUPS: Final = (TRANSPORTS, COMPRESSIONS, SECTIONS, BLOCK_DEVICES, KERNELS)


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry point that still knows its distribution.

    Args:
        point: As :mod:`importlib.metadata` found it.
        distribution: Who installed it.
        version: That distribution's version.
        made_for: The releases of the core that the distribution says it works with, such as
            ``~=0.1``; empty if it does not say.
    """

    point: EntryPoint
    distribution: str
    version: str
    made_for: str

    @property
    def group(self) -> str:
        """The group of the entry point."""
        return self.point.group

    @property
    def name(self) -> str:
        """The name of the entry point."""
        return self.point.name

    @property
    def labels(self) -> frozenset[str]:
        """What a list may call it; see :func:`transship.plugin.selection.labels`."""
        return selection.labels(self.group, self.name, self.distribution)


def installed(group: str) -> Sequence[Installed]:
    """The entry points of a group, of every distribution on the path, in order of name."""
    path = tuple((folder, _changed_ns(folder)) for folder in sys.path)
    return [entry for entry in _found_on(path) if entry.group == group]


@lru_cache(maxsize=2)
def _found_on(path: tuple[tuple[str, int], ...]) -> Sequence[Installed]:
    """Read the metadata of all distributions: some milliseconds, once for each state of a path."""
    from importlib.metadata import entry_points

    every = entry_points()
    found = [
        Installed(point, *_identity(point.dist))
        for group in GROUPS
        for point in every.select(group=group)
    ]
    return sorted(found, key=lambda entry: (entry.name, entry.distribution))


def _changed_ns(folder: str) -> int:
    """When something was last installed in a folder, or removed from it."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def _identity(distribution: Distribution | None) -> tuple[str, str, str]:
    """Name, version, and the releases of the core that it works with."""
    known: dict[str, str] = {}
    made_for = ""
    if distribution is not None:
        metadata = distribution.metadata
        known = {key: metadata[key] for key in ("Name", "Version") if key in metadata}
        made_for = requirement.of_core(metadata.get_all("Requires-Dist") or ())
    return known.get("Name", "an unnamed distribution"), known.get("Version", "?"), made_for
