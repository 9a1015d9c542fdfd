"""What there is to say about an installed plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "failed", "conflict", "disabled", "missing"]
"""How a plugin fared.

* ``ok``: imported, and its hooks are right.
* ``failed``: it cannot be imported, or breaks a rule of the hooks.
* ``conflict``: another distribution has the same name in the group; neither is used.
* ``disabled``: ``TRANSSHIP_PLUGINS`` leaves it out.
* ``missing``: that variable names it, and it is not installed.
"""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """One entry point, and how it fared.

    Args:
        group: Entry point group, such as ``transship.transports``.
        name: Entry point name: a transport's scheme, a method of compression, or a name for a
            factory of sections.
        distribution: Who installed it.
        version: That distribution's version.
        module: What the entry point names.
        status: How it fared.
        reason: Why it cannot be used; empty if it can.
        hooks: Names of the hooks it implements, in order; empty unless it is ok.
    """

    group: str
    name: str
    distribution: str
    version: str
    module: str
    status: Status
    reason: str = ""
    hooks: tuple[str, ...] = ()
