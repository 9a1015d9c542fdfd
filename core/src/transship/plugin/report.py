"""What there is to say about an installed plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from transship.plugin.origin import Origin

Status: TypeAlias = Literal["ok", "failed", "conflict", "disabled", "missing"]
"""How a plugin fared.

* ``ok``: imported, and its hooks are right.
* ``failed``: it cannot be imported, breaks a rule of the hooks, or is made for another release.
* ``conflict``: another distribution has the same name in the group; neither is used.
* ``disabled``: an administrator's file, or a variable, leaves it out; it was not imported.
* ``missing``: a list of those that may load, or may not, names it, and it is not installed.
"""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """One entry point, and how it fared.

    Args:
        group: Entry point group, such as ``transship.transports``.
        name: Entry point name: a transport's or a disk's scheme, a method of compression, or a
            name for a factory of sections.
        distribution: Who installed it.
        version: That distribution's version.
        module: What the entry point names.
        status: How it fared.
        reason: Why it cannot be used; empty if it can.
        hooks: Names of the hooks it implements, in order; empty unless it is ok.
        capabilities: Names of what a transport's channels may be able to do, in order; None if it
            does not say, or is no transport.
        conflicts: The other distributions that claim the name, and that no list leaves out.
        made_for: The releases of the core that it says it works with; empty if it does not say.
        origin: Where it is from.
    """

    group: str
    name: str
    distribution: str
    version: str
    module: str
    status: Status
    reason: str = ""
    hooks: tuple[str, ...] = ()
    capabilities: tuple[str, ...] | None = None
    conflicts: tuple[str, ...] = ()
    made_for: str = ""
    origin: Origin = field(default_factory=Origin)
